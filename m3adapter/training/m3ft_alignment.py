"""What M3FT's first stage learns from: hidden states of slots, and the decoder's own embeddings of their captions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..adapter.features import SlotFeatures
from ..adapter.m3_adapter import M3Adapter
from ..diffusion.condition import Condition
from ..diffusion.decoder import DiffusionDecoder
from ..language.language_model import LanguageModel, SlotStates
from ..storybook.dataset import Sample, aside
from .caches import CaptionEmbeddings, near
from .decoder_pictures import embed
from .kept import digest
from .kept import kept as kept_in
from .loop import autocast
from .m3ft_data import Pool
from .whitening import Whitening

Item = TypeVar("Item")


class Target:
    """The decoder's own embeddings of captions, and the distance of a condition from them.

    Distances are measured between whitened embeddings: most of the plain variance is about the position of words, and
    an error that is small beside it can still turn a fox into an owl.
    """

    def __init__(self, decoder: DiffusionDecoder, captions: list[str], megabytes: float = 0) -> None:
        """Measure the whitening on captions.

        Args:
            decoder: Encodes captions.
            captions: Those to measure.
            megabytes: The most memory of the embeddings that are kept once they were computed.
        """
        self.embeddings = CaptionEmbeddings(decoder.pipeline, megabytes)
        self.whitening = Whitening.measure(*embed(decoder.pipeline, captions))

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, N, D] and pooled ones [B, P] of captions."""
        return self.embeddings(captions)

    def told(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Return what only the references tell, as differences of embeddings [B, N, D] and of pooled ones [B, P].

        They are zero for samples whose references tell nothing.
        """
        rows = [row for row, sample in enumerate(samples) if sample.known]
        # If there are none, the first sample is compared with itself.
        chosen = [samples[row] for row in rows or [0]]
        both = self([*(sample.caption for sample in chosen), *(aside(sample) for sample in chosen)])
        plain, full = zip(*(part.chunk(2) for part in both), strict=True)
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


@dataclass(frozen=True)
class Settled:
    """Hidden states of all samples, in half precision, filled up to the longest.

    Attributes:
        context: States at captions and image tokens [samples, length, H].
        text: States at texts and captions [samples, length, H].
        lengths: Of both, for each sample [samples, 2], on the CPU.
    """

    context: Tensor
    text: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, states: Sequence[SlotStates]) -> Settled:
        """Fill up and stack the states of samples."""
        parts = [[state.context for state in states], [state.text for state in states]]
        lengths = torch.tensor([[len(state) for state in part] for part in parts]).T.contiguous()
        context, text = (pad_sequence(part, batch_first=True) for part in parts)
        return cls(context, text, lengths)

    def batch(self, rows: Tensor, device: torch.device, captions: Sequence[str]) -> SlotFeatures:
        """Return the features of the samples in `rows`, as long as the longest of them."""
        found: dict[str, Tensor] = {}
        for column, name in enumerate(("context", "text")):
            kept: Tensor = getattr(self, name)
            lengths = self.lengths[rows, column]
            longest = int(lengths.max())
            found[name] = kept[rows.to(kept.device), :longest].to(device, torch.float32)
            found[f"{name}_mask"] = (torch.arange(longest) < lengths[:, None]).to(device)
        nothing = found["context"].new_zeros(len(rows), 0, 1, 1, 1)
        mask = torch.zeros(len(rows), 0, dtype=torch.bool, device=device)
        return SlotFeatures(**found, vision=nothing, vision_mask=mask, captions=tuple(captions))  # type: ignore[arg-type]


class Alignment:
    """The batches of stage 1: inputs of the adapter, and the embeddings of captions.

    Args:
        data: The samples.
        adapter: The one in training; only its image tokens matter here.
        language: The frozen language model.
        target: Encodes the captions.
        megabytes: The most memory of the device for hidden states; more of them stay on the CPU.
        path: A file that keeps the hidden states between runs.
    """

    def __init__(
        self,
        data: Pool,
        adapter: M3Adapter,
        language: LanguageModel,
        target: Target,
        megabytes: float = 0,
        path: Path | None = None,
    ) -> None:
        """Compute nothing yet."""
        self.data, self.adapter, self.language, self.target = data, adapter, language, target
        self.megabytes, self.path = megabytes, path
        self.settled: Settled | None = None

    def batch(self, index: Sequence[int], *, settled: bool) -> tuple[SlotFeatures, Tensor, Tensor]:
        """Return features, embeddings [B, N, D] and pooled embeddings [B, P] of the samples at `index`.

        Once the image tokens are `settled`, the states are computed at the first call and then taken from a cache.
        """
        chosen = [self.data.samples[i] for i in index]
        captions = [sample.caption for sample in chosen]
        if not settled:
            return SlotFeatures.collate([(state, None) for state in self._hidden(chosen)]), *self.target(captions)
        self.settled = self.settled or self._settle()
        return self.settled.batch(torch.tensor(index), self.adapter.image_tokens.device, captions), *self.target(
            captions
        )

    def _hidden(self, chosen: Sequence[Sample]) -> list[SlotStates]:
        requests = [(sample.conversation, sample.slot, ()) for sample in chosen]
        with autocast():
            return self.language.encode_slots(requests, self.adapter.image_tokens)

    @torch.no_grad()
    def _settle(self) -> Settled:
        """Compute the states of all samples once, in half precision, unless an earlier run has kept them."""
        self.adapter.image_tokens.requires_grad_(False)

        def kept(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", torch.float16)

        def read(chosen: Sequence[Sample]) -> list[SlotStates]:
            return [
                replace(states, context=kept(states.context), text=kept(states.text)) for states in self._hidden(chosen)
            ]

        def make() -> dict[str, Tensor]:
            began = time.time()
            made = vars(Settled.of(by_length(self.data.samples, read)))
            print(f"settled: {len(self.data.samples)} samples in {time.time() - began:.0f} s", flush=True)
            return made

        samples = [(sample.conversation.turns, sample.slot) for sample in self.data.samples] if self.path else []
        key = digest(samples, self.language.model, self.adapter.image_tokens) if self.path else ""
        found = Settled(**kept_in(self.path, key, make))
        device = self.adapter.image_tokens.device
        return replace(
            found, context=near(found.context, device, self.megabytes), text=near(found.text, device, self.megabytes)
        )


def by_length(samples: Sequence[Sample], read: Callable[[list[Sample]], Sequence[Item]]) -> list[Item]:
    """Call `read` with batches of samples of similar length, and return its results in the order of the samples."""
    order = sorted(range(len(samples)), key=lambda index: len(samples[index].conversation.turns))
    results: dict[int, Item] = {}
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        results.update(zip(part, read([samples[index] for index in part]), strict=True))
    return [results[index] for index in range(len(samples))]
