"""Applies ComfyUI's choices for its own models, attention and memory layout, to a decoder of another library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.ldm.modules.attention
import comfy.model_management
from comfy.cli_args import args
from torch import Tensor

if TYPE_CHECKING:
    from ..m3adapter.diffusion.decoder import DiffusionDecoder


def follow_engine(decoder: DiffusionDecoder) -> None:
    """Let a decoder's UNet attend, and lay out its weights, as ComfyUI's own models do here."""
    if has_other_attention():
        decoder.use_attention(_attend)
    if comfy.model_management.force_channels_last():
        decoder.use_channels_last()


def has_other_attention() -> bool:
    """Return whether ComfyUI uses a different attention function from torch's, which diffusers uses as well.

    On a CPU it does so by default, but it counts only if an option asks for it: torch's function is no slower there.
    """
    if comfy.model_management.is_device_cpu(comfy.model_management.get_torch_device()):
        return bool(args.use_split_cross_attention or args.use_quad_cross_attention)
    attention = comfy.ldm.modules.attention
    return attention.optimized_attention is not attention.attention_pytorch


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Any:
    return comfy.ldm.modules.attention.optimized_attention(query, key, value, heads)
