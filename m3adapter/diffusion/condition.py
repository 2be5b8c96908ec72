"""Condition: what the decoder paints from, and its way to ComfyUI's CONDITIONING and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .text_encoding import of_one_length


@dataclass(frozen=True)
class Condition:
    """Prompt embeddings in SDXL's layout, with their unconditional twins.

    Attributes:
        embeds: [B, N, D]; SDXL has N = 77, or a multiple for a long prompt, and D = 2048.
        pooled: [B, P]; SDXL has P = 1280.
        negative_embeds: [B, M, D]; M may be another number than N, see `even`.
        negative_pooled: [B, P].
        gate: The gate of each token and channel of the adapter as applied, strength included [B, N, W]; None where no
            adapter was at work.
        captions: The caption of each picture, () where none is known.
    """

    embeds: Tensor
    pooled: Tensor
    negative_embeds: Tensor
    negative_pooled: Tensor
    gate: Tensor | None = None
    captions: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """How many pictures."""
        return self.embeds.shape[0]

    def split(self) -> list[Condition]:
        """One condition of batch 1 per picture."""
        return [
            Condition(
                **{name: getattr(self, name)[i : i + 1] for name in _TENSORS},
                gate=None if self.gate is None else self.gate[i : i + 1],
                captions=self.captions[i : i + 1],
            )
            for i in range(self.batch)
        ]

    @classmethod
    def concatenate(cls, conditions: Sequence[Condition]) -> Condition:
        """One batch of several conditions; tokens are repeated where their number differs, see `of_one_length`."""
        gates = [condition.gate for condition in conditions]
        parts = {name: [getattr(condition, name) for condition in conditions] for name in _TENSORS}
        for name in ("embeds", "negative_embeds"):
            parts[name] = of_one_length(parts[name])
        return cls(
            **{name: torch.cat(part) for name, part in parts.items()},
            gate=None if any(gate is None for gate in gates) else torch.cat(gates),
            captions=tuple(caption for condition in conditions for caption in condition.captions),
        )

    def even(self) -> Condition:
        """The same with as many negative tokens as positive ones, as a guided UNet takes them; pictures stay the same.

        Raises ValueError where `of_one_length` does.
        """
        embeds, negative = of_one_length([self.embeds, self.negative_embeds])
        return replace(self, embeds=embeds, negative_embeds=negative)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        """On another device and in another floating point type."""
        moved = {name: getattr(self, name).to(device, dtype) for name in _TENSORS}
        return replace(self, **moved, gate=None if self.gate is None else self.gate.to(device))

    def positive(self) -> list[list[Any]]:
        """As ComfyUI CONDITIONING."""
        extra: dict[str, Any] = {"pooled_output": self.pooled}
        if self.gate is not None:
            extra["m2chat_gate"] = self.gate
        if self.captions:
            extra["m2chat_captions"] = self.captions
        return [[self.embeds, extra]]

    def negative(self) -> list[list[Any]]:
        """The unconditional twin as ComfyUI CONDITIONING."""
        return [[self.negative_embeds, {"pooled_output": self.negative_pooled}]]

    @classmethod
    def from_conditioning(cls, positive: list[list[Any]], negative: list[list[Any]]) -> Condition:
        """The inverse of `positive()` and `negative()`.

        Raises ValueError for conditioning of several entries or without a pooled output (that is, not SDXL's).
        """
        for name, entries in (("positive", positive), ("negative", negative)):
            if len(entries) != 1:
                raise ValueError(f"The {name} conditioning has {len(entries)} entries: give one without combining.")
            if entries[0][1].get("pooled_output") is None:
                raise ValueError(f"The {name} conditioning has no pooled output: make it with an SDXL text encoder.")
        extra, other = positive[0][1], negative[0][1]
        embeds, negative_embeds, negative_pooled = positive[0][0], negative[0][0], other["pooled_output"]
        if negative_embeds.shape[0] != embeds.shape[0]:  # one for all, as samplers take it
            if negative_embeds.shape[0] != 1:
                raise ValueError(
                    f"The positive conditioning is of {embeds.shape[0]} pictures and the negative one of "
                    f"{negative_embeds.shape[0]}: give one negative, or as many."
                )
            negative_embeds = negative_embeds.expand(embeds.shape[0], -1, -1)
            negative_pooled = negative_pooled.expand(embeds.shape[0], -1)
        return cls(
            embeds=embeds,
            pooled=extra["pooled_output"],
            negative_embeds=negative_embeds,
            negative_pooled=negative_pooled,
            gate=extra.get("m2chat_gate"),
            captions=extra.get("m2chat_captions", ()),
        )


_TENSORS = ("embeds", "pooled", "negative_embeds", "negative_pooled")
