"""The M³-Adapter: fuses what the language model means with what the reference pictures look like.

The paper (arXiv 2311.17963) shows the adapter in a figure and names its learnable gate; its formulas were not available
and the published code has neither gate nor low-level path. What stands here is a reconstruction, in these terms:

    C   hidden states at caption and image tokens        T   hidden states at answer and caption tokens
    V   vision features of the references, from shallow to deep layers

    Q  <- learned queries [N, W];   Q <- block_i(Q; C)
    h  = Q + attend(Q; T)                                 semantic feature
    h' = block_low(h; project(V))                         the tokens look at the references and speak to each other
    l  = FFN[h' ; attend(h'; project(V))]                 low-level feature, exactly 0 without a reference
    g  = sigmoid(W [norm h ; norm l] + b)                 the gate, per token and channel
    f  = h + s * g * l                                    s is the user's strength
    E  = FFN(f),   p = FFN(attention_pool(f))             prompt embeddings [N, D] and pooled embedding [P]

An anchored adapter only says by how much they differ from what the decoder's own text encoders make of the caption:

    E  = E_text + tanh(a) * FFN(f),   p = p_text + tanh(a_p) * FFN(attention_pool(f)),   a = a_p = 0 before training
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.condition import Condition
from ..gate import GateSetting
from ..values import is_number, is_whole, shown
from ..weights.counting import MAX_PARTS, MAX_SIZE
from .attention import Attention, Block, FeedForward
from .features import SlotFeatures

if TYPE_CHECKING:
    from .vision_encoder import VisionEncoder


@dataclass(frozen=True)
class M3AdapterConfig:
    """Widths and depths of an adapter.

    Attributes:
        llm_width: Hidden size of the language model.
        vision_width: Hidden size of the vision encoder.
        vision_levels: From how many depths of the vision encoder features come.
        embed_width: Width D of the decoder's prompt embeddings.
        pooled_width: Width P of the decoder's pooled embedding.
        tokens: Number N of prompt embeddings, and of queries.
        width: Inner width W, a multiple of `heads`.
        blocks: Number of blocks.
        heads: Attention heads.
        image_tokens: Learned embeddings that follow the caption into the language model.
        references: Highest number of reference pictures.
        anchor: Whether the result is the decoder's own condition of the caption and a learned difference from it.
        open_gate: How far the learned gate typically opens where the references tell a look, above 0 and up to 1: what
            the value 1 of a fixed gate means. Measured at the end of training.

    Raises ValueError with one clear sentence.
    """

    llm_width: int
    vision_width: int
    embed_width: int
    pooled_width: int
    vision_levels: int = 3
    tokens: int = 77
    width: int = 256
    blocks: int = 3
    heads: int = 4
    image_tokens: int = 4
    references: int = 4
    anchor: bool = False
    open_gate: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                if not isinstance(value, bool):
                    raise ValueError(f"The adapter's {field.name} must be true or false, not {shown(value)}.")
                continue
            if field.type == "float":
                if not is_number(value, 0, 1) or value == 0:
                    raise ValueError(f"The adapter's {field.name} must be above 0 and up to 1, not {shown(value)}.")
                continue
            most = MAX_PARTS if field.name in ("blocks", "vision_levels") else MAX_SIZE
            if not is_whole(value, 1, most):
                raise ValueError(
                    f"The adapter's {field.name} must be a whole number from 1 to {most}, not {shown(value)}."
                )
        if self.width % self.heads:
            raise ValueError(f"The adapter's width {self.width} is no multiple of its {self.heads} heads.")


# What M3FT's second stage trains; everything else of the adapter belongs to the first.
STAGE2 = ("vision_in", "vision_level", "vision_reference", "low_", "gate")


class M3Adapter(nn.Module):
    """Slot features in, a condition for the decoder out.

    Args:
        config: Widths and depths.
        operations: Where Linear and LayerNorm come from: `torch.nn`, or ComfyUI's operations, which stream and cast.
        device, dtype: Of the parameters.
    """

    def __init__(
        self,
        config: M3AdapterConfig,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        kind = {"device": device, "dtype": dtype}

        def learned(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, **kind) * 0.02)

        self.image_tokens = learned(config.image_tokens, config.llm_width)
        self.queries = learned(config.tokens, width)
        self.context_in = operations.Linear(config.llm_width, width, **kind)
        self.context_norm = operations.LayerNorm(width, **kind)
        self.text_in = operations.Linear(config.llm_width, width, **kind)
        self.text_norm = operations.LayerNorm(width, **kind)
        self.blocks = nn.ModuleList(Block(width, heads, operations, **kind) for _ in range(config.blocks))
        self.text_query_norm = operations.LayerNorm(width, **kind)
        self.text_attention = Attention(width, heads, operations, **kind)

        self.vision_in = nn.ModuleList(
            operations.Linear(config.vision_width, width, **kind) for _ in range(config.vision_levels)
        )
        self.vision_in_norm = operations.LayerNorm(width, **kind)
        self.vision_level = learned(config.vision_levels, width)
        self.vision_reference = learned(config.references, width)
        self.low_block = Block(width, heads, operations, **kind)
        self.low_query_norm = operations.LayerNorm(width, **kind)
        self.low_attention = Attention(width, heads, operations, **kind)
        self.low_mlp = FeedForward(2 * width, width, operations, inner=4 * width, **kind)
        self.gate_norm_semantic = operations.LayerNorm(width, **kind)
        self.gate_norm_low = operations.LayerNorm(width, **kind)
        self.gate = operations.Linear(2 * width, width, **kind)

        self.embed_norm = operations.LayerNorm(width, **kind)
        self.embed_head = FeedForward(width, config.embed_width, operations, inner=4 * width, **kind)
        self.pool_query = learned(1, width)
        self.pool_attention = Attention(width, heads, operations, **kind)
        self.pool_norm = operations.LayerNorm(width, **kind)
        self.pool_head = FeedForward(width, config.pooled_width, operations, inner=4 * width, **kind)
        if config.anchor:
            self.alpha = nn.Parameter(torch.zeros(1, **kind))
            self.alpha_pooled = nn.Parameter(torch.zeros(1, **kind))

    def stage1_parameters(self) -> dict[str, nn.Parameter]:
        """What the first stage of M3FT trains (image-text alignment), by name."""
        return {name: p for name, p in self.named_parameters() if not name.startswith(STAGE2)}

    def stage2_parameters(self) -> dict[str, nn.Parameter]:
        """What the second stage of M3FT trains (visual instruction), by name; disjoint from the first."""
        return {name: p for name, p in self.named_parameters() if name.startswith(STAGE2)}

    def describe(self) -> str:
        """One line for people: what the adapter stands between, and how large it is."""
        c = self.config
        million = sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"{'Anchored ' if c.anchor else ''}M3-Adapter of {million:.1f} million parameters: language model "
            f"{c.llm_width} wide, vision encoder {c.vision_width} wide at {c.vision_levels} levels, decoder of "
            f"{c.tokens} tokens {c.embed_width} wide and {c.pooled_width} pooled."
        )

    @property
    def is_untrained(self) -> bool:
        """Whether it is anchored and has learned nothing: its condition is its anchor, whatever it looks at."""
        return self.config.anchor and not (self.alpha.any() or self.alpha_pooled.any())

    def sees_with(self, vision_encoder: VisionEncoder) -> bool:
        """Whether it can look at references through a vision encoder.

        It need not, as long as it is untrained. Raises ValueError, one sentence, for a trained adapter of another one.
        """
        found = vision_encoder.hidden_size, len(vision_encoder.levels)
        if found == (self.config.vision_width, self.config.vision_levels):
            return True
        if not self.is_untrained:
            self._check_vision(*found)
        return False

    def semantic(self, features: SlotFeatures) -> Tensor:
        """The semantic feature h [B, N, W]: what caption and answer mean, without any reference picture."""
        context = self.context_norm(self.context_in(features.context))
        context = context + _positions(context)
        queries = self.queries.to(context).expand(features.batch, -1, -1)
        for block in self.blocks:
            queries = block(queries, context, features.context_mask)
        text = self.text_norm(self.text_in(features.text))
        return queries + self.text_attention(self.text_query_norm(queries), text, features.text_mask)

    def low_level(self, semantic: Tensor, features: SlotFeatures) -> Tensor:
        """The low-level feature l [B, N, W] of the references; exactly 0 in rows that have none."""
        levels = [linear(features.vision[:, :, i]) for i, linear in enumerate(self.vision_in)]
        memory = self.vision_in_norm(torch.stack(levels, dim=2))  # [B, R, L, P, W]
        count, patches = memory.shape[1], memory.shape[3]
        place = self.vision_reference.to(memory)[:count]
        if features.vision_weight is not None:
            place = _by_weight(features.vision_weight, features.vision_mask).to(memory) @ place  # [B, R, W]
        memory = memory + self.vision_level.to(memory)[:, None] + place[..., None, None, :]
        memory = memory.flatten(1, 3)

        def per_patch(of_reference: Tensor) -> Tensor:
            return of_reference[:, :, None].expand(-1, -1, len(levels) * patches).flatten(1)

        mask = per_patch(features.vision_mask)
        weight = None if features.vision_weight is None else per_patch(features.vision_weight)
        queries = self.low_query_norm(self.low_block(semantic, memory, mask, weight))
        found = self.low_attention(queries, memory, mask, weight=weight)
        low = self.low_mlp(torch.cat([queries, found], dim=-1))
        return torch.where(features.vision_mask.any(1)[:, None, None], low, torch.zeros_like(low))

    def learned_gate(self, semantic: Tensor, low: Tensor) -> Tensor:
        """The gate g in 0..1 [B, N, W], which sees both features and nothing else."""
        both = torch.cat([self.gate_norm_semantic(semantic), self.gate_norm_low(low)], dim=-1)
        return torch.sigmoid(self.gate(both))

    def heads(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt embeddings [B, N, D] and pooled embedding [B, P] of the fused feature [B, N, W]."""
        normed = self.embed_norm(fused)
        query = self.pool_query.to(fused).expand(fused.shape[0], -1, -1)
        pooled = self.pool_norm(self.pool_attention(query, normed))[:, 0]
        return self.embed_head(normed), self.pool_head(pooled)

    def forward(
        self, features: SlotFeatures, gate: GateSetting | None = None, anchor: Condition | None = None
    ) -> Condition:
        """The condition of every slot in the batch.

        Strength 0 does not compute the low-level path at all: the result is bit-equal to having no reference.
        An anchored adapter needs the decoder's own condition of the captions as `anchor` (of one that is longer than N
        tokens, it changes the first N), takes its negatives and, as
        long as it is untrained, gives it back to the last bit, whatever the gate.
        Raises ValueError where the features or the anchor come from models of other widths than the adapter's, and
        where an anchor is missing or not wanted.
        """
        gate = gate or GateSetting()
        self._check(features)
        self._check_anchor(features, anchor)
        semantic = self.semantic(features)
        fused, applied = semantic, torch.zeros_like(semantic)
        if gate.strength > 0 and features.vision_mask.any():
            low = self.low_level(semantic, features)
            if gate.mode == "learned":
                weight = self.learned_gate(semantic, low)
            else:
                weight = torch.full_like(low, gate.value * self.config.open_gate)
            applied = gate.strength * weight * features.vision_mask.any(1)[:, None, None]
            fused = semantic + applied * low
        embeds, pooled = self.heads(fused)
        negatives = (torch.zeros_like(embeds), torch.zeros_like(pooled))
        if anchor is not None:
            change = (torch.tanh(self.alpha.to(embeds)) * embeds).to(anchor.embeds)
            rest = anchor.embeds[:, change.shape[1] :]  # of a caption that is longer than the encoders read at once
            embeds = torch.cat([anchor.embeds[:, : change.shape[1]] + change, rest], 1)
            pooled = anchor.pooled + (torch.tanh(self.alpha_pooled.to(pooled)) * pooled).to(anchor.pooled)
            negatives = (anchor.negative_embeds, anchor.negative_pooled)
        return Condition(embeds, pooled, *negatives, gate=applied, captions=features.captions)

    def _check(self, features: SlotFeatures) -> None:
        config = self.config
        found = features.context.shape[-1]
        if found != config.llm_width:
            cure = self._cure("load the adapter that belongs to the language model")
            raise ValueError(
                f"The M3-Adapter was {self._made} for a language model of width {config.llm_width}, and this one has "
                f"{found}: {cure}."
            )
        if not features.vision_mask.any():
            return
        count, levels, width = features.vision.shape[1], features.vision.shape[2], features.vision.shape[-1]
        self._check_vision(width, levels)
        if count > config.references:
            raise ValueError(f"The M3-Adapter takes {config.references} reference pictures, not {count}: give fewer.")

    def _check_vision(self, width: int, levels: int) -> None:
        config = self.config
        if (width, levels) != (config.vision_width, config.vision_levels):
            raise ValueError(
                f"The M3-Adapter was {self._made} for a vision encoder of width {config.vision_width} with "
                f"{config.vision_levels} levels, and this one has {width} with {levels}: "
                f"{self._cure('load the matching one')}."
            )

    @property
    def _made(self) -> str:
        return "made" if self.is_untrained else "trained"

    def _cure(self, trained: str) -> str:
        return "make one for it with New M3-Adapter" if self.is_untrained else trained

    def _check_anchor(self, features: SlotFeatures, anchor: Condition | None) -> None:
        config = self.config
        if not config.anchor:
            if anchor is not None:
                raise ValueError("This M3-Adapter is not anchored and has no use for an anchor: leave it out.")
            return
        if anchor is None:
            raise ValueError(
                "This M3-Adapter is anchored: give it as anchor what the decoder's text encoders make of the caption "
                "(Encode Text)."
            )
        width, pooled = anchor.embeds.shape[-1], anchor.pooled.shape[-1]
        if anchor.batch != features.batch:
            raise ValueError(
                f"The anchor is of {anchor.batch} captions, not of {features.batch}: give one for each slot."
            )
        if (width, pooled) != (config.embed_width, config.pooled_width):
            raise ValueError(
                f"The M3-Adapter was made for a decoder of widths {config.embed_width} and {config.pooled_width}, and "
                f"the anchor has {width} and {pooled}: encode the caption with the matching decoder."
            )
        for tokens in (anchor.embeds.shape[1], anchor.negative_embeds.shape[1]):
            if not tokens or tokens % config.tokens:
                raise ValueError(
                    f"The M3-Adapter has {config.tokens} queries, and the anchor {tokens} tokens, no multiple of that: "
                    "encode its texts with the matching decoder."
                )


