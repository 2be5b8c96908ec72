"""The condition that the decoder paints from, and its conversion to and from ComfyUI's CONDITIONING."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .text_encoding import of_one_length


@dataclass(frozen=True)
class Condition:
    """Prompt embeddings in SDXL's layout, with their unconditional counterparts.

    Attributes:
        embeds: Prompt embeddings [B, N, D]; SDXL has N = 77, or a multiple for a long prompt, and D = 2048.
        pooled: Pooled embedding [B, P]; SDXL has P = 1280.
        negative_embeds: Negative prompt embeddings [B, M, D]; M may differ from N (see `even`).
        negative_pooled: Negative pooled embedding [B, P].
        gate: The adapter's gate of each token and channel as applied, including its strength [B, N, W]; None without
            an adapter.
        captions: The caption of each picture; () if unknown.
    """

    embeds: Tensor
    pooled: Tensor
    negative_embeds: Tensor
    negative_pooled: Tensor
    gate: Tensor | None = None
    captions: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Number of pictures B."""
        return self.embeds.shape[0]

    def split(self) -> list[Condition]:
        """Return one condition of batch 1 per picture."""
        return [
            Condition(
                self.embeds[i : i + 1],
                self.pooled[i : i + 1],
                self.negative_embeds[i : i + 1],
                self.negative_pooled[i : i + 1],
                gate=None if self.gate is None else self.gate[i : i + 1],
                captions=self.captions[i : i + 1],
            )
            for i in range(self.batch)
        ]

    @classmethod
    def concatenate(cls, conditions: Sequence[Condition]) -> Condition:
        """Join several conditions into one batch; tokens are repeated where their number differs (`of_one_length`).

        Raises:
            ValueError: The numbers of tokens do not go together.
        """
        gates = [condition.gate for condition in conditions if condition.gate is not None]
        return cls(
            torch.cat(of_one_length([condition.embeds for condition in conditions])),
            torch.cat([condition.pooled for condition in conditions]),
            torch.cat(of_one_length([condition.negative_embeds for condition in conditions])),
            torch.cat([condition.negative_pooled for condition in conditions]),
            gate=torch.cat(gates) if len(gates) == len(conditions) else None,
            captions=tuple(caption for condition in conditions for caption in condition.captions),
        )

    def even(self) -> Condition:
        """Repeat tokens until there are as many negative as positive ones, as a guided UNet takes them.

        Pictures stay the same.

        Raises:
            ValueError: The numbers of tokens do not go together.
        """
        embeds, negative = of_one_length([self.embeds, self.negative_embeds])
        return replace(self, embeds=embeds, negative_embeds=negative)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        """Return the condition on another device and in another floating point type."""
        return replace(
            self,
            embeds=self.embeds.to(device, dtype),
            pooled=self.pooled.to(device, dtype),
            negative_embeds=self.negative_embeds.to(device, dtype),
            negative_pooled=self.negative_pooled.to(device, dtype),
            gate=None if self.gate is None else self.gate.to(device),
        )

    def positive(self) -> list[list[Any]]:
        """Return the prompt embeddings as ComfyUI CONDITIONING."""
        extra: dict[str, Any] = {"pooled_output": self.pooled}
        if self.gate is not None:
            extra["m2chat_gate"] = self.gate
        if self.captions:
            extra["m2chat_captions"] = self.captions
        return [[self.embeds, extra]]

    def negative(self) -> list[list[Any]]:
        """Return the negative prompt embeddings as ComfyUI CONDITIONING."""
        return [[self.negative_embeds, {"pooled_output": self.negative_pooled}]]

    @classmethod
    def from_conditioning(cls, positive: list[list[Any]], negative: list[list[Any]]) -> Condition:
        """Return the condition of a positive and a negative CONDITIONING, as `positive()` and `negative()` give them.

        Raises:
            ValueError: A conditioning has several entries or no pooled output (it is not SDXL's), or their batches do
                not match.
        """
        for name, entries in (("positive", positive), ("negative", negative)):
            if len(entries) != 1:
                raise ValueError(
                    f"The {name} conditioning has {len(entries)} entries: give one that is not a combination."
                )
            if entries[0][1].get("pooled_output") is None:
                raise ValueError(f"The {name} conditioning has no pooled output: make it with an SDXL text encoder.")
        extra, other = positive[0][1], negative[0][1]
        embeds, negative_embeds, negative_pooled = positive[0][0], negative[0][0], other["pooled_output"]
        if negative_embeds.shape[0] != embeds.shape[0]:  # one for all, as samplers take it
            if negative_embeds.shape[0] != 1:
                raise ValueError(
                    f"The positive conditioning is for {embeds.shape[0]} pictures and the negative one for "
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
