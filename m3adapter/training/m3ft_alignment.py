"""What M3FT's first stage learns from: hidden states of slots, and the decoder's own embeddings of their captions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..adapter.m3_adapter import M3Adapter
from ..diffusion.condition import Condition
from ..diffusion.decoder import DiffusionDecoder
from ..language.language_model import LanguageModel, SlotStates
from ..storybook.dataset import Sample, aside
from .decoder import embed
from .loop import autocast
from .m3ft_data import Pool
from .whitening import Whitening

Item = TypeVar("Item")


class Target:
    """The decoder's own embeddings of captions, and how far a condition is from them.

    Distances are taken between whitened embeddings: most of the plain variance says where a word stands, and an error
    that is small beside it can still make an owl of a fox.
    """

    def __init__(self, decoder: DiffusionDecoder, captions: list[str]) -> None:
        self.decoder = decoder
        self.whitening = Whitening.measure(*embed(decoder.pipeline, captions))

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, N, D] and pooled ones [B, P]."""
        return embed(self.decoder.pipeline, captions)

    def told(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """What only the references tell of `samples`, as a difference of embeddings, and of pooled ones; often none."""
        rows = [row for row, sample in enumerate(samples) if sample.known]
        # without any, the first one is its own difference from itself
        chosen = [samples[row] for row in rows or [0]]
        plain, full = self([sample.caption for sample in chosen]), self([aside(sample) for sample in chosen])
        found = []
        for before, after in zip(plain, full, strict=True):
            whole = before.new_zeros(len(samples), *before.shape[1:])
            whole[rows or [0]] = after - before
            found.append(whole)
        return found[0], found[1]

    def distance(self, condition: Condition, embeds: Tensor, pooled: Tensor) -> Tensor:
        """Mean squared error of the whitened embeddings."""
        found = self.whitening(condition.embeds.float(), condition.pooled.float())
        wanted = self.whitening(embeds, pooled)
        return (found[0] - wanted[0]).pow(2).mean() + 0.3 * (found[1] - wanted[1]).pow(2).mean()


class Alignment:
    """Stage 1's batches: slots as the adapter is given them, and the embeddings of their captions.

    Args:
        data: The samples.
        adapter: The one in training; only its image tokens matter here.
        language: The frozen language model.
        target: Of the captions.
    """

    def __init__(self, data: Pool, adapter: M3Adapter, language: LanguageModel, target: Target) -> None:
        self.data, self.adapter, self.language, self.target = data, adapter, language, target
        self.states: list[SlotStates] = []
        self.embeds, self.pooled = torch.empty(0), torch.empty(0)

    def batch(self, index: Sequence[int], *, settled: bool) -> tuple[SlotFeatures, Tensor, Tensor]:
        """The samples at `index`; once the image tokens are `settled`, of what was computed at the first such call."""
        if not settled:
            chosen = [self.data.samples[i] for i in index]
            return SlotFeatures.collate([(state, None) for state in self._hidden(chosen)]), *self._wanted(chosen)
        if not self.states:
            self._settle()
        device, rows = self.adapter.image_tokens.device, torch.tensor(index)
        features = SlotFeatures.collate([(self.states[i], None) for i in index]).to(device, torch.float32)
        return features, *(part[rows].to(device, torch.float32) for part in (self.embeds, self.pooled))

    def _hidden(self, chosen: Sequence[Sample]) -> list[SlotStates]:
        requests = [(sample.conversation, sample.slot, ()) for sample in chosen]
        with autocast():
            return self.language.encode_slots(requests, self.adapter.image_tokens)

    def _wanted(self, chosen: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        return self.target([sample.caption for sample in chosen])

    @torch.no_grad()
    def _settle(self) -> None:
        """Computes everything once, in half precision on the CPU."""
        began = time.time()
        self.adapter.image_tokens.requires_grad_(False)

        def kept(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", torch.float16)

        def read(chosen: Sequence[Sample]) -> list[SlotStates]:
            found = self._hidden(chosen)
            return [replace(states, context=kept(states.context), text=kept(states.text)) for states in found]

        self.states = by_length(self.data.samples, read)
        wanted = [self._wanted(self.data.samples[i : i + 256]) for i in range(0, len(self.data.samples), 256)]
        self.embeds, self.pooled = (kept(torch.cat(parts)) for parts in zip(*wanted, strict=True))
        print(f"settled: {len(self.states)} samples in {time.time() - began:.0f} s", flush=True)


def by_length(samples: Sequence[Sample], read: Callable[[list[Sample]], Sequence[Item]]) -> list[Item]:
    """What `read` finds in batches of samples, in the samples' order; a batch's conversations are of like length."""
    order = sorted(range(len(samples)), key=lambda index: len(samples[index].conversation.turns))
    found: dict[int, Item] = {}
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        found.update(zip(part, read([samples[index] for index in part]), strict=True))
    return [found[index] for index in range(len(samples))]
