"""ComfyUI's own CLIP vision models as vision encoders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.clip_vision
import torch
from comfy_api.latest import io
from torch import Tensor

from . import wires
from .errors import names_node
from .memory import Handle


class StockVisionModel(torch.nn.Module):
    """A stock vision model with those parts of CLIPVisionModel's interface that VisionEncoder uses.

    The stock output has two depths; the model inside can return all of them.

    Raises:
        ValueError: The model does not cut square pictures into patches as CLIP and SigLIP do.
    """

    dtype = torch.float32  # of the input; its layers cast their weights to it

    def __init__(self, stock: comfy.clip_vision.ClipVisionModel) -> None:
        super().__init__()
        inner: Any = getattr(stock.model, "vision_model", None)
        weight = inner.embeddings.patch_embedding.weight if inner is not None else None
        if weight is None or weight.dim() != 4:
            raise ValueError(
                f"A vision model of the kind {stock.model_type} does not work here: load a CLIP or SigLIP model."
            )
        self.model = inner
        self.device = stock.load_device
        self.config = SimpleNamespace(
            image_size=stock.image_size,
            patch_size=weight.shape[-1],
            hidden_size=weight.shape[0],
            num_hidden_layers=len(inner.encoder.layers),
        )

    def forward(self, pixel_values: Tensor, output_hidden_states: bool) -> SimpleNamespace:
        """Return the output [B, L, D] of every layer, from 1; 0 would be the embedding, which stays hidden."""
        layers = self.model(pixel_values, intermediate_output="all")[1]
        return SimpleNamespace(hidden_states=(None, *layers.unbind(1)))


class VisionFromClipVision(io.ComfyNode):
    """Uses a CLIP_VISION as the vision encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_VisionFromClipVision",
            display_name="Vision Encoder from CLIP Vision",
            category="M2Chat/stock",
            description="Uses a stock CLIP vision model as M2Chat's vision encoder, with features from three depths.",
            search_aliases=["clip vision", "siglip", "image encoder", "vision encoder"],
            inputs=[io.ClipVision.Input("clip_vision", tooltip="From Load CLIP Vision: a CLIP or SigLIP model.")],
            outputs=[
                wires.VisionEncoder.Output(
                    display_name="vision_encoder", tooltip="Encodes pictures, for an adapter made for this encoder."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, clip_vision: comfy.clip_vision.ClipVisionModel) -> io.NodeOutput:
        """Wrap it; its own patcher keeps managing the weights."""
        from ..m3adapter.adapter.vision_encoder import VisionEncoder, default_levels

        model = StockVisionModel(clip_vision)
        levels = default_levels(model.config.num_hidden_layers)
        # The stock model has what VisionEncoder uses of a CLIPVisionModel.
        mean, std = clip_vision.image_mean, clip_vision.image_std
        encoder = VisionEncoder(model, levels, mean, std)  # type: ignore[arg-type]
        return io.NodeOutput(Handle(encoder, clip_vision.patcher, streams=True))


NODES = [VisionFromClipVision]
