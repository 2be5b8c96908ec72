"""Layers of the M³-Adapter: multi-head attention over a masked memory, and the feed-forward network."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of queries [B, N, W] to a memory [B, L, W] of which `mask` [B, L] says what is real."""

    def __init__(
        self, width: int, heads: int, operations: ModuleType | Any, *, bias: bool = False, **kind: Any
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(width, width, bias=bias, **kind)
        self.to_k = operations.Linear(width, width, bias=bias, **kind)
        self.to_v = operations.Linear(width, width, bias=bias, **kind)
        self.to_out = operations.Linear(width, width, **kind)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        values: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """[B, N, W]; zeros where a row has no memory at all. `values` [B, L, W] are the memory's own by default.

        `weight` [B, L], above 0, multiplies the attention that each part of the memory gets, before it is normalised.
        """
        q, k, v = (
            linear(value).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, value in (
                (self.to_q, queries),
                (self.to_k, memory),
                (self.to_v, memory if values is None else values),
            )
        )
        bias = None
        if mask is not None:
            some = mask.any(1)
            # a row without memory would be a softmax over nothing: let it look anywhere, and zero it afterwards
            bias = (mask | ~some[:, None])[:, None, None, :]
            if weight is not None:
                bias = torch.where(bias, weight.log()[:, None, None, :], -torch.inf).to(q.dtype)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = self.to_out(out.transpose(1, 2).flatten(2))
        return out if mask is None else torch.where(some[:, None, None], out, torch.zeros_like(out))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between: [..., width] -> [..., out]."""

    def __init__(self, width: int, out: int, operations: ModuleType | Any, *, inner: int, **kind: Any) -> None:
        super().__init__()
        self.up = operations.Linear(width, inner, **kind)
        self.down = operations.Linear(inner, out, **kind)

    def forward(self, x: Tensor) -> Tensor:
        """[..., out]."""
        return self.down(functional.gelu(self.up(x)))


class Block(nn.Module):
    """One pre-norm block: cross-attention to the context, self-attention of the queries, feed-forward."""

    def __init__(self, width: int, heads: int, operations: ModuleType | Any, **kind: Any) -> None:
        super().__init__()
        self.norm_cross = operations.LayerNorm(width, **kind)
        self.cross = Attention(width, heads, operations, **kind)
        self.norm_self = operations.LayerNorm(width, **kind)
        self.self_attention = Attention(width, heads, operations, **kind)
        self.norm_mlp = operations.LayerNorm(width, **kind)
        self.mlp = FeedForward(width, width, operations, inner=4 * width, **kind)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Queries [B, N, W] after one block over the context [B, L, W]; mask and weight as in `Attention`."""
        queries = queries + self.cross(self.norm_cross(queries), context, mask, weight=weight)
        normed = self.norm_self(queries)
        queries = queries + self.self_attention(normed, normed)
        return queries + self.mlp(self.norm_mlp(queries))
