"""Stories with an arc: a wish or a trouble, a try or several, and the ending that the premise promised.

A plot is a list of beats, one for each picture: a stage, and a sentence that tells what the picture cannot show. Its
premise says the wish or the trouble, and often the ending.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...storybook.wording.choose import allowed
from ..words import article
from ..world import PLACES, SPECIES
from . import lexicon
from .stage import Actor, Stage, new_actor, other
from .tale import Split

NUMBERS = {
    1: ("one", "1", "a single"),
    2: ("two", "2"),
    3: ("three", "3"),
    4: ("four", "4"),
    5: ("five", "5"),
    6: ("six", "6"),
    7: ("seven", "7"),
    8: ("eight", "8"),
}  # fmt: skip
IN_PICTURES = (
    "{x}, in {n} {p}", "{n} {p}: {x}", "{x} ({n} {p})", "{x}. {n_c} {p}.", "Tell it in {n} {p}: {x}",
    "{x} - {n} {p} please", "Make {n} {p}. {x}", "Give me {n} {p} of this: {x}", "{x}, {n} {p}",
    "I want {n} {p}. {x}", "A story in {n} {p}: {x}", "{x}\n{n} {p}", "Please draw {n} {p}: {x}",
)  # fmt: skip
PLAIN = (
    "{x}", "{x}.", "{x}", "Tell me this story: {x}", "Story: {x}", "{x}...", "A bedtime story: {x}",
    "Please tell how {x}", "Once upon a time {x}", "{x}!", "It goes like this: {x}",
)  # fmt: skip
TOPICS = (
    "a story about {who}", "{who} having a day out", "{who} on a journey", "an adventure of {who}", "a tale of {who}",
    "a bedtime story about {who}", "something with {who}", "the story of {who}", "a day in the life of {who}",
    "{who} and what happens then", "a little book about {who}", "about {who}", "{who}",
)  # fmt: skip
THEM = {
    "it": "it",
    "she": "her",
    "he": "him",
}  # fmt: skip
ITS = {
    "it": "its",
    "she": "her",
    "he": "his",
}  # fmt: skip
AND_THEN = (
    ". In the end ", ". At last ", " and then ", ", but in the end ", " and finally ", ". Then ", ". Finally ",
    ", and at the end ",
)  # fmt: skip


@dataclass(frozen=True)
class Beat:
    """A picture of a plot, with a sentence before what the picture shows and one after it."""

    stage: Stage
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Plot:
    """A premise and its beats."""

    premise: str
    beats: tuple[Beat, ...]
    count_said: bool = False


class Plots:
    """What all plots have in common.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def _pick(self, items: Sequence[str]) -> str:
        return self.rng.choice(allowed(items, self.split))

    def _say(self, items: Sequence[str], **slots: str) -> str:
        """Return a random sentence that the split may use, with its slots filled."""
        return self._pick(items).format_map(slots)

    def _filled(self, items: Sequence[str], **slots: str) -> list[str]:
        """Return sentences with their slots filled."""
        return [item.format_map(slots) for item in items]

    def _hero(self) -> Actor:
        hero = new_actor(self.rng, 0, self.rng.choice(SPECIES))
        if self.rng.random() < 0.3:
            name, she = lexicon.name(self.rng, self.split)
            hero = replace(hero, name=name, she=she)
        return hero

    def _friend(self, hero: Actor, *, number: int = 1) -> Actor:
        friend = new_actor(self.rng, number, other(self.rng, SPECIES, hero.character.species))
        if hero.name and self.rng.random() < 0.6:
            name, she = lexicon.name(self.rng, self.split, hero.name)
            friend = replace(friend, name=name, she=she)
        return friend

    def _new(self, actor: Actor) -> str:
        """Return how a premise speaks of somebody: "a fox", "Milo the fox"."""
        species = actor.character.species
        if actor.name:
            return self.rng.choice(
                (
                    f"{actor.name} the {species}",
                    f"{article(species)} named {actor.name}",
                    f"{actor.name}, {article(species)},",
                )
            )
        return self.rng.choice((article(species), article(species), f"a little {species}", f"the {species}"))

    def _it(self, actor: Actor) -> str:
        if actor.name:
            return "she" if actor.she else "he"
        return self.rng.choice(("it", "it", "he", "she"))

    def _tries(
        self, count: int, stage: Stage, sentences: Sequence[str], actions: Sequence[str], *, goal: str = ""
    ) -> list[Beat]:
        """Return beats between beginning and ending, each at another place, but for the goal, with another action."""
        beats: list[Beat] = []
        taken = [stage.place, goal]
        said = self.rng.sample(list(sentences), len(sentences))
        for index in range(count):
            place = other(self.rng, PLACES, *taken)
            taken.append(place)
            stage = replace(stage, place=place).all_now(action=self.rng.choice(list(actions)), mood="calm")
            beats.append(Beat(stage, said[index % len(said)]))
        return beats

    def _fit(self, count: int, first: Beat, tries: list[Beat], last: Beat) -> list[Beat]:
        """Return as many beats as there are pictures: a single one is the ending."""
        return [Beat(last.stage, after=last.before)] if count == 1 else [first, *tries[: count - 2], last]
