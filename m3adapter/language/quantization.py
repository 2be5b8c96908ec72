"""Quantised weights: which methods transformers can open, how it unpacks them, and how it makes them itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from ..values import shown

Quantization = Literal["8bit", "4bit"]

# Methods whose weights run only with kernels that transformers would fetch from the internet.
_FETCHING = ("eetq", "nvfp4")
# Methods whose weights can be unpacked to a plain dtype when they are loaded.
_UNPACKABLE = ("gguf", "mxfp4", "fp8", "mxfp8", "metal")
# The packages that open weights of a method, where transformers' own message does not name them.
_PACKAGES = {"awq": "gptqmodel", "gptq": "gptqmodel", "exl2": "exllamav2", "exl3": "exllamav3"}


def check_quantization(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the method by which a folder's weights are quantised, as config.json names it; None if they are not.

    Raises:
        ValueError: Transformers does not read weights of the method; the message is one sentence.
    """
    stored = config.get("quantization_config")
    if stored is None and isinstance(config.get("text_config"), Mapping):
        stored = config["text_config"].get("quantization_config")
    if stored is None and isinstance(config.get("quantization"), Mapping):
        stored = {"quant_method": "mlx"}
    if stored is None:
        return None
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    method = stored.get("quant_method") if isinstance(stored, Mapping) else None
    if isinstance(stored, Mapping) and (stored.get("load_in_4bit") or stored.get("load_in_8bit")):
        return "bitsandbytes"
    if method == "bitsandbytes":
        return method
    if not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        named = f"by {method}" if isinstance(method, str) else "in a way that config.json does not name"
        raise ValueError(
            f"{folder.name} is quantised {named}, which transformers does not read: "
            "choose the model unquantised, or as GGUF."
        )
    if method in _FETCHING:
        raise ValueError(
            f"{folder.name} is quantised by {method}, which needs code from the internet, and nothing is "
            "downloaded: choose the model unquantised, or as GGUF."
        )
    return method


def package_for(method: str) -> str:
    """Return the Python package that transformers needs for weights of a quantization method."""
    return _PACKAGES.get(method, method)


def unpacked(method: str) -> Any:
    """Return transformers' configuration that unpacks quantised weights on loading, so that they need no kernel.

    None is returned for methods whose weights stay quantised.
    """
    from inspect import signature

    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    config_class: Any = AUTO_QUANTIZATION_CONFIG_MAPPING.get(method, object)
    unpacks = method in _UNPACKABLE and "dequantize" in signature(config_class.__init__).parameters
    return config_class(dequantize=True) if unpacks else None


def quantization_config(quantization: Quantization, dtype: torch.dtype | None = None) -> Any:
    """Return transformers' configuration that quantises weights to 8 or 4 bits, with whichever package is installed.

    Args:
        quantization: The number of bits.
        dtype: The dtype to compute in with 4 bits; None is bfloat16.

    Raises:
        ValueError: No package for it is installed, or `quantization` is something else.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig
    from transformers.utils import is_bitsandbytes_available, is_torchao_available

    if quantization not in ("8bit", "4bit"):
        raise ValueError(f"quantization is {shown(quantization)}: give 8bit, 4bit or nothing.")
    if is_bitsandbytes_available():
        if quantization == "8bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype or torch.bfloat16
        )
    if quantization == "4bit":  # with 4 bits, torchao needs more packages, which differ between devices
        raise ValueError(
            "Weights of 4 bits need the Python package bitsandbytes: install it for ComfyUI, or choose 8 bits or none."
        )
    if is_torchao_available():
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    raise ValueError(
        "Weights of 8 bits need the Python package bitsandbytes or torchao: install one of them for ComfyUI, "
        "or choose no quantization."
    )


def can_move(model: torch.nn.Module) -> bool:
    """Return whether `move` moves a quantised model; others keep tensors that only their package knows of."""
    stored = getattr(getattr(model, "config", None), "quantization_config", None)
    return getattr(stored, "quant_method", None) == "bitsandbytes"


def move(model: torch.nn.Module, device: torch.device | str) -> None:
    """Move a model whose weights are quantised by bitsandbytes, with all that its layers keep beside them."""
    layer: Any  # of bitsandbytes, whose layers have no types
    for layer in model.modules():
        if getattr(layer, "state", None) is not None and getattr(layer.weight, "CB", None) is not None:
            layer.init_8bit_state()  # what else happens in the layer's first call
        if not any(True for _ in layer.children()):
            layer.to(device)  # not the model's own: it would leave the layers' scales behind
        if getattr(layer, "state", None) is not None and layer.state.CB is not None:
            layer.weight.data = layer.state.CB  # they are one
    torch.nn.Module.to(model, device)
