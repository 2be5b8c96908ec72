"""Loads language models that do not come with the pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import comfy.model_management
import torch
from comfy_api.latest import io

from ..m3adapter.language import gguf_files
from ..m3adapter.language import model_folders as language_files
from ..m3adapter.language.model_folders import ADAPTER, CONFIG, PIPELINE
from . import folders, inputs, wires
from .errors import complaint, names_node, with_packages
from .loading import AUTO, TYPES
from .memory import expect, language_handle, make_room, offload_device

if TYPE_CHECKING:
    from ..m3adapter.language.quantization import Quantization

QUANTIZATIONS: dict[str, Quantization | None] = {"none": None, "8-bit": "8bit", "4-bit": "4bit"}


def is_language_model(path: Path) -> bool:
    """Return whether it is a model: a folder in the layout of transformers or diffusers, or a GGUF file."""
    if path.is_file():
        return path.suffix.lower() == ".gguf"
    return any((path / name).is_file() for name in (CONFIG, ADAPTER, PIPELINE))


def unsuited(path: Path) -> str | None:
    """Return what a model is, as a noun, if it cannot generate text; None for all others."""
    return gguf_files.unsuited(path) if path.is_file() else language_files.unsuited(path)


def _hidden(path: Path) -> bool:
    return unsuited(path) is not None or gguf_files.is_later_part(path)


def _check(name: str) -> None:
    if noun := unsuited(MODELS.find(name)):
        raise ValueError(f"{name} is {noun}: choose a language model.")


MODELS = folders.Shelf(dict.fromkeys(("m2chat", "LLM", "text_encoders"), is_language_model), _hidden)


class LoadLanguageModel(io.ComfyNode):
    """Loads any language model or vision-language model from the disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadLanguageModel",
            display_name="Load Language Model",
            category="M2Chat/loaders",
            description="Loads a language model or vision-language model from your model folders, or a GGUF file.",
            search_aliases=["LLM loader", "VLM", "gguf", "qwen", "llama", "gemma", "llava", "smolvlm"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=MODELS.choices(),
                    tooltip="A folder with config.json, or a .gguf file, in models/m2chat, LLM or text_encoders.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AUTO, *TYPES],
                    tooltip="The data type of the weights. auto keeps the stored type, or fp32 without a GPU.",
                ),
                io.Combo.Input(
                    "quantization",
                    options=list(QUANTIZATIONS),
                    optional=True,
                    default="none",
                    advanced=True,
                    tooltip="Smaller weights, on the device and off it. Needs bitsandbytes; for 8-bit, torchao "
                    "works too.",
                ),
                inputs.own_pictures(),
            ],
            outputs=[
                wires.LanguageModel.Output(
                    display_name="language_model",
                    tooltip="Writes the replies, and sees pictures if it is a vision-language model.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Refuse files outside the model folders, and models that cannot generate text, before anything runs."""
        return complaint(_check, model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_other: Any) -> str:
        """Return a text that changes when the model's files do, those in the folder of a GGUF file's name too."""
        path = MODELS.find(model) if model else None
        parts = [path, path.with_suffix("")] if path is not None and path.is_file() else [path]
        return " ".join(folders.fingerprint(part) for part in parts if part is not None and part.exists())

    @classmethod
    @names_node
    def execute(cls, model: str, dtype: str, quantization: str = "none", own_pictures: bool = False) -> io.NodeOutput:
        """Load the model into main memory, or onto the device if it cannot be moved."""
        path = MODELS.find(model)
        bits, compute = QUANTIZATIONS[quantization], comfy.model_management.get_torch_device()
        chosen: torch.dtype | Literal["auto"] = TYPES.get(dtype) or (torch.float32 if compute.type == "cpu" else AUTO)
        with with_packages(f"install it for ComfyUI to open {model}"):
            from ..m3adapter.language.auto import load_language_model
            from ..m3adapter.language.sizes import weight_bytes

            device, size = compute if bits else offload_device(), weight_bytes(path, chosen, bits)
            if bits:  # they do not wait for their turn in main memory
                make_room(size, device)
            expect(model, size, device, compute)
            language_model = load_language_model(path, dtype=chosen, quantization=bits, device=device)
        inputs.check_own_pictures(language_model, own_pictures)
        language_model.sees_own = own_pictures
        return io.NodeOutput(language_handle(language_model))


NODES = [LoadLanguageModel]
