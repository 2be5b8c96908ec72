"""The plot of a story: what changes from one picture to the next, and what remains.

A `Stage` is what the last picture showed. A move makes the next stage of it and keeps everything else.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, Character, Scene
from .choose import Split
from .paragraphs import Event

# Of 20 compositions of species, place and prop, 18 are for training, one for validation and one for testing.
_PARTS = 20
_FALLBACK = ("stay", "go", "find", "vary_prop")


def composition_split(species: str, place: str, prop: str | None) -> Split:
    """Return the split that a composition belongs to; it is the same on every machine."""
    part = zlib.crc32(f"{species}/{place}/{prop}".encode()) % _PARTS
    return "validation" if part == 0 else "test" if part == 1 else "train"


@dataclass(frozen=True)
class Stage:
    """What the last picture showed, and what else the story knows.

    Attributes:
        hero: Species of the hero, to whom the story returns.
        actors: Species in the picture, one or two.
        prop: As in a Scene.
        place: As in a Scene.
        light: As in a Scene.
        weather: As in a Scene.
        looks: The look of every character of the story, by species.
        named: Species whose colour has been mentioned, so that captions mention it.
        home: (place, prop) of the hero while the picture shows others.
        event: The last move.
        turned: What the sky has just become.
        changed: With event "change", the index of the actor whose look changed.
    """

    hero: str
    actors: tuple[str, ...]
    prop: str | None
    place: str
    light: str = "day"
    weather: str = "clear"
    looks: dict[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    home: tuple[str, str | None] | None = None
    event: Event = "open"
    turned: tuple[str, ...] = ()
    changed: int = 0

    def scene(self) -> Scene:
        """Return the scene that a picture of this stage shows."""
        actors = tuple(Character(species, self.looks[species]) for species in self.actors)
        return Scene(actors, self.prop, self.place, self.light, self.weather)

    def named_indices(self) -> tuple[int, ...]:
        """Return the indices of the actors whose colour a caption names."""
        return tuple(index for index, species in enumerate(self.actors) if species in self.named)

    def belongs_to(self, split: Split) -> bool:
        """Return whether a picture of this stage may be in a split; training never sees a held-out composition."""
        parts = {composition_split(species, self.place, self.prop) for species in self.actors}
        return parts == {"train"} if split == "train" else split in parts


def with_looks(rng: random.Random, stage: Stage) -> Stage:
    """Return the stage with a look for each actor that has none yet."""
    missing = {species: rng.choice(LOOKS) for species in stage.actors if species not in stage.looks}
    return replace(stage, looks={**stage.looks, **missing}) if missing else stage


def other(rng: random.Random, items: Iterable[str], *taken: str | None) -> str:
    """Return a random item that is not taken."""
    return rng.choice([item for item in items if item not in taken])


def move(
    rng: random.Random, stage: Stage, kind: str, *, species: str = "", place: str = "", prop: str = "", sky: str = ""
) -> Stage | None:
    """Return the stage after a move, or None if the move makes no sense at this stage.

    Args:
        rng: Chooses what is not given.
        stage: The present stage.
        kind: go, stay, find, drop, sky, meet, part, elsewhere, answer, draw, return, change, vary_sky, vary_place,
            vary_prop.
        species: Of a new character, if the user names it.
        place: The new place, if the user names it.
        prop: The new prop, if the user names it.
        sky: The new light or weather, if the user names it.
    """
    alone, away = len(stage.actors) == 1, stage.hero not in stage.actors
    stage = replace(stage, turned=(), changed=0)
    if kind in ("go", "vary_place"):
        place = place or other(rng, PLACES, stage.place)
        found = replace(stage, event="go" if kind == "go" else "vary", place=place)
        return None if place == stage.place else with_drift(rng, found) if kind == "go" else found
    if kind == "stay":
        return replace(stage, event="stay")
    if kind == "find":
        prop = prop or other(rng, PROPS, stage.prop)
        return replace(stage, event="find", prop=prop) if prop != stage.prop else None
    if kind in ("drop", "vary_prop"):
        return replace(stage, event="drop", prop=None) if stage.prop else None
    if kind in ("sky", "vary_sky"):
        return _sky(rng, stage, sky, "sky" if kind == "sky" else "vary_sky")
    if kind == "meet":
        friend = species or (stage.actors[0] if away else other(rng, SPECIES, stage.hero))
        if not (alone and friend != stage.hero) or (not away and friend in stage.actors):
            return None
        return replace(stage, event="meet", actors=(stage.hero, friend), home=None)
    if kind == "part":
        return replace(stage, event="part", actors=(stage.hero,)) if not alone else None
    if kind in ("elsewhere", "answer", "draw"):
        species = species or other(rng, SPECIES, *stage.actors, stage.hero)
        if species in stage.actors or species == stage.hero:
            return None
        home = stage.home or (stage.place, stage.prop)
        place = place or (stage.place if kind == "draw" and rng.random() < 0.2 else other(rng, PLACES, stage.place))
        invented = prop or (rng.choice(PROPS) if kind == "elsewhere" and rng.random() < 0.5 else None)
        return replace(stage, event=kind, actors=(species,), place=place, prop=invented, home=home)  # type: ignore[arg-type]
    if kind == "return":
        if not away or stage.home is None:
            return None
        return replace(stage, event="return", actors=(stage.hero,), place=stage.home[0], prop=stage.home[1], home=None)
    if kind == "change":
        index = rng.randrange(len(stage.actors))
        changing = stage.actors[index]
        looks = {**stage.looks, changing: other(rng, LOOKS, stage.looks[changing])}
        return replace(stage, event="change", looks=looks, named=stage.named | {changing}, changed=index)
    raise ValueError(f"unknown move {kind!r}")


def with_drift(rng: random.Random, stage: Stage) -> Stage:
    """Sometimes let the sky change on the way to another place."""
    turned = _sky(rng, stage, "", stage.event) if rng.random() < 0.15 else None
    return turned or stage


def next_move(rng: random.Random, stage: Stage) -> str:
    """Return a move for an assistant that is free to choose."""
    if stage.hero not in stage.actors:
        return rng.choices(("return", "meet"), (3, 1))[0]
    if len(stage.actors) > 1:
        return rng.choices(("go", "stay", "find", "sky", "part", "elsewhere"), (34, 30, 8, 12, 10, 6))[0]
    return rng.choices(
        ("go", "stay", "find", "sky", "meet", "elsewhere"), (32, 22, 12 if stage.prop else 20, 12, 14, 8)
    )[0]


def moved(rng: random.Random, split: Split, stage: Stage, kind: str | None = None, **said: str) -> Stage | None:
    """Return the stage of a split after a move, or None if it is impossible; without `kind`, any possible move."""
    for _ in range(12):
        chosen = kind or next_move(rng, stage)
        after = move(rng, stage, chosen, **said)
        if after is not None:
            after = with_looks(rng, after)
            if split != "train" or after.belongs_to("train"):
                return after
    if kind is not None:
        return None
    for chosen in _FALLBACK:
        after = move(rng, stage, chosen)
        if after is not None and (split != "train" or after.belongs_to("train")):
            return after
    return replace(stage, event="stay", turned=())


def _sky(rng: random.Random, stage: Stage, sky: str, event: Event) -> Stage | None:
    choices = [item for item in (*LIGHTS, *WEATHERS) if item not in (stage.light, stage.weather)]
    sky = sky or rng.choice(choices)
    if sky not in choices:
        return None
    changed = {"light": sky} if sky in LIGHTS else {"weather": sky}
    return replace(stage, event=event, turned=(sky,) if event != "vary_sky" else (), **changed)  # type: ignore[arg-type]
