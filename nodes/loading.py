"""Loads the starter."""

from __future__ import annotations

from typing import Final

import comfy.ops
import torch
from comfy_api.latest import io

from ..m3adapter.weights.starter import STARTER, check_weights
from . import wires
from .errors import names_node, with_packages
from .folders import fingerprint
from .memory import decoder_handle, handle, language_handle, m3_painter, offload_device

AUTO: Final = "auto"
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # of weights that users load


class LoadStarter(io.ComfyNode):
    """Loads the small M²Chat that comes with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadStarter",
            display_name="Load M2Chat Starter",
            category="M2Chat/loaders",
            description="Loads the small M2Chat that comes with the pack. There is nothing to download, "
            "and it runs anywhere.",
            search_aliases=["m2chat loader", "story model", "multimodal llm", "m3-adapter"],
            inputs=[],
            outputs=[
                wires.LanguageModel.Output(display_name="language_model", tooltip="Writes the replies."),
                wires.VisionEncoder.Output(display_name="vision_encoder", tooltip="Encodes pictures."),
                wires.Adapter.Output(
                    display_name="adapter", tooltip="The M3-Adapter, which fuses meaning and look into a condition."
                ),
                wires.Decoder.Output(display_name="decoder", tooltip="Paints a condition."),
                wires.Painter.Output(
                    display_name="painter",
                    tooltip="Vision encoder, adapter and decoder in one, for Tell Story and Take Turn.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls) -> str:
        """Return a text that changes when the starter's files do, for example after an update of the pack."""
        return fingerprint(STARTER)

    @classmethod
    @names_node
    def execute(cls) -> io.NodeOutput:
        """Load the parts into main memory; ComfyUI moves them to the device when they are used."""
        check_weights(STARTER)
        with with_packages():
            from ..m3adapter.adapter.auto import load_adapter
            from ..m3adapter.adapter.vision_encoder import VisionEncoder
            from ..m3adapter.diffusion.decoder import DiffusionDecoder
            from ..m3adapter.language.auto import load_language_model

            device = offload_device()
            language_model = load_language_model(STARTER / "language_model", device=device)
            vision_encoder = VisionEncoder.from_pretrained(STARTER / "vision_encoder", device=device)
            decoder = DiffusionDecoder.from_pretrained(STARTER / "decoder", device=device)
        adapter = load_adapter(STARTER / "adapter.safetensors", operations=comfy.ops.manual_cast, device=device)
        parts = (
            handle(vision_encoder, model=vision_encoder.model),
            handle(adapter, streams=True, model=adapter),
            decoder_handle(decoder),
        )
        return io.NodeOutput(language_handle(language_model), *parts, m3_painter(*parts))


NODES = [LoadStarter]
