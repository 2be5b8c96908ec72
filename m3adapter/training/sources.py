"""The samples that a recipe names: a data set on the disk, or a world that the library draws itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..arguments import UserError
from ..conversation.references import Reference
from ..datasets.mining import Paired, by_likeness
from ..datasets.opening import open_dataset
from ..datasets.sample import Dataset, DatasetError, Sample
from ..values import is_number, is_whole, shown
from ..weights.starter import WORLDS
from .loop import accelerator

if TYPE_CHECKING:
    from ..datasets.report import Report
    from .frozen import Frozen
    from .recipe import Recipe


REMEMBERED = 100_000  # samples
READING = ("held_out", "check", "history")  # the options of data sets on the disk
# The options of the storybook, each a part of what it draws.
PARTS = {"retyped": "captions", "foreign": "references to one character"}


class Remembered:
    """A data set whose samples are made once, as long as there is room; their pictures are still read when needed."""

    def __init__(self, whole: Dataset) -> None:
        self.whole = whole
        self._samples: dict[int, Sample] = {}

    @property
    def report(self) -> Report:
        """That of the whole."""
        return self.whole.report

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        found = self._samples.get(index)
        if found is None:
            found = self.whole[index]
            if len(self._samples) < REMEMBERED:
                self._samples[index] = found
        return found

    def exchanged(self, index: int, rng: random.Random) -> Sample:
        """Return a sample with references of another conversation."""
        return self.whole.exchanged(index, rng)

    def key(self, index: int) -> str:
        """Return the digest of a sample."""
        return self.whole.key(index)

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of a sample's picture."""
        return self.whole.size(index)


class Some:
    """Some of a data set's samples, always the same ones."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)

    @property
    def report(self) -> Report:
        """That of the whole."""
        return self.whole.report

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Sample]:
        return (self.whole[index] for index in self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.whole[self.indices[index]]

    def exchanged(self, index: int, rng: random.Random) -> Sample:
        """Return a sample with references of another conversation, which may be any of the whole."""
        return self.whole.exchanged(self.indices[index], rng)

    def key(self, index: int) -> str:
        """Return the digest of a sample."""
        return self.whole.key(self.indices[index])

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of a sample's picture."""
        return self.whole.size(self.indices[index])


def check_options(recipe: Recipe) -> None:
    """Raise UserError unless a recipe's data set has the options that it is given, and they are in range."""
    world, given = recipe.data.path, recipe.data.options
    if world in WORLDS:
        unknown = given.keys() - (PARTS if world == "storybook" else {}).keys()
        if unknown:
            raise UserError(
                f"data.options has {', '.join(sorted(unknown))}, which {world} does not know: leave it out."
            )
        for name, part in given.items():
            if not is_number(part, 0, 1):
                raise UserError(
                    f"data.options.{name} is {shown(part)}: give the part of the {PARTS[name]}, a number of 0..1."
                )
        return
    # A node gives a function, which no file can.
    unknown = {name for name, value in given.items() if name not in READING and not callable(value)}
    if unknown:
        raise UserError(
            f"data.options has what the data set does not take ({shown(', '.join(sorted(unknown)))}): it takes "
            "held_out, check and history."
        )
    if "check" in given and not isinstance(given["check"], bool):
        raise UserError(f"data.options.check is {shown(given['check'])}: give true or false.")
    if "held_out" in given and not is_number(given["held_out"], 0, 0.5):
        raise UserError(f"data.options.held_out is {shown(given['held_out'])}: give a number from 0 to 0.5.")
    if "history" in given and not is_whole(given["history"], 1, 2**31):
        raise UserError(f"data.options.history is {shown(given['history'])}: give a whole number from 1.")


