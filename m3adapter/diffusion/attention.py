"""Lets a UNet of diffusers use a different attention function from torch's, such as one that needs a package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class ChosenAttention:
    """An attention processor that works like diffusers' own, except for the attention function.

    Args:
        attend: Called as `attend(query, key, value, heads)` with [B, N, heads * D], [B, M, heads * D] twice, and the
            number of heads; returns [B, N, heads * D].
    """

    def __init__(self, attend: Attend) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0

        self._attend = attend
        self._own: Callable[..., Tensor] = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend from `hidden_states` [B, N, W] to `encoder_hidden_states` [B, M, C] or to themselves."""
        more = (getattr(attn, name, None) for name in ("spatial_norm", "group_norm", "norm_cross", "norm_q", "norm_k"))
        if attention_mask is not None or any(layer is not None for layer in more):  # not in SDXL's UNets
            return self._own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        found = self._attend(attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context), attn.heads)
        found = attn.to_out[1](attn.to_out[0](found.to(hidden_states.dtype)))
        if attn.residual_connection:
            found = found + hidden_states
        return found / attn.rescale_output_factor
