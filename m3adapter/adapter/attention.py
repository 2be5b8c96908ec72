"""Layers of the M³-Adapter: multi-head attention over a masked memory, and the feed-forward network."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries [B, N, W] to a memory [B, L, W].

    Args:
        width: Width W of queries and memory.
        num_heads: Number of heads, a divisor of the width.
        operations: Where Linear comes from.
        bias: Whether the projections to queries, keys and values have a bias.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        operations: ModuleType | Any,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        factory_kwargs = {"device": device, "dtype": dtype}
        self.to_q = operations.Linear(width, width, bias=bias, **factory_kwargs)
        self.to_k = operations.Linear(width, width, bias=bias, **factory_kwargs)
        self.to_v = operations.Linear(width, width, bias=bias, **factory_kwargs)
        self.to_out = operations.Linear(width, width, **factory_kwargs)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        values: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            queries: [B, N, W].
            memory: [B, L, W].
            mask: [B, L], True where the memory is valid; by default everywhere.
            values: [B, L, W]; by default the memory itself.
            weight: [B, L], above 0; multiplies the attention to each part of the memory before it is normalised.

        Returns:
            [B, N, W]; zeros in rows without any memory.
        """
        q, k, v = (
            linear(value).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear, value in (
                (self.to_q, queries),
                (self.to_k, memory),
                (self.to_v, memory if values is None else values),
            )
        )
        if mask is None:
            return self._merged(functional.scaled_dot_product_attention(q, k, v))
        valid = mask.any(1)
        # In a row without memory the softmax would be over nothing: let it attend anywhere, and zero it afterwards.
        bias = (mask | ~valid[:, None])[:, None, None, :]
        if weight is not None:
            bias = torch.where(bias, weight.log()[:, None, None, :], -torch.inf).to(q.dtype)
        out = self._merged(functional.scaled_dot_product_attention(q, k, v, attn_mask=bias))
        return torch.where(valid[:, None, None], out, torch.zeros_like(out))

    def _merged(self, heads: Tensor) -> Tensor:
        return self.to_out(heads.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them: [..., width] -> [..., out].

    Args:
        width: Width of the input.
        out: Width of the output.
        operations: Where Linear comes from.
        inner: Width in between.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        width: int,
        out: int,
        operations: ModuleType | Any,
        *,
        inner: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.up = operations.Linear(width, inner, device=device, dtype=dtype)
        self.down = operations.Linear(inner, out, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out]."""
        return self.down(functional.gelu(self.up(x)))


class Block(nn.Module):
    """A pre-norm block: cross-attention to the context, self-attention of the queries, feed-forward.

    Args:
        width: Width W of queries and context.
        num_heads: Number of heads.
        operations: Where Linear and LayerNorm come from.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        operations: ModuleType | Any,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm_cross = operations.LayerNorm(width, **factory_kwargs)
        self.cross = Attention(width, num_heads, operations, **factory_kwargs)
        self.norm_self = operations.LayerNorm(width, **factory_kwargs)
        self.self_attention = Attention(width, num_heads, operations, **factory_kwargs)
        self.norm_mlp = operations.LayerNorm(width, **factory_kwargs)
        self.mlp = FeedForward(width, width, operations, inner=4 * width, **factory_kwargs)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return queries [B, N, W] after one block over the context [B, L, W]; mask and weight as in `Attention`."""
        queries = queries + self.cross(self.norm_cross(queries), context, mask, weight=weight)
        normed = self.norm_self(queries)
        queries = queries + self.self_attention(normed, normed)
        return queries + self.mlp(self.norm_mlp(queries))