def open_samples(recipe: Recipe, stage: int, opened: dict[str, Dataset] | None = None) -> tuple[Dataset, list[Sample]]:
    """Return the samples that a stage learns from, and those on which it is measured; prints what was left out.

    Args:
        recipe: The recipe.
        stage: 1 or 2.
        opened: Parts of the data set that were read already, by their names; those that are read now are added.

    Raises:
        UserError: The data set cannot be used.
    """
    data, most = recipe.data, getattr(recipe, f"stage{stage}").samples
    if data.path in WORLDS:
        return Remembered(_drawn(recipe, stage)), []
    opened = {} if opened is None else opened
    whole = Remembered(_opened(recipe, data.split, opened))
    if accelerator().is_main_process:
        print(whole.report, flush=True)
    chosen: Dataset = whole
    if most and most < len(whole):
        chosen = Some(whole, sorted(random.Random(recipe.run.seed).sample(range(len(whole)), most)))
    if not data.validation:
        return chosen, []
    try:
        held = _opened(recipe, data.validation, opened)
    except UserError:
        if len(whole) > 1:
            raise
        return chosen, []  # of a single sample, nothing can be held out
    count = min(recipe.run.validation_samples, len(held))
    return chosen, [held[index] for index in sorted(random.Random(0).sample(range(len(held)), count))]


def by_looks(
    samples: Dataset, held_out: Sequence[Sample], frozen: Frozen, threshold: float
) -> tuple[Dataset, list[Sample]]:
    """Return samples whose pictures without references have those as references that the vision encoder finds alike.

    Copies of a picture are no references of it: they would teach to copy. Held-out samples may have references among
    the others.

    Args:
        samples: What is learned from.
        held_out: What is measured on.
        frozen: Asks the vision encoder, and keeps what it says.
        threshold: The least cosine of two pictures that are alike.
    """
    count = len(samples)
    pictures = [samples[index].picture for index in range(count)] + [sample.picture for sample in held_out]
    found = by_likeness(frozen.looks_of(pictures), threshold)
    pairs = [pair for pair in found if pictures[pair.one].digest != pictures[pair.other].digest]
    learned = Paired(samples, [pair for pair in pairs if pair.other < count])
    if accelerator().is_main_process:
        paired = sum(bool(learned[index].references) for index in range(count))
        print(f"references by likeness: {paired} of {count} samples have some", flush=True)
    measured = []
    for place, sample in enumerate(held_out, count):
        ones = sorted(pair.one for pair in pairs if pair.other == place)
        given = sample.references or tuple(Reference(pictures[one], 1.0) for one in ones)
        measured.append(replace(sample, references=given))
    return learned, measured


def _drawn(recipe: Recipe, stage: int) -> Any:
    """Return what a stage learns from in a world that the library draws."""
    count = getattr(recipe, f"stage{stage}").samples or 6000
    check_options(recipe)
    world = recipe.data.path
    parts = {name: recipe.data.options.get(name, 0.0) for name in PARTS}
    if world == "picturebook":
        from ..picturebook.pictures import Picturebook

        return Picturebook.draw(stage, recipe.run.seed, count)
    from ..storybook.pictures import Foreign, Storybook

    foreign = Foreign(parts["foreign"], _drawn_otherwise) if parts["foreign"] else None
    return Storybook.draw(stage, recipe.run.seed, count, retyped=parts["retyped"], foreign=foreign)


def _drawn_otherwise(actor: Any, number: int) -> Any:
    """Return a picture of a character of the storybook in one of the styles that trainings may see."""
    from ..picturebook.foreign import STYLES
    from ..picturebook.pictures import Drawn
    from ..picturebook.world import PLACES, Character, Scene

    alone = Scene((Character(actor.species, actor.look, facing=("left", "right")[number % 2]),), PLACES[0])
    return Drawn(alone, number, style=STYLES[number // 2 % len(STYLES)], worn=True)


def _opened(recipe: Recipe, split: str, opened: dict[str, Dataset]) -> Dataset:
    data = recipe.data
    try:
        if split not in opened:
            opened[split] = open_dataset(data.path, data.kind or None, split=split or None, **data.options)
        return opened[split]
    except DatasetError as error:
        raise UserError(str(error)) from error
    except TypeError as error:
        raise UserError(f"data.options has what the data set does not take ({error}).") from error
