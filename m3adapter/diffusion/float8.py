"""Keeps weights that a file stores as float8 in float8: each layer unpacks its own while it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FLOAT8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def keep_float8(model: torch.nn.Module, kind: torch.dtype, scales: Mapping[str, Tensor] | None = None) -> None:
    """Store the weights of linear layers and convolutions as float8 where that is lossless.

    The first layer stays as it is: it tells its library in which type the model computes. What a layer computes is the
    same to the bit.

    Args:
        model: A model whose weights have been read from float8 and converted.
        kind: A float8 type.
        scales: The factors of layers' float8 weights, one number or one for each row, by the layers' names.
    """
    first = next(model.parameters())
    for name, layer in model.named_modules():
        if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) or layer.weight is first:
            continue
        weight = layer.weight.data
        scale = (scales or {}).get(name)
        if scale is not None:
            scale = scale.float().reshape(-1, *[1] * (weight.ndim - 1)).to(weight.device)
        packed = (weight if scale is None else weight.float() / scale).to(kind)
        if weight.itemsize > packed.itemsize and torch.equal(_unpacked(packed, scale, weight.dtype), weight):
            layer.weight.data = packed
            layer.register_buffer("float8_scale", scale, persistent=False)
            layer.register_forward_pre_hook(_unpack)
            layer.register_forward_hook(_put_back, always_call=True)


@contextmanager
def unpacked(*models: Any) -> Iterator[None]:
    """Give models their weights in the type in which they compute inside the `with` block, to save them."""
    packed = [
        (layer, layer.weight.data, model.dtype)
        for model in models
        for layer in model.modules()
        if "float8_scale" in getattr(layer, "_buffers", {})
    ]
    for layer, weight, dtype in packed:
        layer.weight.data = _unpacked(weight, layer.float8_scale, dtype)
    try:
        yield
    finally:
        for layer, weight, _ in packed:
            layer.weight.data = weight


def _unpacked(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype) if scale is None else (weight.float() * scale.to(weight.device)).to(dtype)


def _unpack(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    layer.float8_weight = layer.weight.data
    layer.weight.data = _unpacked(layer.float8_weight.to(inputs[0].device), layer.float8_scale, inputs[0].dtype)


def _put_back(layer: Any, inputs: Any, output: Any) -> None:
    if (weight := layer.__dict__.pop("float8_weight", None)) is not None:
        layer.weight.data = weight