def _by_weight(weight: Tensor, mask: Tensor) -> Tensor:
    """In which place, of as many, each of the references [B, R] of which `mask` says that they are there stands.

    Where two references contradict each other an adapter has learned to believe the one in front, so a share of
    attention alone would not do: a heavier reference has to move forward. It passes a lighter one in front of it by
    1 - lighter / heavier places: not at all where they weigh the same, and wholly if the other weighs nothing. So its
    place may be between two.

    Returns:
        [B, R, R], each row a mix of places; the identity for equal weights.
    """
    passes = (1 - weight[:, None, :] / weight[:, :, None]).clamp(min=0)  # [b, i, j]: how far i passes j
    passes = (passes * mask[:, None, :] * mask[:, :, None]).tril(-1)  # only what stands in front can be passed
    every = torch.arange(weight.shape[1], device=weight.device)
    places = every - passes.sum(2) + passes.sum(1)
    return (1 - (places[..., None] - every).abs()).clamp(min=0)


def _positions(x: Tensor) -> Tensor:
    """Sinusoids [L, W] of the place within the span (Vaswani et al., 2017), small beside normalised features."""
    length, width = x.shape[1:]
    place = torch.arange(length, device=x.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) * (-9.21 / width))
    return torch.cat([torch.sin(place * rate), torch.cos(place * rate)], dim=-1)[:, :width].to(x.dtype)
