"""What the last picture of a story showed: its characters by name, and what captions say of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..words import Said, caption
from ..world import LOOKS, PLACES, SIDEWAYS, Character, Scene, Split, splits_of
from .tale import Panel

# What a user asked for is said in every later caption: no reference shows it reliably, and it must not be forgotten.
LASTING = ("look", "accessory")


@dataclass(frozen=True)
class Actor:
    """A character in a story.

    Attributes:
        number: Its own, throughout the story.
        character: What it looks like and does in this picture.
        name: What it is called; "" without a name.
        said: Which of its look, accessory, facing and near captions say, because somebody asked for them.
        she: Whether someone with a name is a she.
    """

    number: int
    character: Character
    name: str = ""
    said: frozenset[str] = frozenset()
    she: bool = False

    def now(self, **changes: Any) -> Actor:
        """Return the actor with changes of its character; only with "holds" does it hold anything."""
        if changes.get("action", "holds") != "holds":
            changes["held"] = None
        return replace(self, character=replace(self.character, **changes))

    def saying(self, *facts: str) -> Actor:
        """Return the actor with more facts that captions say."""
        return replace(self, said=self.said | {*facts})


@dataclass(frozen=True)
class Stage:
    """All that a picture of the story shows.

    Attributes:
        actors: One to three, from left to right.
        place: As in a Scene.
        light: As in a Scene.
        weather: As in a Scene.
        props: As in a Scene.
        spoken: Which of "light" and "weather" the next caption says although they are plain: they have just become so.
    """

    actors: tuple[Actor, ...]
    place: str
    light: str = "day"
    weather: str = "clear"
    props: tuple[str, ...] = ()
    spoken: frozenset[str] = field(default_factory=frozenset)

    @property
    def hero(self) -> Actor:
        """The first actor."""
        return self.actors[0]

    def scene(self) -> Scene:
        """Return the scene that a picture of this stage shows."""
        return Scene(tuple(actor.character for actor in self.actors), self.place, self.light, self.weather, self.props)

    def things(self) -> set[str]:
        """Return all props, standing or held."""
        return {*self.props, *(actor.character.held for actor in self.actors if actor.character.held)}

    def all_now(self, **changes: Any) -> Stage:
        """Return the stage with changes of every actor."""
        return replace(self, actors=tuple(actor.now(**changes) for actor in self.actors))

    def with_hero(self, hero: Actor) -> Stage:
        """Return the stage with another first actor."""
        return replace(self, actors=(hero, *self.actors[1:]))

    def later(self) -> Stage:
        """Return the stage as the next picture takes it over: what was said for the moment is forgotten."""
        actors = tuple(replace(actor, said=actor.said & {*LASTING}) for actor in self.actors)
        return replace(self, actors=actors, spoken=frozenset())

    def normal(self) -> Stage:
        """Return the stage without words about a light or a weather that is not plain: they are said anyway."""
        plain = {
            fact
            for fact, is_plain in (("light", self.light == "day"), ("weather", self.weather == "clear"))
            if is_plain
        }
        return replace(self, spoken=self.spoken & plain)

    def told(self) -> tuple[frozenset[str], ...]:
        """Return, for each actor, the facts that a caption says."""
        facts = []
        active = {actor.character.action for actor in self.actors} != {"stands"}
        for actor in self.actors:
            said = set(actor.said)
            if active:
                said.add("action")
            if actor.character.mood != "calm":
                said.add("mood")
            if actor.character.species not in SIDEWAYS:
                said.discard("facing")
            facts.append(frozenset(said))
        return tuple(facts)

    def said(self) -> Said:
        """Return what a caption of this stage says."""
        scene = {"place", *self.spoken}
        if self.light != "day":
            scene.add("light")
        if self.weather != "clear":
            scene.add("weather")
        if self.props:
            scene.add("props")
        return Said(self.told(), frozenset(scene))

    def caption(self) -> str:
        """Return the canonical caption with the actors' names."""
        return caption(self.scene(), self.said(), names=[actor.name for actor in self.actors])

    def panel(self, text: str) -> Panel:
        """Return a panel that shows this stage."""
        names, who = tuple(actor.name for actor in self.actors), tuple(actor.number for actor in self.actors)
        said = self.said()
        return Panel(text, self.scene(), self.caption(), names, who, said.characters, said.scene)

    def fits(self, split: Split) -> bool:
        """Return whether a picture of this stage may be in a split; training never sees a held-out composition."""
        return splits_of(self.scene()) == {"train"} if split == "train" else split in splits_of(self.scene())


def new_actor(rng: random.Random, number: int, species: str, **changes: Any) -> Actor:
    """Return an actor with a random look that stands calmly and wears nothing."""
    character = Character(species, rng.choice(LOOKS), facing=rng.choice(("left", "right")))
    return Actor(number, character).now(**changes)


def other(rng: random.Random, items: Iterable[str], *taken: str | None) -> str:
    """Return a random item that is not taken."""
    return rng.choice([item for item in items if item not in taken])


def place_for(rng: random.Random, *actions: str) -> str:
    """Return a place where nobody is surprised by what happens: one swims where there is water."""
    return rng.choice(("lake", "beach")) if "swims" in actions else rng.choice(PLACES)
