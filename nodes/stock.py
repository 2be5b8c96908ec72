"""Converts to and from ComfyUI's own types, so that stock samplers, LoRAs, ControlNets and masks work with M2Chat."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.weights.starter import STARTER, check_weights
from . import wires
from .errors import names_node
from .folders import fingerprint

Conditioning = list[list[Any]]


class LoadStarterStock(io.ComfyNode):
    """Loads the starter's decoder and vision encoder as ComfyUI's own types."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadStarterStock",
            display_name="Load M2Chat Starter (Stock)",
            category="M2Chat/loaders",
            description="Loads the starter's decoder as a stock model, for KSampler and everything that works with it.",
            search_aliases=["checkpoint loader", "ksampler", "m2chat stock"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For KSampler. It paints pictures of 128 x 128 pixels."),
                io.Clip.Output(display_name="clip", tooltip="For CLIP Text Encode: a plain prompt, without M2Chat."),
                io.Vae.Output(display_name="vae", tooltip="For VAE Decode and VAE Encode."),
                io.ClipVision.Output(
                    display_name="clip_vision", tooltip="The starter's vision encoder, for IP-Adapters made for it."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls) -> str:
        """Return a text that changes when the files do."""
        return f"{fingerprint(STARTER / 'decoder')} {fingerprint(STARTER / 'vision_encoder')}"

    @classmethod
    @names_node
    def execute(cls) -> io.NodeOutput:
        """Load the parts."""
        from .stock_models import clip, clip_vision, model, vae

        check_weights(STARTER)
        folder = STARTER / "decoder"
        return io.NodeOutput(model(folder), clip(folder), vae(folder), clip_vision(STARTER / "vision_encoder"))


class ToConditioning(io.ComfyNode):
    """Turns M2Chat's condition into stock conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        size = {"default": 1024, "min": 64, "max": 8192, "step": 8}
        return io.Schema(
            node_id="M2Chat_ToConditioning",
            display_name="M2Chat to Conditioning",
            category="M2Chat/stock",
            description="Turns a condition into stock conditioning, without loss, for any sampler with an SDXL model.",
            search_aliases=["conditioning", "ksampler", "positive negative"],
            inputs=[
                wires.Condition.Input("condition", tooltip="From Fuse M3-Adapter."),
                io.Int.Input("width", **size, tooltip="The picture's width in pixels, which is passed to SDXL."),
                io.Int.Input("height", **size, tooltip="The picture's height in pixels, which is passed to SDXL."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="What to paint."),
                io.Conditioning.Output(display_name="negative", tooltip="Its unconditional counterpart, for guidance."),
            ],
        )

    @classmethod
    @names_node
    def execute(cls, condition: Condition, width: int, height: int) -> io.NodeOutput:
        """Convert."""
        return io.NodeOutput(*to_conditioning(condition, width, height))


def to_conditioning(condition: Condition, width: int, height: int) -> tuple[Conditioning, Conditioning]:
    """Return a condition as stock conditioning, positive and negative, for a picture of that size in pixels."""
    sizes = {"width": width, "height": height, "crop_w": 0, "crop_h": 0}
    sizes |= {"target_width": width, "target_height": height}
    positive, negative = (
        [[embeds, {**extra, **sizes}] for embeds, extra in part]
        for part in (condition.positive(), condition.negative())
    )
    return positive, negative


class FromConditioning(io.ComfyNode):
    """Turns stock conditioning into a condition for M2Chat's decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_FromConditioning",
            display_name="Conditioning to M2Chat",
            category="M2Chat/stock",
            description="Turns stock conditioning, for example from CLIP Text Encode, into a condition for "
            "Paint Picture.",
            search_aliases=["conditioning", "clip text encode"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="What to paint, from an SDXL text encoder."),
                io.Conditioning.Input(
                    "negative", tooltip="What guidance steers away from, for example an empty prompt."
                ),
            ],
            outputs=[wires.Condition.Output(display_name="condition", tooltip="For Paint Picture.")],
        )

    @classmethod
    @names_node
    def execute(cls, positive: Conditioning, negative: Conditioning) -> io.NodeOutput:
        """Convert."""
        return io.NodeOutput(Condition.from_conditioning(positive, negative))


NODES = [LoadStarterStock, ToConditioning, FromConditioning]
