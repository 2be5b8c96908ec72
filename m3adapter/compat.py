"""Names that differ between the supported versions of transformers and diffusers."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch


def with_cache(model: torch.nn.Module, cache: Any) -> dict[str, Any]:
    """Return the keyword argument that passes a model its cached keys and values.

    It is `cache` from transformers 5.24 on, which deprecates the old name, `past_key_values`.
    """
    return {"cache" if "cache" in signature(model.forward).parameters else "past_key_values": cache}


def cache_of(output: Any) -> Any:
    """Return the cached keys and values from a model's output (a mapping), whichever name they have there."""
    return output["cache"] if "cache" in output else output["past_key_values"]


def pipeline_dtype(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Return the keyword argument of a diffusers pipeline's `from_pretrained` that sets the type of its weights.

    It is `dtype` from diffusers 0.40 on, which deprecates the old name, `torch_dtype`.
    """
    import diffusers
    from packaging.version import Version

    return {"dtype" if Version(diffusers.__version__) >= Version("0.40") else "torch_dtype": dtype}
