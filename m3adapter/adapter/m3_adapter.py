"""The M³-Adapter: fuses what the language model means with what the reference pictures look like.

The paper (arXiv 2311.17963) shows the adapter in a figure and names its learnable gate, but its formulas were not
available, and the published code has neither gate nor low-level path. This is a reconstruction:

    C   hidden states at caption and image tokens        T   hidden states at answer and caption tokens
    V   vision features of the references, from shallow to deep layers

    Q  <- learned queries [N, W];   Q <- block_i(Q; C)
    h  = Q + attend(Q; T)                                 semantic feature
    h' = block_low(h; project(V))                         the tokens attend to the references and to each other
    l  = FFN[h' ; attend(h'; project(V))]                 low-level feature, exactly 0 without a reference
    g  = sigmoid(W [norm h ; norm l] + b)                 the gate, per token and channel
    f  = h + s * g * l                                    s is the user's setting
    E  = FFN(f),   p = FFN(attention_pool(f))             prompt embeddings [N, D] and pooled embedding [P]

An anchored adapter outputs a learned change to what the decoder's own text encoders make of the caption:

    E  = E_text + tanh(a) * FFN(f),   p = p_text + tanh(a_p) * FFN(attention_pool(f)),   a = a_p = 0 before training
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.condition import Condition
from ..gate import GateSetting
from ..weights.tensors import fill
from .attention import Attention, Block, FeedForward
from .checkpoint import check_shapes, parse_checkpoint, read_checkpoint, write_checkpoint
from .checks import check_anchor, check_features, check_vision
from .config import M3AdapterConfig
from .features import BothFeatures, SlotFeatures
from .positions import places_by_weight, sinusoids

if TYPE_CHECKING:
    from .vision_encoder import VisionEncoder

# Prefixes of what M3FT's second stage trains; all other parameters belong to the first stage.
STAGE2 = ("vision_in", "vision_level", "vision_reference", "low_", "gate")


class M3Adapter(nn.Module):
    """Turns slot features into a condition for the decoder.

    Args:
        config: Widths and depths.
        operations: Where Linear and LayerNorm come from: `torch.nn`, or ComfyUI's operations, which stream and cast.
        device: Of the parameters.
        dtype: Of the parameters.
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
        width, num_heads = config.width, config.num_heads
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}

        def learned(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, **factory_kwargs) * 0.02)

        self.image_tokens = learned(config.num_image_tokens, config.llm_width)
        self.queries = learned(config.num_tokens, width)
        self.context_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.context_norm = operations.LayerNorm(width, **factory_kwargs)
        self.text_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.text_norm = operations.LayerNorm(width, **factory_kwargs)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, operations, **factory_kwargs) for _ in range(config.num_blocks)
        )
        self.text_query_norm = operations.LayerNorm(width, **factory_kwargs)
        self.text_attention = Attention(width, num_heads, operations, **factory_kwargs)

        self.vision_in = nn.ModuleList(
            operations.Linear(config.vision_width, width, **factory_kwargs) for _ in range(config.vision_levels)
        )
        self.vision_in_norm = operations.LayerNorm(width, **factory_kwargs)
        self.vision_level = learned(config.vision_levels, width)
        self.vision_reference = learned(config.references, width)
        self.low_block = Block(width, num_heads, operations, **factory_kwargs)
        self.low_query_norm = operations.LayerNorm(width, **factory_kwargs)
        self.low_attention = Attention(width, num_heads, operations, **factory_kwargs)
        self.low_mlp = FeedForward(2 * width, width, operations, inner=4 * width, **factory_kwargs)
        self.gate_norm_semantic = operations.LayerNorm(width, **factory_kwargs)
        self.gate_norm_low = operations.LayerNorm(width, **factory_kwargs)
        self.gate_projection = operations.Linear(2 * width, width, **factory_kwargs)

        self.embed_norm = operations.LayerNorm(width, **factory_kwargs)
        self.embed_head = FeedForward(width, config.embed_width, operations, inner=4 * width, **factory_kwargs)
        self.pool_query = learned(1, width)
        self.pool_attention = Attention(width, num_heads, operations, **factory_kwargs)
        self.pool_norm = operations.LayerNorm(width, **factory_kwargs)
        self.pool_head = FeedForward(width, config.pooled_width, operations, inner=4 * width, **factory_kwargs)
        if config.anchor:
            self.alpha = nn.Parameter(torch.zeros(1, **factory_kwargs))
            self.alpha_pooled = nn.Parameter(torch.zeros(1, **factory_kwargs))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> M3Adapter:
        """Open a checkpoint.

        Args:
            path: A .safetensors file, or a folder that holds one as adapter.safetensors.
            operations: As for the class.
            device: Where to put the weights.
            dtype: Type of the weights; float32 by default.

        Raises:
            CheckpointError: The file is missing, damaged or not an M3-Adapter's, or its weights have other shapes than
                its configuration says.
        """
        config, tensors = read_checkpoint(path)
        return cls._filled(Path(path), config, tensors, operations, device, dtype)

    @classmethod
    def from_tensors(
        cls,
        path: Path,
        tensors: Mapping[str, Tensor],
        header: Mapping[str, str],
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> M3Adapter:
        """Build an adapter of the tensors and header of a file that was read from `path`, as `from_pretrained`."""
        config, tensors = parse_checkpoint(path, tensors, header)
        return cls._filled(path, config, tensors, operations, device, dtype)

    @classmethod
    def _filled(
        cls,
        path: Path,
        config: M3AdapterConfig,
        tensors: Mapping[str, Tensor],
        operations: ModuleType | Any,
        device: torch.device | str,
        dtype: torch.dtype | None,
    ) -> M3Adapter:
        check_shapes(path, tensors, cls(config, device="meta").state_dict())
        adapter = cls(config, operations=operations, device=device, dtype=dtype or torch.float32)
        fill(adapter, tensors, device, dtype)
        return adapter.eval().requires_grad_(False)

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint that `from_pretrained` opens.

        Args:
            path: A .safetensors file, which is replaced only by a complete one, or a folder.
            dtype: Type to write the weights in; by default their own.
        """
        write_checkpoint(path, self.config, self.state_dict(), dtype=dtype)

    def stage1_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the first stage of M3FT trains (image-text alignment), by name."""
        return {name: p for name, p in self.named_parameters() if not name.startswith(STAGE2)}

    def stage2_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the second stage of M3FT trains (visual instruction), by name."""
        return {name: p for name, p in self.named_parameters() if name.startswith(STAGE2)}

    def describe(self) -> str:
        """Return one line that says which models the adapter connects, and how large it is."""
        c = self.config
        million = sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"{'Anchored ' if c.anchor else ''}M3-Adapter of {million:.1f} million parameters: language model "
            f"{c.llm_width} wide, vision encoder {c.vision_width} wide at {c.vision_levels} levels, decoder of "
            f"{c.num_tokens} tokens {c.embed_width} wide and {c.pooled_width} pooled."
        )

    @property
    def is_untrained(self) -> bool:
        """Whether the adapter is anchored and untrained: its condition equals the anchor, whatever the references."""
        return self.config.anchor and not bool(self.alpha.any() or self.alpha_pooled.any())

    def sees_with(self, vision_encoder: VisionEncoder) -> bool:
        """Return whether the adapter can use the features of a vision encoder.

        Raises:
            ValueError: It was trained for another vision encoder. An untrained adapter is no error, because it ignores
                references anyway.
        """
        width, levels = vision_encoder.hidden_size, len(vision_encoder.levels)
        if (width, levels) == (self.config.vision_width, self.config.vision_levels):
            return True
        if not self.is_untrained:
            check_vision(self.config, width, levels, is_untrained=lambda: False)
        return False

    def semantic(self, features: SlotFeatures) -> Tensor:
        """Return the semantic feature h [B, N, W]: what caption and answer mean, without any reference picture."""
        context = self.context_norm(self.context_in(features.context))
        context = context + sinusoids(context)
        queries = self.queries.to(context).expand(features.batch, -1, -1)
        for block in self.blocks:
            queries = block(queries, context, features.context_mask)
        text = self.text_norm(self.text_in(features.text))
        return queries + self.text_attention(self.text_query_norm(queries), text, features.text_mask)

    def low_level(self, semantic: Tensor, features: SlotFeatures) -> Tensor:
        """Return the low-level feature l [B, N, W] of the references; exactly 0 in rows without one."""
        levels = [linear(features.vision[:, :, i]) for i, linear in enumerate(self.vision_in)]
        memory = self.vision_in_norm(torch.stack(levels, dim=2))  # [B, R, L, P, W]
        count, patches = memory.shape[1], memory.shape[3]
        place = self.vision_reference.to(memory)[:count]
        if features.vision_weight is not None:
            place = places_by_weight(features.vision_weight, features.vision_mask).to(memory) @ place  # [B, R, W]
        memory = memory + self.vision_level.to(memory)[:, None] + place[..., None, None, :]
        memory = memory.flatten(1, 3)

        def per_patch(per_reference: Tensor) -> Tensor:
            return per_reference[:, :, None].expand(-1, -1, len(levels) * patches).flatten(1)

        mask = per_patch(features.vision_mask)
        weight = None if features.vision_weight is None else per_patch(features.vision_weight)
        queries = self.low_query_norm(self.low_block(semantic, memory, mask, weight))
        attended = self.low_attention(queries, memory, mask, weight=weight)
        low = self.low_mlp(torch.cat([queries, attended], dim=-1))
        return torch.where(features.vision_mask.any(1)[:, None, None], low, torch.zeros_like(low))

    def learned_gate(self, semantic: Tensor, low: Tensor) -> Tensor:
        """Return the gate g in 0..1 [B, N, W], which depends on both features and nothing else."""
        both = torch.cat([self.gate_norm_semantic(semantic), self.gate_norm_low(low)], dim=-1)
        return torch.sigmoid(self.gate_projection(both))

    def prompt_embeddings(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return prompt embeddings [B, N, D] and pooled embedding [B, P] of the fused feature [B, N, W]."""
        normed = self.embed_norm(fused)
        query = self.pool_query.to(fused).expand(fused.shape[0], -1, -1)
        pooled = self.pool_norm(self.pool_attention(query, normed))[:, 0]
        return self.embed_head(normed), self.pool_head(pooled)

    def both_features(self, features: SlotFeatures) -> BothFeatures:
        """Return what the gate stands between, which is the same for every setting of it.

        Raises:
            ValueError: The features have other widths than the adapter.
        """
        check_features(self.config, features, is_untrained=lambda: self.is_untrained)
        semantic = self.semantic(features)
        return BothFeatures(semantic, self.low_level(semantic, features) if features.vision_mask.any() else None)

    def forward(
        self,
        features: SlotFeatures,
        gate: GateSetting | None = None,
        anchor: Condition | None = None,
        both: BothFeatures | None = None,
    ) -> Condition:
        """Return the condition of every slot in the batch.

        Strength 0 skips the low-level path, so the result is bit-equal to that without references.

        Args:
            features: Features of B slots.
            gate: The user's setting of the gate.
            anchor: For an anchored adapter, the decoder's own condition of the captions. Its negatives are taken over.
                If it is longer than N tokens, the first N are changed. An untrained adapter returns it unchanged to
                the last bit, whatever the gate.
            both: What `both_features` returned for these features, if the gate is turned and they are not.

        Raises:
            ValueError: The features or the anchor have other widths than the adapter, or an anchor is missing or given
                to an adapter that has none.
        """
        gate = gate or GateSetting()
        check_features(self.config, features, is_untrained=lambda: self.is_untrained)
        check_anchor(self.config, features, anchor)
        semantic = self.semantic(features) if both is None else both.semantic
        fused, applied = semantic, torch.zeros_like(semantic)
        if gate.strength > 0 and features.vision_mask.any():
            low = self.low_level(semantic, features) if both is None or both.low is None else both.low
            if gate.mode == "learned":
                weight = self.learned_gate(semantic, low)
            else:
                weight = torch.full_like(low, gate.value * self.config.open_gate)
            applied = gate.strength * weight * features.vision_mask.any(1)[:, None, None]
            fused = semantic + applied * low
        embeds, pooled = self.prompt_embeddings(fused)
        negatives = (torch.zeros_like(embeds), torch.zeros_like(pooled))
        if anchor is not None:
            change = (torch.tanh(self.alpha.to(embeds)) * embeds).to(anchor.embeds)
            rest = anchor.embeds[:, change.shape[1] :]  # of a caption longer than the encoders' context
            embeds = torch.cat([anchor.embeds[:, : change.shape[1]] + change, rest], 1)
            pooled = anchor.pooled + (torch.tanh(self.alpha_pooled.to(pooled)) * pooled).to(anchor.pooled)
            negatives = (anchor.negative_embeds, anchor.negative_pooled)
        return Condition(embeds, pooled, *negatives, gate=applied, captions=features.captions)
