"""How much memory a recipe needs, by the headers of its files: said before anything is loaded.

The estimate is of the step that needs the most: weights of the models that are on the device together, the trained
parameters with their gradients, averages and the optimizer's moments, and activations through which gradients flow.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..arguments import UserError
from ..language.gguf_files import read_header
from ..language.sizes import weight_bytes
from ..values import is_whole
from ..weights.counting import MAX_IMAGE_SIDE, MAX_NUMBER
from ..weights.model_files import read_json
from .m3ft_models import place_of

if TYPE_CHECKING:
    from .recipe import Recipe

GIB = 2**30
WORD = {"auto": 0, "float32": 4, "bfloat16": 2, "float16": 2}
# Activations of SDXL's UNet at 1024 x 1024 for one picture, through which gradients flow to the condition: an estimate
# from its layers, in bytes of 16-bit numbers; with checkpointing only the inputs of its blocks and one block's own.
UNET_ACTIVATIONS, UNET_CHECKPOINTED = 18 * GIB, 3 * GIB
SDXL_AREA, SDXL_WEIGHTS = 1024**2, 2.57e9
GGUF_SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
}
UNTOLD = (OSError, ValueError, KeyError, RecursionError)  # what reading raises where files do not tell their sizes
CONTEXT_TOKENS = 1024  # of a conversation that the language model is trained on


@dataclass(frozen=True)
class Need:
    """Bytes that a recipe needs on the device at its most, by what they are for."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """One line for people."""
        named = ", ".join(f"{name} {size / GIB:.1f}" for name, size in self.parts.items() if size / GIB >= 0.05)
        return f"Memory needed: about {self.total / GIB:.1f} GiB{f' ({named})' if named else ''}."


def estimate(recipe: Recipe, cpu: bool = False, divided: int = 1) -> Need | None:
    """Return what a recipe needs; None where its files do not tell.

    Args:
        recipe: The recipe.
        cpu: Whether it runs on the CPU, on which models are loaded in float32.
        divided: Among how many processes the language model's weights are divided.
    """
    models = recipe.models
    try:
        language = _language(recipe, cpu) // divided
        decoder = _decoder(place_of(models.decoder, "decoder"), models.decoder_dtype, cpu)
        vision = sum(_tensors(place_of(models.vision, "vision")).values()) * 4
        sizes = _text_config(place_of(models.language, "language"))
    except UNTOLD:
        return None
    adapter = _adapter_parameters(recipe)
    lora = _lora_parameters(recipe.lora.rank, sizes) if recipe.lora.rank and recipe.stage2.steps else 0
    trained = (adapter + lora) * 4 * 5  # weights, gradients, average, and two moments
    stages = [stage for stage in (recipe.stage1, recipe.stage2) if stage.steps]
    shares = max(stage.micro_batch or stage.batch for stage in stages)
    word = 4 if cpu and recipe.run.precision in ("auto", "float32") else 2
    unet = decoder["unet"]
    scale = unet["count"] / SDXL_WEIGHTS * max((recipe.data.resolution or unet["side"]) ** 2 / SDXL_AREA, 1e-6)
    activations = UNET_CHECKPOINTED if recipe.run.checkpointing else UNET_ACTIVATIONS
    painting = int(activations * scale * shares * word / 2)
    reading = 0
    taught = bool(lora) or (recipe.stage2.projection and recipe.stage2.steps > 0)
    if taught or (not models.adapter and recipe.stage1.steps and recipe.stage1.settled):
        reading = _reading(sizes, shares, word, recipe.run.checkpointing)
    if recipe.run.offload:
        together = {"decoder": unet["bytes"] + painting, "language model": language + reading}
        if taught:  # gradients flow through both in every step, and weights that move would be lost to these
            together = {"decoder and language model": unet["bytes"] + painting + language + reading}
        name = max(together, key=lambda part: together[part])
        return Need({name: together[name], "adapter": trained})
    others = decoder["texts"] + decoder["vae"] + vision
    return Need(
        {
            "language model": language, "decoder": unet["bytes"], "other frozen models": others,
            "adapter": trained, "activations": max(painting, reading) if not taught else painting + reading,
        }
    )  # fmt: skip


def check_memory(recipe: Recipe) -> None:
    """Print what a recipe needs.

    Raises:
        UserError: The device has less.
    """
    from .loop import accelerator
    from .sharding import asked_for

    device = accelerator().device
    # Stage 1 needs the whole language model in each process.
    divided = accelerator().num_processes if asked_for() and not recipe.stage1.steps else 1
    need = estimate(recipe, cpu=device.type == "cpu", divided=divided)
    if need is None:
        return
    if accelerator().is_main_process:
        print(need, flush=True)
    room = device_memory(device)
    if room is not None and need.total > room:
        raise UserError(
            f"The recipe needs about {need.total / GIB:.1f} GiB and the device has {room / GIB:.1f}: lower micro_batch "
            "or data.resolution, switch run.checkpointing and run.offload on, or quantise the language model."
        )


def device_memory(device: torch.device) -> int | None:
    """Return how many bytes a device has, None where that is unknown."""
    if device.type == "cpu":
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None
    properties = getattr(torch.get_device_module(device), "get_device_properties", None)  # MPS has none
    return properties(device).total_memory if properties else None


def _language(recipe: Recipe, cpu: bool) -> int:
    given = recipe.models
    kind: Any = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(
        given.language_dtype
    )
    if kind is None:
        kind = torch.float32 if cpu else "auto"
    return weight_bytes(place_of(given.language, "language"), kind, given.quantization or None)  # type: ignore[arg-type]


def _decoder(path: Path, dtype: str, cpu: bool) -> dict[str, Any]:
    """Return counts of weights and bytes of a decoder's parts."""
    if path.is_dir():
        names = {part: path / part for part in ("unet", "vae", "text_encoder", "text_encoder_2")}
        found = {part: _tensors(folder) for part, folder in names.items() if folder.is_dir()}
        config = read_json(path / "unet" / "config.json")
        vae = read_json(path / "vae" / "config.json")
        size, levels = config["sample_size"], vae["block_out_channels"]
        if not is_whole(size, 1, MAX_IMAGE_SIDE) or not isinstance(levels, list):
            raise ValueError(f"{path} does not tell the size of its pictures")
        side = size * 2 ** (len(levels) - 1)
    else:
        found = {"unet": {}, "vae": {}, "text_encoder": {}}
        prefixes = {"model.diffusion_model.": "unet", "first_stage_model.": "vae", "conditioner.": "text_encoder"}
        for name, count in _tensors(path).items():
            part = next((part for prefix, part in prefixes.items() if name.startswith(prefix)), None)
            if part is not None:
                found[part][name] = count
        side = 1024
    word = WORD[dtype] or (4 if cpu else 2)
    counts = {part: sum(tensors.values()) for part, tensors in found.items()}
    texts = counts.get("text_encoder", 0) + counts.get("text_encoder_2", 0)
    unet = {"count": counts["unet"], "bytes": counts["unet"] * word, "side": side}
    return {"unet": unet, "vae": counts["vae"] * word, "texts": texts * word}


