"""Reads single files whose weights are float8 with scales: `scaled_fp8`, and what newer versions of ComfyUI write.

A weight is then its float8 value times a scale stored beside it, as `layer.scale_weight` or `layer.weight_scale`. The
format of a layer is given as JSON, in its `comfy_quant` tensor or in `_quantization_metadata` in the file's header.
Other formats are refused, because their weights are packed or rotated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..values import shown
from ..weights.layouts import TEXT, header

SCALES = (".scale_weight", ".weight_scale")
NOTES = (*SCALES, ".scale_input", ".input_scale", ".comfy_quant")
_FLOATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
_PLAIN = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_UNKNOWN = (".weight_scale_2", ".pre_quant_scale", ".absmax", ".qweight")
_CURE = "choose its fp16, bf16 or fp8 version"


def check_quantised(path: Path) -> bool:
    """Return whether weights of a single file have scales, without reading any weights.

    Raises:
        ValueError: The weights are quantised in an unknown way.
    """
    from safetensors import safe_open

    entries = header(path)
    with safe_open(path, framework="pt") as file:
        formats = _formats(path, file)
    if unknown := [name for name in formats.values() if name not in _FLOATS]:
        raise ValueError(f"{path.name} is quantised as {shown(unknown[0])}, which is not supported: {_CURE}.")
    for name, (shape, stored) in entries.items():
        layer, _, last = name.rpartition(".")
        packed = last == "weight" and stored not in _PLAIN and not (stored == "U8" and layer in formats)
        if packed or name.endswith(_UNKNOWN):
            raise ValueError(f"{path.name} is quantised in an unsupported way ({name[-60:]}): {_CURE}.")
        if name.endswith(SCALES):
            weight = entries.get(f"{layer}.weight")
            if weight is None or torch.Size(shape).numel() not in (1, weight[0][0]):
                raise ValueError(f"{path.name} has a scale that fits no weight ({name[-60:]}): {_CURE}.")
            if name.startswith(TEXT):
                raise ValueError(f"{path.name} has text encoders quantised with scales: {_CURE}.")
    return bool(formats) or any(name.endswith(SCALES) for name in entries)


def dequantised(path: Path, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Read the weights of a single file whose names begin with `prefix`, scaled and converted to `dtype`."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        formats = _formats(path, file)
        names = {name for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
        weights: dict[str, Tensor] = {}
        for name in names:
            if name.endswith(NOTES) or name.endswith("scaled_fp8"):
                continue
            value, layer = file.get_tensor(name), name.removesuffix(".weight")
            if layer != name:
                if value.dtype == torch.uint8 and layer in formats:
                    value = value.view(_FLOATS[formats[layer]])
                for scale in (file.get_tensor(layer + end) for end in SCALES if layer + end in names):
                    value = value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))
            weights[name] = value.to(dtype) if value.is_floating_point() else value
        return weights


def scales(path: Path, prefix: str) -> dict[str, Tensor]:
    """Return the scales of a single file's weights whose names begin with `prefix`, by the names of those weights."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {
            f"{name.rpartition('.')[0]}.weight": file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if name.startswith(prefix) and name.endswith(SCALES)
        }


def _formats(path: Path, file: Any) -> dict[str, Any]:
    """Return the format of each quantised layer, as the header or a tensor beside its weight gives it."""
    notes: dict[str, Any] = {}
    if (metadata := (file.metadata() or {}).get("_quantization_metadata")) is not None:
        layers = _parse_json(path, metadata).get("layers")
        notes |= layers if isinstance(layers, dict) else {}
    for name in file.keys():  # noqa: SIM118
        if name.endswith(".comfy_quant"):
            notes[name.removesuffix(".comfy_quant")] = _parse_json(path, bytes(file.get_tensor(name).tolist()))
    return {layer: note.get("format") if isinstance(note, dict) else None for layer, note in notes.items()}


def _parse_json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The quantisation metadata of {path.name} is damaged: get the file again.") from error
    if not isinstance(value, dict):
        raise ValueError(f"The quantisation metadata of {path.name} is damaged: get the file again.")
    return value
