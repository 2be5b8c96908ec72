"""Files of IP-Adapters: recognised by the names and shapes in them, and written with the names of the release."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..weights.counting import MAX_SIZE
from ..weights.layouts import Shapes, recognise, shapes
from .config import IPAdapterConfig

CURE = "choose an IP-Adapter for SDXL, of the kinds base, plus or plus-face"
IMAGE_PROJ = "image_proj."
# From diffusers' names in a layer of the resampler to the release's, which keeps keys and values in one matrix.
_RESAMPLER = {
    "ln0": "0.norm1",
    "ln1": "0.norm2",
    "attn.to_q": "0.to_q",
    "attn.to_out.0": "0.to_out",
    "ff.0": "1.0",
    "ff.1.net.0.proj": "1.1",
    "ff.1.net.2": "1.3",
}


def check_file(path: Path) -> None:
    """Raise ValueError or OSError unless a file is a known IP-Adapter; a pickle is only checked when it is loaded."""
    if path.suffix.lower() == ".safetensors":
        read_config(path.name, shapes(path))


def read_config(name: str, found: Shapes) -> IPAdapterConfig:
    """Return the configuration that follows from the shapes of a file's weights.

    Args:
        name: Name of the file, for error messages.
        found: The shape of each weight, by its name in the file.

    Raises:
        ValueError: It is another kind of model, FaceID, for another decoder, or incomplete.
    """
    projection = {key.removeprefix(IMAGE_PROJ): shape for key, shape in found.items() if key.startswith("image_p")}
    if not any(key.endswith("to_k_ip.weight") for key in found) or not projection:
        raise ValueError(f"{name} is {_other_model(found)}: {CURE}.")
    if "proj.0.weight" in projection or any("lora" in key for key in found):
        full = "proj.3.weight" in projection
        noun = "an IP-Adapter of the kind full-face" if full else "a FaceID IP-Adapter, which needs a face recogniser"
        raise ValueError(f"{name} is {noun}: {CURE}.")
    keys = {
        int(match[1]): shape
        for key, shape in found.items()
        if (match := re.fullmatch(r"ip_adapter\.([0-9]{1,4})\.to_k_ip\.weight", key))
    }
    used = [shape for key, shape in found.items() if key.endswith(("to_k_ip.weight", "to_v_ip.weight"))]
    used += [projection[key] for key in ("proj.weight", "proj_in.weight", "proj_out.weight") if key in projection]
    if not keys or any(len(shape) != 2 or not all(0 < size <= MAX_SIZE for size in shape) for shape in used):
        raise ValueError(f"{name} is incomplete: its weights are of impossible sizes, so get it again.")
    embed_width = next(iter(keys.values()))[1]
    if len(keys) == 16 and embed_width in (768, 1024):
        raise ValueError(f"{name} is an IP-Adapter for Stable Diffusion {1.5 if embed_width == 768 else 2}: {CURE}.")
    layers = _layer_widths(name, found, keys)
    if "proj.weight" in projection:
        out, image_width = projection["proj.weight"]
        return IPAdapterConfig("base", image_width, out // embed_width, embed_width, layers)
    if "latents" in projection and "proj_in.weight" in projection:
        # The projection is built from these sizes, so the weights in the file must have them.
        hidden, image_width = projection["proj_in.weight"]
        if (projection.get("layers.0.1.1.weight"), projection["latents"][2:]) != ((4 * hidden, hidden), (hidden,)):
            raise ValueError(f"{name} is incomplete: its image projection does not fit together, so get it again.")
        return IPAdapterConfig("plus", image_width, projection["latents"][1], embed_width, layers)
    raise ValueError(f"{name} is an IP-Adapter of an unsupported kind: {CURE}.")


def _layer_widths(name: str, found: Shapes, keys: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """Return the widths of the layers. Raise ValueError if one of them is missing."""
    numbers = range(1, 2 * len(keys), 2)
    for key in (f"ip_adapter.{number}.to_{which}_ip.weight" for number in numbers for which in "kv"):
        if key not in found:
            raise ValueError(f"{name} is incomplete: it lacks {key}, so get it again.")
    return tuple(keys[number][0] for number in numbers)


def _other_model(found: Shapes) -> str:
    noun = recognise(found)
    return "half of an IP-Adapter" if noun == "an IP-Adapter" else noun


def layer_name(layer: int, which: str) -> str:
    """Return the release's name of a layer's matrix of keys ("k") or values ("v"); layers are counted from 0."""
    return f"ip_adapter.{2 * layer + 1}.to_{which}_ip.weight"


def published_projection(kind: str, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Iterate over an image projection's weights, given by diffusers' names, under the names of the release."""
    for name, value in state.items():
        if kind == "base":
            yield f"{IMAGE_PROJ}{name.replace('image_embeds', 'proj')}", value
            continue
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            yield f"{IMAGE_PROJ}{name}", value
            continue
        layer, part, which = match.groups()
        prefix = f"{IMAGE_PROJ}layers.{layer}"
        if part == "attn.to_k":
            values = state[f"layers.{layer}.attn.to_v.{which}"]
            yield f"{prefix}.0.to_kv.{which}", torch.cat([value, values])
        elif part != "attn.to_v":
            yield f"{prefix}.{_RESAMPLER[part]}.{which}", value
