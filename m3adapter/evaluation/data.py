"""Measures a model on any data set: pictures are painted over the gate, and evaluators compare them with the data's.

Every slot is painted with the same noise at every gate, from the conversation before it and the data's own references.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from .. import stages
from ..adapter.features import SlotFeatures
from ..arguments import UserError, mendable
from ..conversation.references import Reference
from ..datasets.sample import Dataset, Sample
from ..pipeline import M2Chat
from ..settings import changed
from .evaluators import Evaluator, Figures
from .replies import Replies

if TYPE_CHECKING:
    from ..adapter.vision_encoder import VisionFeatures

GATES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# Figures that compare with the data's own pictures and say nothing of these themselves.
AGAINST_DATA = ("clip_i_target", "dino_target", "lpips_target", "fid", "kid", "mm_relevance")
DIGITS = 6

OnProgress = Callable[[str, int, int], None]  # what is done, how many are, and of how many


@dataclass
class Measurement:
    """What is measured, and on what.

    Attributes:
        model: Paints the pictures.
        data: The data set.
        evaluators: What measures them.
        without: Figures that nothing measures, and why.
        gates: Strengths of the gate, each of which is measured.
        pictures: How many samples are painted at every gate, at most.
        replies: Measures MM-Relevance, if that is wanted.
        seed: Chooses samples and noise.
        settings: How to paint: steps, guidance, width, height, batch_size.
    """

    model: M2Chat
    data: Dataset
    evaluators: Sequence[Evaluator]
    without: dict[str, str] = field(default_factory=dict)
    gates: Sequence[float] = GATES
    pictures: int = 50
    replies: Replies | None = None
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def run(self, on_report: Callable[[dict[str, Any]], None], on_progress: OnProgress) -> dict[str, Any]:
        """Measure, and return the report.

        `on_report` gets the report so far after every gate, so that nothing is lost if the measurement is stopped:
        `complete` is false then.

        Raises:
            UserError: The models do not fit each other, or there is no caption that can be painted.
        """
        began = time.time()
        everything = chosen(self.data, self.pictures, random.Random(f"evaluate data {self.seed}"))
        samples = [sample for sample in everything if self.model.decoder.takes(sample.caption)]
        if not samples:
            raise UserError("All captions are longer than the decoder takes: shorten those of the data set.")
        self._check(next((sample for sample in samples if sample.references), samples[0]))
        rng = random.Random(f"evaluate noise {self.seed}")
        seeds = [rng.randrange(2**32) for _ in samples]
        left_out = dict(self.without)
        report: dict[str, Any] = {
            "seed": self.seed,
            "complete": False,
            "data": self.data.report.to_dict(),
            "pictures": len(samples),
            "captions_too_long": [one.source for one in everything if not self.model.decoder.takes(one.caption)],
            "with_references": sum(bool(sample.references) for sample in samples),
            "with_unseen_pictures_of_users": unseen(self.model, samples),
            **{name: value for name, value in self.settings.items() if value},
            "evaluators": {one.name: getattr(getattr(one, "network", None), "name", None) for one in self.evaluators},
            "left_out": left_out,
        }
        on_progress("looking at the data's own pictures", 0, len(samples))
        report["data_itself"] = self._figures(
            samples, [sample.picture.pixels for sample in samples], left_out, own=True
        )
        report["gate_curve"] = []
        for gate in self.gates:
            painted = Pictures()
            for picture in self._painted(samples, seeds, gate):
                painted.add(picture)
                on_progress(f"gate {gate:g}", len(painted), len(samples))
            row = self._figures(samples, painted, left_out)
            if self.replies is not None:
                row["mm_relevance"] = self.replies.measure(gate, partial(on_progress, f"replies at gate {gate:g}"))
            rounded = {name: None if value is None else round(value, DIGITS) for name, value in row.items()}
            report["gate_curve"].append({"gate": gate, **rounded})
            report["seconds"] = round(time.time() - began)
            on_report(report)
        report["complete"] = True
        on_report(report)
        return report

    def _figures(
        self, samples: Sequence[Sample], pictures: Sequence[Tensor], left_out: dict[str, str], *, own: bool = False
    ) -> dict[str, float | None]:
        """Return the figures of all evaluators; None are those that are left out."""
        row: dict[str, float | None] = dict.fromkeys(self.without)
        for evaluator in self.evaluators:
            found: Figures = evaluator.measure(samples, pictures)
            for name, value in found.items():
                if isinstance(value, str):
                    if not own:  # the data's pictures may have another size than those that are painted
                        left_out[name] = value
                    row[name] = None
                else:
                    row[name] = None if own and name in AGAINST_DATA else round(value, DIGITS)
        return row

    def _painted(self, samples: Sequence[Sample], seeds: Sequence[int], gate: float) -> Iterator[Tensor]:
        """Paint a picture for every sample."""
        size = max(1, self.settings.get("batch_size", 1))
        for start in range(0, len(samples), size):
            part = range(start, min(start + size, len(samples)))
            conditions = [self.model.fuse(features(self.model, samples[row]), gate) for row in part]
            yield from self.model.paint_all(conditions, [seeds[row] for row in part], **self.settings)

    def _check(self, sample: Sample) -> None:
        """Raise UserError if the models do not fit each other, or cannot paint as the settings say."""
        with mendable():
            settings = changed(None, self.settings)
            if settings.width or settings.height:
                self.model.decoder.check_size(settings.width, settings.height)
            self.model.fuse(features(self.model, sample), 1.0)


class Pictures(Sequence[Tensor]):
    """Painted pictures with 8 bits a value, as they would be saved: a quarter of the memory."""

    def __init__(self) -> None:
        self._pictures: list[Tensor] = []

    def add(self, picture: Tensor) -> None:
        """Keep a picture [H, W, 3] in 0..1."""
        self._pictures.append((picture.detach().clamp(0, 1) * 255).round().byte().cpu())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pictures)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Return a picture [H, W, 3] in 0..1."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._pictures[index].float() / 255


def chosen(data: Dataset, count: int, rng: random.Random) -> list[Sample]:
    """Return `count` samples at most, those with references first, in the order of the data."""
    order = rng.sample(range(len(data)), len(data))
    found: list[int] = []
    others: list[int] = []
    for index in order:
        if len(found) == count:
            break
        (found if data[index].references else others).append(index)
    return [data[index] for index in sorted((found + others)[:count])]


def unseen(model: M2Chat, samples: Sequence[Sample]) -> int:
    """Return in how many samples a user shows pictures that the language model cannot see."""
    if model.language_model.sees != "not at all":
        return 0
    return sum(bool(sample.conversation.user_slots(before=sample.slot)) for sample in samples)


@torch.no_grad()
def features(model: M2Chat, sample: Sample) -> SlotFeatures:
    """Return what language model and vision encoder know of a sample's picture, from the sample's own references.

    A language model that cannot see reads the words beside users' pictures, as it does in training.
    """
    language, tokens = model.language_model, model.adapter.image_tokens
    visual: Sequence[Tensor] = ()
    if language.sees == "projection":
        shown = stages.UserPictures(language, model.vision_encoder, model.prepare)
        visual = shown.features(sample.conversation, sample.slot)
    model.prepare("language_model")
    states = language.encode_slot(sample.conversation, sample.slot, tokens, visual=visual)
    references: Sequence[Reference] = sample.references[: model.adapter.config.references]
    if not references or not stages.uses_references(model.adapter, model.vision_encoder):
        return SlotFeatures.collate([(states, None)])
    seen: VisionFeatures = model.see([reference.picture.pixels for reference in references])
    found, weights = SlotFeatures.collate([(states, seen)]), [reference.weight for reference in references]
    if all(weight == 1 for weight in weights):
        return found
    return replace(found, vision_weight=torch.tensor([weights], device=found.vision.device))
