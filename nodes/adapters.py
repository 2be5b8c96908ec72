"""Adapters for any language model and decoder: loaded or new; and the text encoders that anchor one."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.ops
from comfy_api.latest import io

from ..m3adapter.adapter.auto import open_adapter
from ..m3adapter.adapter.new_adapter import BLOCKS, WIDTH, new_adapter
from ..m3adapter.diffusion.prompt_syntax import unescaped
from ..m3adapter.stages import styled
from ..m3adapter.values import SEED_LIMIT
from . import folders, inputs, wires
from .errors import complaint, names_node
from .memory import Handle, handle, load_text_encoders, offload_device

SUFFIXES = (".safetensors", ".pkl", ".pth")


def _is_adapter(path: Path) -> bool:
    """Return whether a file may be an adapter; the weights of a whole model have a folder of their own."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not (path.parent / "config.json").is_file()


ADAPTERS = folders.Shelf({"m2chat": _is_adapter})


class LoadAdapter(io.ComfyNode):
    """Loads an adapter from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadAdapter",
            display_name="Load M3-Adapter",
            category="M2Chat/loaders",
            description="Loads an M3-Adapter from models/m2chat, made for any language model and decoder.",
            search_aliases=["m3-adapter", "adapter loader", "checkpoint"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=ADAPTERS.choices(),
                    tooltip="A .safetensors file in models/m2chat, or a .pkl or .pth of the official release.",
                ),
            ],
            outputs=[
                wires.Adapter.Output(display_name="adapter", tooltip="The M3-Adapter."),
                io.String.Output(display_name="report", tooltip="What the file contains."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Refuse files outside the model folders before anything runs."""
        return complaint(ADAPTERS.find, file)

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> str:
        """Return a text that changes when the file does."""
        return ADAPTERS.fingerprint(file)

    @classmethod
    @names_node
    def execute(cls, file: str) -> io.NodeOutput:
        """Load it into main memory."""
        path = ADAPTERS.find(file)
        adapter, report = open_adapter(path, operations=comfy.ops.manual_cast, device=offload_device())
        return io.NodeOutput(handle(adapter, streams=True, model=adapter), report)


class NewAdapter(io.ComfyNode):
    """Makes an untrained adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_NewAdapter",
            display_name="New M3-Adapter",
            category="M2Chat/loaders",
            description="Makes a new M3-Adapter for any language model and decoder. Until it is trained, "
            "it paints the plain captions.",
            search_aliases=["m3-adapter", "untrained adapter", "anchor", "create adapter"],
            inputs=[
                inputs.language_model(),
                inputs.decoder(),
                inputs.vision_encoder(
                    optional=True, tooltip="The vision encoder to make the adapter for; by default, CLIP ViT-L/14."
                ),
                io.Int.Input(
                    "width",
                    default=WIDTH,
                    min=64,
                    max=4096,
                    step=64,
                    advanced=True,
                    tooltip="Inner width, a multiple of 64. A wider one can learn more and takes more memory.",
                ),
                io.Int.Input(
                    "blocks",
                    default=BLOCKS,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="The number of blocks.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=SEED_LIMIT - 1,
                    tooltip="The seed of the random weights. It makes no difference until the adapter is trained.",
                ),
            ],
            outputs=[wires.Adapter.Output(display_name="adapter", tooltip="The untrained M3-Adapter.")],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        decoder: Handle,
        width: int,
        blocks: int,
        seed: int,
        vision_encoder: Handle | None = None,
    ) -> io.NodeOutput:
        """Draw its random weights."""
        adapter = new_adapter(
            language_model.part,
            decoder.part,
            vision_encoder.part if vision_encoder else None,
            width=width,
            num_blocks=blocks,
            seed=seed,
            operations=comfy.ops.manual_cast,
            device=offload_device(),
        )
        return io.NodeOutput(handle(adapter, streams=True, model=adapter))


class EncodeText(io.ComfyNode):
    """Encodes a text with the decoder's text encoders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_EncodeText",
            display_name="Encode Text",
            category="M2Chat/picture",
            description="Encodes a text with the decoder's own text encoders: the anchor of an anchored M3-Adapter.",
            search_aliases=["clip text encode", "prompt", "anchor", "caption"],
            inputs=[
                inputs.decoder(),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What to paint: the caption of Encode Slot, or any prompt.",
                ),
                io.String.Input(
                    "style",
                    default="",
                    optional=True,
                    tooltip="How the picture should look, added to the text after a comma.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    optional=True,
                    tooltip="What guidance should steer away from; may be empty.",
                ),
            ],
            outputs=[
                wires.Condition.Output(
                    display_name="condition", tooltip="For the anchor of Fuse M3-Adapter, or for Paint Picture."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, decoder: Handle, text: str, style: str = "", negative: str = "") -> io.NodeOutput:
        """Encode it."""
        load_text_encoders(decoder)
        condition = decoder.part.encode_text([unescaped(styled(text, style))], unescaped(negative))
        return io.NodeOutput(condition.to(comfy.model_management.intermediate_device()))


NODES = [LoadAdapter, NewAdapter, EncodeText]