def _tensors(path: Path) -> dict[str, int]:
    """Return how many numbers each tensor of safetensors files has, by their headers."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path} has no safetensors files")
    counts: dict[str, int] = {}
    for file in files:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length < 2**27:
                raise ValueError(f"{file} is no safetensors file")
            header = json.loads(opened.read(length))
        if not isinstance(header, dict):
            raise ValueError(f"{file} is no safetensors file")
        for name, entry in header.items():
            if name != "__metadata__":
                shape = entry.get("shape") if isinstance(entry, dict) else None
                if not isinstance(shape, list) or not all(is_whole(side, 0, MAX_NUMBER) for side in shape):
                    raise ValueError(f"{file} is no safetensors file")
                counts[name] = math.prod(shape)
    return counts


def _adapter_parameters(recipe: Recipe) -> int:
    path = recipe.models.adapter
    if path:
        found = place_of(path, "adapter")
        with suppress(*UNTOLD):  # what is wrong with it is said where it is opened
            return sum(_tensors(found if found.is_file() else found / "adapter.safetensors").values())
    width, blocks = recipe.models.width, recipe.models.blocks
    # A block has two attentions and an MLP, 16 widths squared; the low-level path and the heads are like three more.
    return int(width * width * 16 * (blocks + 3) + width * (2 * 4096 + 3 * 1024 + 4 * 2048 + 4 * 1280))


def _lora_parameters(rank: int, config: dict[str, int]) -> int:
    layers, hidden = config.get("num_hidden_layers", 32), config.get("hidden_size", 4096)
    inner = config.get("intermediate_size", 4 * hidden)
    return int(rank * layers * (8 * hidden + 3 * (hidden + inner)))


def _reading(config: dict[str, int], rows: int, word: int, checkpointing: bool) -> int:
    """Return the bytes of a language model's activations for conversations through which gradients flow."""
    layers, hidden = config.get("num_hidden_layers", 32), config.get("hidden_size", 4096)
    inner = config.get("intermediate_size", 4 * hidden)
    layer = rows * CONTEXT_TOKENS * (10 * hidden + 4 * inner) * word
    return layer + layers * rows * CONTEXT_TOKENS * hidden * word if checkpointing else layer * layers


def _text_config(path: Path) -> dict[str, int]:
    """Return the sizes of a language model, as far as its files tell, under the names that transformers has."""
    if not path.is_dir():
        header = read_header(path)
        sizes = {name: header.whole(f"{header.architecture}.{key}") for name, key in GGUF_SIZES.items()}
        return {name: size for name, size in sizes.items() if size}
    config = read_json(path / "config.json")
    inner = config.get("text_config")
    told = {**config, **(inner if isinstance(inner, dict) else {})}
    return {name: told[name] for name in GGUF_SIZES if is_whole(told.get(name), 1, MAX_NUMBER)}
