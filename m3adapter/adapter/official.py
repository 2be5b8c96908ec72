"""The adapter of the official M²Chat release, for its checkpoints alone.

The release's adapter has no gate, no low-level path and no image tokens, and is another network than M3Adapter. The
formulas are read off the published code [C], with C the hidden states of a window of 32 tokens from the caption on:

    Q_0 = LN(W_q q)                              q: learned queries [77, 2048]                  [C]
    K   = LN(W_k C),   V = LN(W_v C)             C: [32, 4096]                                  [C]
    Q_{i+1} = W_i MHA(Q_i, K, V)                 i = 0, 1; no residual, norm or self-attention  [C]
    E   = W_2 ReLU(W_1 Q_2)                      prompt embeddings [77, 2048]                   [C]
    p   = W_p mean(E)                            pooled embedding [1280]                        [C]

Padding is masked here; the release, which paints one picture at a time, has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..diffusion.condition import Condition
from ..gate import GateSetting
from .attention import Attention
from .features import SlotFeatures

WINDOW = 32  # tokens from the caption on
HEAD_WIDTH = 32


@dataclass(frozen=True)
class OfficialConfig:
    """Widths of an adapter of the official release; the defaults are the release's own.

    Attributes:
        llm_width: Hidden size of the language model.
        width: Width of queries and prompt embeddings, a multiple of `heads`.
        pooled_width: Width of the pooled embedding.
        tokens: Number of queries, and of prompt embeddings.
        layers: Number of cross-attention layers.
        heads: Attention heads.
        anchor, references: Never.
    """

    llm_width: int = 4096
    width: int = 2048
    pooled_width: int = 1280
    tokens: int = 77
    layers: int = 2
    heads: int = 64
    anchor: ClassVar[bool] = False
    references: ClassVar[int] = 0


class OfficialAdapter(nn.Module):
    """Slot features in, a condition for the decoder out, as M3Adapter does; the gate has nothing to open.

    Args:
        config: Widths.
        operations, device, dtype: As for M3Adapter.
    """

    def __init__(
        self,
        config: OfficialConfig,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        kind = {"device": device, "dtype": dtype}
        self.image_tokens = nn.Parameter(torch.empty(0, config.llm_width, **kind))
        self.queries = nn.Parameter(torch.randn(config.tokens, width, **kind))
        self.query_in = operations.Linear(width, width, **kind)
        self.query_norm = operations.LayerNorm(width, **kind)
        self.key_in = operations.Linear(config.llm_width, width, **kind)
        self.key_norm = operations.LayerNorm(width, **kind)
        self.value_in = operations.Linear(config.llm_width, width, **kind)
        self.value_norm = operations.LayerNorm(width, **kind)
        self.attentions = nn.ModuleList(
            Attention(width, config.heads, operations, bias=True, **kind) for _ in range(config.layers)
        )
        self.linears = nn.ModuleList(operations.Linear(width, width, **kind) for _ in range(config.layers))
        self.embed_up = operations.Linear(width, width, **kind)
        self.embed_down = operations.Linear(width, width, **kind)
        self.pool_head = operations.Linear(width, config.pooled_width, **kind)

    def describe(self) -> str:
        """One line for people: what the adapter stands between, and how large it is."""
        c = self.config
        million = sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"Adapter of the official release of {million:.1f} million parameters: language model {c.llm_width} wide, "
            f"decoder of {c.tokens} tokens {c.width} wide and {c.pooled_width} pooled, no low-level path."
        )

    def forward(
        self, features: SlotFeatures, gate: GateSetting | None = None, anchor: Condition | None = None
    ) -> Condition:
        """The condition of every slot in the batch, the same at every gate.

        Raises ValueError for a language model of another width, and for an anchor.
        """
        config, found = self.config, features.context.shape[-1]
        if found != config.llm_width:
            raise ValueError(
                f"The M3-Adapter was trained for a language model of width {config.llm_width}, and this one has "
                f"{found}: load the adapter that belongs to the language model."
            )
        if anchor is not None:
            raise ValueError("The official release's adapter is not anchored: leave the anchor out.")
        embeds = self._embeds(features.context[:, :WINDOW], features.context_mask[:, :WINDOW])
        pooled = self.pool_head(embeds.mean(1))
        return Condition(
            embeds,
            pooled,
            torch.zeros_like(embeds),
            torch.zeros_like(pooled),
            gate=embeds.new_zeros(*embeds.shape[:2], 1),
            captions=features.captions,
        )

    def _embeds(self, context: Tensor, mask: Tensor) -> Tensor:
        keys, values = self.key_norm(self.key_in(context)), self.value_norm(self.value_in(context))
        queries = self.query_norm(self.query_in(self.queries.to(context))).expand(len(context), -1, -1)
        for attention, linear in zip(self.attentions, self.linears, strict=True):
            queries = linear(attention(queries, keys, mask, values))
        return self.embed_down(functional.relu(self.embed_up(queries)))
