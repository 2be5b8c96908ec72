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
from .decoder_pictures import embed
from .loop import autocast
from .m3ft_data import Pool
from .whitening import Whitening

Item = TypeVar("Item")


class Target:
    """The decoder's own embeddings of captions, and the distance of a condition from them.

    Distances are measured between whitened embeddings: most of the plain variance is about the position of words, and
    an error that is small beside it can still turn a fox into an owl.
    """

    def __init__(self, decoder: DiffusionDecoder, captions: list[str]) -> None:
        """Measure the whitening on captions."""
        self.decoder = decoder
        self.whitening = Whitening.measure(*embed(decoder.pipeline, captions))

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, N, D] and pooled ones [B, P] of captions."""
        return embed(self.decoder.pipeline, captions)

    def told(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Return what only the references tell, as differences of embeddings [B, N, D] and of pooled ones [B, P].

        They are zero for samples whose references tell nothing.
        """
        rows = [row for row, sample in enumerate(samples) if sample.known]
        # If there are none, the first sample is compared with itself.
        chosen = [samples[row] for row in rows or [0]]
        plain, full = self([sample.caption for sample in chosen]), self([aside(sample) for sample in chosen])
        differences = []
        for before, after in zip(plain, full, strict=True):
            whole = before.new_zeros(len(samples), *before.shape[1:])
            whole[rows or [0]] = after - before
            differences.append(whole)
        return differences[0], differences[1]

    def distance(self, condition: Condition, embeds: Tensor, pooled: Tensor) -> Tensor:
        """Return the mean squared error of the whitened embeddings."""
        actual = self.whitening(condition.embeds.float(), condition.pooled.float())
        target = self.whitening(embeds, pooled)
        return (actual[0] - target[0]).pow(2).mean() + 0.3 * (actual[1] - target[1]).pow(2).mean()


class Alignment:
    """The batches of stage 1: inputs of the adapter, and the embeddings of captions.

    Args:
        data: The samples.
        adapter: The one in training; only its image tokens matter here.
        language: The frozen language model.
        target: Encodes the captions.
    """

    def __init__(self, data: Pool, adapter: M3Adapter, language: LanguageModel, target: Target) -> None:
        """Compute nothing yet."""
        self.data, self.adapter, self.language, self.target = data, adapter, language, target
        self.states: list[SlotStates] = []
        self.embeds, self.pooled = torch.empty(0), torch.empty(0)

    def batch(self, index: Sequence[int], *, settled: bool) -> tuple[SlotFeatures, Tensor, Tensor]:
        """Return features, embeddings [B, N, D] and pooled embeddings [B, P] of the samples at `index`.

        Once the image tokens are `settled`, everything is computed at the first call and then taken from a cache.
        """
        if not settled:
            chosen = [self.data.samples[i] for i in index]
            return SlotFeatures.collate([(state, None) for state in self._hidden(chosen)]), *self._wanted(chosen)
        if not self.states:
            self._settle()
        device, rows = self.adapter.image_tokens.device, torch.tensor(index)
        features = SlotFeatures.collate([(self.states[i], None) for i in index]).to(device, torch.float32)
        embeds, pooled = (part[rows].to(device, torch.float32) for part in (self.embeds, self.pooled))
        return features, embeds, pooled

    def _hidden(self, chosen: Sequence[Sample]) -> list[SlotStates]:
        requests = [(sample.conversation, sample.slot, ()) for sample in chosen]
        with autocast():
            return self.language.encode_slots(requests, self.adapter.image_tokens)

    def _wanted(self, chosen: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        return self.target([sample.caption for sample in chosen])

    @torch.no_grad()
    def _settle(self) -> None:
        """Compute everything once, in half precision on the CPU."""
        began = time.time()
        self.adapter.image_tokens.requires_grad_(False)

        def kept(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", torch.float16)

        def read(chosen: Sequence[Sample]) -> list[SlotStates]:
            return [
                replace(states, context=kept(states.context), text=kept(states.text)) for states in self._hidden(chosen)
            ]

        self.states = by_length(self.data.samples, read)
        wanted = [self._wanted(self.data.samples[i : i + 256]) for i in range(0, len(self.data.samples), 256)]
        self.embeds, self.pooled = (kept(torch.cat(parts)) for parts in zip(*wanted, strict=True))
        print(f"settled: {len(self.states)} samples in {time.time() - began:.0f} s", flush=True)


def by_length(samples: Sequence[Sample], read: Callable[[list[Sample]], Sequence[Item]]) -> list[Item]:
    """Call `read` with batches of samples of similar length, and return its results in the order of the samples."""
    order = sorted(range(len(samples)), key=lambda index: len(samples[index].conversation.turns))
    results: dict[int, Item] = {}
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        results.update(zip(part, read([samples[index] for index in part]), strict=True))
    return [results[index] for index in range(len(samples))]
