"""Slots of held-out stories of the picture book, on which a figure each is measured.

References are what each figure is about: earlier pictures, portraits as a cast has them, foreign pictures, two that
contradict each other. No story, wording or foreign style here is of a training.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..picturebook import foreign
from ..picturebook.dataset import Sample, samples
from ..picturebook.pool import portrait
from ..picturebook.stories.tale import Split
from ..picturebook.stories.teller import story
from ..picturebook.vocabulary import PLACE_PHRASES
from ..picturebook.words import Said, article, caption, listing
from ..picturebook.world import LOOKS, Character

HEAVY = 4.0  # weight of the reference that should win, beside one of weight 1

Form = Callable[[Sample, random.Random, Split], str]


def _plain(sample: Sample) -> str:
    return caption(sample.scene, sample.said)


def _named(sample: Sample) -> str:
    return caption(sample.scene, sample.said, names=sample.names)


def _place_first(sample: Sample) -> str:
    said = Said(sample.said.characters, sample.said.scene - {"place"})
    return f"{PLACE_PHRASES[sample.scene.place][0]}, {caption(sample.scene, said)}"


def _known(sample: Sample) -> str:
    species = sample.scene.characters[0].species
    return _plain(sample).replace(article(species), f"the {species}", 1)


# Ten ways in which people write the caption of one character that was seen before and has a name.
FORMS: dict[str, Form] = {
    "plain": lambda sample, rng, split: _plain(sample),
    "without articles": lambda sample, rng, split: re.sub(r"\ban? |\bthe ", "", _plain(sample)),
    "capital and full stop": lambda sample, rng, split: _plain(sample).capitalize() + ".",
    "large": lambda sample, rng, split: _plain(sample).upper(),
    "the": lambda sample, rng, split: _known(sample),
    "list": lambda sample, rng, split: listing(sample.scene, sample.said),
    "place first": lambda sample, rng, split: _place_first(sample),
    "other words": lambda sample, rng, split: caption(sample.scene, sample.said, rng, split=split),
    "name and kind": lambda sample, rng, split: caption(sample.scene, sample.said, names=sample.names),
    "name alone": lambda sample, rng, split: names_alone(
        caption(sample.scene, sample.said, names=sample.names), sample
    ),
}


class Cases:
    """Draws slots of held-out stories.

    Args:
        rng: The random numbers.
        split: Of the stories.
    """

    def __init__(self, rng: random.Random, split: Split = "test") -> None:
        self.rng, self.split = rng, split

    def slots(self, count: int, wanted: Callable[[Sample], bool]) -> list[Sample]:
        """Return `count` slots of held-out stories for which `wanted` is true, at most one of each story."""
        chosen: list[Sample] = []
        while len(chosen) < count:
            told = story(self.rng, self.split, exchanges=self.rng.choice((2, 3, 4)))
            suitable = [sample for sample in samples(told) if sample.is_clear and wanted(sample)]
            if suitable:
                chosen.append(self.rng.choice(suitable))
        return chosen

    def known(self, count: int) -> list[Sample]:
        """Slots whose references show characters of whose looks the caption says nothing."""
        return self.slots(count, lambda sample: any("look" in told for told in sample.known.values()))

    def newcomers(self, count: int) -> list[Sample]:
        """Slots of two, one of whom the references show; the other one is new. Their kinds differ."""

        def wanted(sample: Sample) -> bool:
            return _two_kinds(sample) and len(sample.newcomers) == 1 and _looks(sample) == 1

        return self.slots(count, wanted)

    def others(self, count: int) -> list[Sample]:
        """Slots with references that show nobody of the picture."""
        return self.slots(count, lambda sample: bool(sample.references) and len(sample.newcomers) == len(sample.who))

    def forms(self, count: int) -> list[Sample]:
        """Slots of one character that was seen before and has a name; the caption says nothing of its look."""
        return self.slots(count, lambda sample: _one(sample) and bool(sample.names[0]))

    def named_pairs(self, count: int) -> list[Sample]:
        """Slots of two kinds with names, each in a picture of its own; every other caption has the names alone."""

        def wanted(sample: Sample) -> bool:
            met = {*sample.who} <= sample.met
            free = not any("look" in said for said in sample.said.characters)
            return _two_kinds(sample) and met and all(sample.names) and free

        chosen = []
        for row, sample in enumerate(self.slots(count, wanted)):
            shown = [portrait(self.rng, *pair) for pair in zip(sample.scene.characters, sample.who, strict=True)]
            self.rng.shuffle(shown)
            sample = replace(sample, references=tuple(shown))
            chosen.append(sample.recaptioned(names_alone(sample.caption, sample)) if row % 2 else sample)
        return chosen

    def foreign(self, count: int) -> list[Sample]:
        """Slots of one character whose reference was not drawn by the renderer, in styles that no training has."""
        return [
            replace(sample, references=(portrait(self.rng, self._other(sample), sample.who[0], style=style),))
            for sample, style in zip(self.slots(count, _one), _turns(foreign.UNSEEN), strict=False)
        ]

    def weighted(self, count: int) -> list[Sample]:
        """Slots of one character with two references in unlike looks, one of them heavier."""
        chosen = []
        for sample in self.slots(count, _one):
            heavy = self._other(sample)
            light = replace(heavy, look=self.rng.choice([look for look in LOOKS if look != heavy.look]))
            who = sample.who[0]
            shown = [portrait(self.rng, heavy, who, weight=HEAVY), portrait(self.rng, light, who)]
            self.rng.shuffle(shown)
            chosen.append(replace(sample, references=tuple(shown)))
        return chosen

    def changes(self, count: int) -> list[Sample]:
        """Slots whose captions name a colour that is not the one that references show."""
        return self.slots(count, lambda sample: bool(changed(sample)))

    def lasting(self, count: int) -> list[tuple[Sample, Sample]]:
        """The first and the last picture of stories of at least four, in which a character is the same."""
        found: list[tuple[Sample, Sample]] = []
        while len(found) < count:
            told = samples(story(self.rng, self.split, exchanges=6))
            if len(told) < 4:
                continue
            first, last = told[0], told[-1]
            if _one(last) and first.who == last.who:  # nobody has changed its look
                found.append((first, last))
        return found

    def _other(self, sample: Sample) -> Character:
        return replace(sample.scene.characters[0], look=self.rng.choice(LOOKS), accessory="none")


def names_alone(text: str, sample: Sample) -> str:
    """Return a caption in which those who have a name are called by that alone: "Milo" for "Milo the sad fox"."""
    for name, actor in zip(sample.names, sample.scene.characters, strict=True):
        if name:
            text = re.sub(rf"\b{re.escape(name)} the (?:\w+ )*?{actor.species}\b", name, text)
    return text


def changed(sample: Sample) -> list[int]:
    """Return the indices of the characters whose named look is not the one that their references show."""
    found = []
    for index, (who, actor) in enumerate(zip(sample.who, sample.scene.characters, strict=True)):
        looks = [
            other.look
            for shown in sample.references
            for other, number in zip(shown.scene.characters, shown.who, strict=True)
            if number == who
        ]
        if "look" in sample.said.characters[index] and looks and looks[0] != actor.look:
            found.append(index)
    return found


def _one(sample: Sample) -> bool:
    return len(sample.who) == 1 and "look" in sample.known.get(0, {})


def _two_kinds(sample: Sample) -> bool:
    return len(sample.who) == 2 and len({actor.species for actor in sample.scene.characters}) == 2


def _looks(sample: Sample) -> int:
    return sum("look" in told for told in sample.known.values())


def _turns(items: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from items
