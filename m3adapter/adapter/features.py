"""Slot features: what the language model and the vision encoder say about pictures that are yet to be painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..language.language_model import SlotStates
    from .vision_encoder import VisionFeatures


@dataclass(frozen=True)
class SlotFeatures:
    """The input of the M³-Adapter, batch first. Masks are bool, True where values are valid.

    Attributes:
        context: Hidden states at caption and image tokens [B, Lc, H] (C, the multimodality condition).
        context_mask: [B, Lc].
        text: Hidden states at answer and caption tokens [B, Lt, H] (T, the text condition).
        text_mask: [B, Lt].
        vision: Features of the reference pictures [B, R, L, P, D]: R references, L depths, P patches (V). R may be 0.
        vision_mask: [B, R].
        captions: The caption of each slot.
        vision_weight: Relative attention to each reference [B, R], above 0; None is 1 for all.
        notes: Sentences that say what the language model's prompts shortened or left out, each once.
    """

    context: Tensor
    context_mask: Tensor
    text: Tensor
    text_mask: Tensor
    vision: Tensor
    vision_mask: Tensor
    captions: tuple[str, ...]
    vision_weight: Tensor | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def collate(cls, items: Sequence[tuple[SlotStates, VisionFeatures | None]]) -> SlotFeatures:
        """Batch slots, each given by its hidden states and the features of its references (None without any)."""
        context, context_mask = _pad([states.context for states, _ in items])
        text, text_mask = _pad([states.text for states, _ in items])
        given = [features.levels for _, features in items if features is not None]
        none = given[0][:0] if given else context.new_zeros(0, 1, 1, 1)
        vision, vision_mask = _pad([none if features is None else features.levels for _, features in items])
        captions = tuple(states.caption for states, _ in items)
        notes = tuple(dict.fromkeys(states.note for states, _ in items if states.note))
        return cls(context, context_mask, text, text_mask, vision, vision_mask, captions, notes=notes)

    @property
    def batch(self) -> int:
        """Number of slots B."""
        return self.context.shape[0]

    def shuffled(self, permutation: Tensor) -> SlotFeatures:
        """Give slot i the references of slot `permutation[i]`: the baseline of a wrong reference."""
        weight = None if self.vision_weight is None else self.vision_weight[permutation]
        vision, mask = self.vision[permutation], self.vision_mask[permutation]
        return replace(self, vision=vision, vision_mask=mask, vision_weight=weight)

    def without_references(self) -> SlotFeatures:
        """Return the features without reference pictures."""
        return replace(self, vision=self.vision[:, :0], vision_mask=self.vision_mask[:, :0], vision_weight=None)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SlotFeatures:
        """Return the features on another device and in another floating point type; masks stay bool."""
        moved = {name: getattr(self, name).to(device, dtype) for name in ("context", "text", "vision")}
        masks = {name: getattr(self, name).to(device) for name in ("context_mask", "text_mask", "vision_mask")}
        weight = None if self.vision_weight is None else self.vision_weight.to(device)
        return replace(self, **moved, **masks, vision_weight=weight)


@dataclass(frozen=True)
class BothFeatures:
    """The two features that the M³-Adapter's gate stands between.

    Attributes:
        semantic: h [B, N, W].
        low: l [B, N, W], or None without any reference.
    """

    semantic: Tensor
    low: Tensor | None


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad rows [L_i, ...] with zeros to [B, max L, ...], and return also the mask [B, max L] of what is valid."""
    longest = max(row.shape[0] for row in rows)
    padded = rows[0].new_zeros(len(rows), longest, *rows[0].shape[1:])
    mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=rows[0].device)
    for index, row in enumerate(rows):
        if row.shape[0]:
            padded[index, : row.shape[0]] = row
            mask[index, : row.shape[0]] = True
    return padded, mask
