"""Single files whose weights are float8 with scales: `scaled_fp8`, and what newer versions of ComfyUI write.

A weight is then its float8 value times a scale that stands beside it, as `layer.scale_weight` or `layer.weight_scale`.
What a layer's `comfy_quant`, or `_quantization_metadata` in the file's header, says of its kind is JSON. Other kinds
are refused, since their weights are packed or rotated.
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
_NOTES = (*SCALES, ".scale_input", ".input_scale", ".comfy_quant")
_FLOATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
_PLAIN = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_UNKNOWN = (".weight_scale_2", ".pre_quant_scale", ".absmax", ".qweight")
_CURE = "choose its fp16, bf16 or fp8 version"


def check_quantised(path: Path) -> bool:
    """Whether weights of a single file have scales. No weights are read, only what layers say of themselves.

    Raises ValueError, one sentence, for kinds of quantisation that are not known here.
    """
    from safetensors import safe_open

    found = header(path)
    with safe_open(path, framework="pt") as file:
        kinds = _kinds(path, file)
    if strange := [kind for kind in kinds.values() if kind not in _FLOATS]:
        raise ValueError(f"{path.name} is quantised as {shown(strange[0])}, which is not known here: {_CURE}.")
    for name, (shape, kind) in found.items():
        layer, _, last = name.rpartition(".")
        packed = last == "weight" and kind not in _PLAIN and not (kind == "U8" and layer in kinds)
        if packed or name.endswith(_UNKNOWN):
            raise ValueError(f"{path.name} is quantised in a way that is not known here ({name[-60:]}): {_CURE}.")
        if name.endswith(SCALES):
            weight = found.get(f"{layer}.weight")
            if weight is None or torch.Size(shape).numel() not in (1, weight[0][0]):
                raise ValueError(f"{path.name} has a scale that fits no weight ({name[-60:]}): {_CURE}.")
            if name.startswith(TEXT):
                raise ValueError(f"{path.name} has text encoders quantised with scales: {_CURE}.")
    return bool(kinds) or any(name.endswith(SCALES) for name in found)


def dequantised(path: Path, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of a single file whose names begin with `prefix`, by name, scaled and in `dtype`."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        kinds = _kinds(path, file)
        names = {name for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
        weights: dict[str, Tensor] = {}
        for name in names:
            if name.endswith(_NOTES) or name.endswith("scaled_fp8"):
                continue
            value, layer = file.get_tensor(name), name.removesuffix(".weight")
            if layer != name:
                if value.dtype == torch.uint8 and layer in kinds:
                    value = value.view(_FLOATS[kinds[layer]])
                for scale in (file.get_tensor(layer + end) for end in SCALES if layer + end in names):
                    value = value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))
            weights[name] = value.to(dtype) if value.is_floating_point() else value
        return weights


def _kinds(path: Path, file: Any) -> dict[str, Any]:
    """What is said of each layer's kind, in the header or beside its weight; by the layer's name."""
    says: dict[str, Any] = {}
    if (told := (file.metadata() or {}).get("_quantization_metadata")) is not None:
        layers = _json(path, told).get("layers")
        says |= layers if isinstance(layers, dict) else {}
    for name in file.keys():  # noqa: SIM118
        if name.endswith(".comfy_quant"):
            says[name.removesuffix(".comfy_quant")] = _json(path, bytes(file.get_tensor(name).tolist()))
    return {layer: told.get("format") if isinstance(told, dict) else None for layer, told in says.items()}


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"What {path.name} says of its quantisation is damaged: get the file again.") from error
    if not isinstance(read, dict):
        raise ValueError(f"What {path.name} says of its quantisation is damaged: get the file again.")
    return read
