"""The adapter of the official M²Chat release, for its checkpoints alone.

The release's adapter has no gate, no low-level path and no image tokens, and is another network than M3Adapter. The
formulas are read off the published code; C are the hidden states of a window of 32 tokens from the caption on:

    Q_0 = LN(W_q q)                              q: learned queries [77, 2048]
    K   = LN(W_k C),   V = LN(W_v C)             C: [32, 4096]
    Q_{i+1} = W_i MHA(Q_i, K, V)                 i = 0, 1; no residual, norm or self-attention
    E   = W_2 ReLU(W_1 Q_2)                      prompt embeddings [77, 2048]
    p   = W_p mean(E)                            pooled embedding [1280]

Padding is masked here. The release, which paints one picture at a time, has none.
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
    """Sizes of an adapter of the official release; the defaults are the release's own.

    Attributes:
        llm_width: Hidden size of the language model.
        width: Width of queries and prompt embeddings, a multiple of `num_heads`.
        pooled_width: Width of the pooled embedding.
        num_tokens: Number of queries, and of prompt embeddings.
        num_layers: Number of cross-attention layers.
        num_heads: Number of attention heads.
        anchor: Always False, as for M3AdapterConfig.
        references: Always 0, as for M3AdapterConfig.
    """

    llm_width: int = 4096
    width: int = 2048
    pooled_width: int = 1280
    num_tokens: int = 77
    num_layers: int = 2
    num_heads: int = 64
    anchor: ClassVar[bool] = False
    references: ClassVar[int] = 0


class OfficialAdapter(nn.Module):
    """Turns slot features into a condition for the decoder, as M3Adapter does; the gate has no effect.

    Args:
        config: Its sizes.
        operations: Where Linear and LayerNorm come from, as for M3Adapter.
        device: Of the parameters.
        dtype: Of the parameters.
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
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.image_tokens = nn.Parameter(torch.empty(0, config.llm_width, **factory_kwargs))
        self.queries = nn.Parameter(torch.randn(config.num_tokens, width, **factory_kwargs))
        self.query_in = operations.Linear(width, width, **factory_kwargs)
        self.query_norm = operations.LayerNorm(width, **factory_kwargs)
        self.key_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.key_norm = operations.LayerNorm(width, **factory_kwargs)
        self.value_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.value_norm = operations.LayerNorm(width, **factory_kwargs)
        self.attentions = nn.ModuleList(
            Attention(width, config.num_heads, operations, bias=True, **factory_kwargs)
            for _ in range(config.num_layers)
        )
        self.linears = nn.ModuleList(
            operations.Linear(width, width, **factory_kwargs) for _ in range(config.num_layers)
        )
        self.embed_up = operations.Linear(width, width, **factory_kwargs)
        self.embed_down = operations.Linear(width, width, **factory_kwargs)
        self.pool_head = operations.Linear(width, config.pooled_width, **factory_kwargs)

    def describe(self) -> str:
        """Return one line that says which models the adapter connects, and how large it is."""
        c = self.config
        million = sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"Adapter of the official release of {million:.1f} million parameters: language model {c.llm_width} wide, "
            f"decoder of {c.num_tokens} tokens {c.width} wide and {c.pooled_width} pooled, no low-level path."
        )

    def forward(
        self, features: SlotFeatures, gate: GateSetting | None = None, anchor: Condition | None = None
    ) -> Condition:
        """Return the condition of every slot in the batch, the same whatever the gate.

        Args:
            features: Features of B slots; the references are ignored.
            gate: Has no effect.
            anchor: Must be None.

        Raises:
            ValueError: The language model has another width, or an anchor is given.
        """
        config, llm_width = self.config, features.context.shape[-1]
        if llm_width != config.llm_width:
            raise ValueError(
                f"The M3-Adapter was trained for a language model of width {config.llm_width}, and this one has "
                f"{llm_width}: load the adapter that belongs to the language model."
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
