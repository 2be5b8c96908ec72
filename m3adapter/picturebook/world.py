"""What exists in the picture book, and which scenes there are.

A character has a *species*, which every text names; a look (the *colour* of its coat and an *accessory*), which it
keeps and which a reference can show; and what it does and feels in one picture (*action*, *mood*, *facing*, *near*).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

SPECIES = (
    "rabbit", "squirrel", "hedgehog", "turtle", "elephant", "dinosaur", "snail", "duck", "penguin", "owl", "cat",
    "dog", "pig", "sheep", "mouse", "giraffe", "kangaroo", "frog", "bear", "fox", "lion", "monkey", "tiger", "horse",
    "cow", "panda",
)  # fmt: skip
LOOKS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey")
ACCESSORIES = ("none", "scarf", "hat", "glasses")
ACTIONS = ("stands", "sleeps", "jumps", "runs", "swims", "holds", "hides")
MOODS = ("calm", "happy", "sad", "afraid")
FACINGS = ("left", "right")
SPOTS = ("left", "middle", "right")
PLACES = (
    "forest", "beach", "desert", "mountains", "city", "meadow", "castle", "village", "volcano", "camp", "lake", "fair",
)  # fmt: skip
ROCKY = frozenset(("beach", "desert", "mountains", "city", "volcano"))  # with rocks to hide behind instead of bushes
PROPS = (
    "balloon", "kite", "umbrella", "guitar", "cake", "key", "gift", "ball", "drum", "book", "sunflower", "bucket",
    "apple", "lantern", "trumpet", "rocket",
)  # fmt: skip
LIGHTS = ("day", "sunset", "night")
WEATHERS = ("clear", "rain", "snow")
# Drawn from the side, so that they face left or right; the others look at the reader.
SIDEWAYS = frozenset(
    [
        "rabbit",
        "squirrel",
        "hedgehog",
        "turtle",
        "elephant",
        "dinosaur",
        "snail",
        "duck",
        "penguin",
        "cat",
        "pig",
        "sheep",
        "mouse",
        "giraffe",
        "kangaroo",
        "tiger",
        "horse",
        "cow",
    ]
)
MOST_CHARACTERS = 3

# Of 20 compositions of species, place and action, 18 are for training, one for validation and one for testing.
_PARTS = 20
_SALT = "print: "  # chosen so that every species, place and action occurs in all three splits


@dataclass(frozen=True)
class Character:
    """A character of a scene.

    Attributes:
        species: In SPECIES.
        look: The colour of its coat, in LOOKS.
        accessory: In ACCESSORIES.
        action: In ACTIONS; only with "holds", `held` is a prop.
        mood: In MOODS.
        facing: In FACINGS; visible on SIDEWAYS species only.
        near: Whether it is large and in front, or else small and further back.
        held: In PROPS, or None.
    """

    species: str
    look: str
    accessory: str = "none"
    action: str = "stands"
    mood: str = "calm"
    facing: str = "left"
    near: bool = True
    held: str | None = None

    def __post_init__(self) -> None:
        """Check that something is held if, and only if, the action says so."""
        if (self.action == "holds") != (self.held is not None):
            raise ValueError(f"a character that {self.action} cannot have {self.held!r} in its hands")


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows.

    Attributes:
        characters: One to three, from left to right.
        place: In PLACES.
        light: In LIGHTS.
        weather: In WEATHERS.
        props: At most two things that stand on the ground, in PROPS.
        spot: Where a single character stands, in SPOTS.
    """

    characters: tuple[Character, ...]
    place: str
    light: str = "day"
    weather: str = "clear"
    props: tuple[str, ...] = ()
    spot: str = "middle"


def composition_split(species: str, place: str, action: str) -> Split:
    """Return the split that a composition belongs to; it is the same on every machine."""
    part = zlib.crc32(f"{_SALT}{species}/{place}/{action}".encode()) % _PARTS
    return "validation" if part == 0 else "test" if part == 1 else "train"


def splits_of(scene: Scene) -> set[Split]:
    """Return the splits that the compositions of a scene belong to."""
    return {composition_split(actor.species, scene.place, actor.action) for actor in scene.characters}


@lru_cache
def compositions(split: Split, place: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of species and action that a split may show at a place."""
    pairs = ((species, action) for species in SPECIES for action in ACTIONS)
    return tuple(pair for pair in pairs if composition_split(pair[0], place, pair[1]) == split)


def random_character(rng: random.Random, species: str, action: str) -> Character:
    """Return a random character; most have no accessory and are calm."""
    return Character(
        species=species,
        look=rng.choice(LOOKS),
        accessory=rng.choices(ACCESSORIES, (6, 2, 2, 2))[0],
        action=action,
        mood=rng.choices(MOODS, (4, 2, 2, 2))[0],
        facing=rng.choice(FACINGS),
        near=rng.random() < 0.75,
        held=rng.choice(PROPS) if action == "holds" else None,
    )


def random_scene(
    rng: random.Random,
    *,
    characters: int | None = None,
    species: Iterable[str] = SPECIES,
    split: Split = "train",
    counts: tuple[float, ...] = (0.5, 0.35, 0.15),
) -> Scene:
    """Return a random scene whose compositions all belong to a split.

    Args:
        rng: The random numbers.
        characters: Number of characters, 1 to 3; drawn with the weights `counts` by default.
        species: To choose from. Characters of one scene are seldom of the same species.
        split: "train", "validation" or "test".
        counts: Weights of one, two and three characters.
    """
    count = characters or rng.choices((1, 2, 3), counts)[0]
    wanted = frozenset(species)
    while True:
        place = rng.choice(PLACES)
        pairs = [pair for pair in compositions(split, place) if pair[0] in wanted]
        alike = count > 1 and (rng.random() < 0.12 or len(wanted) < count)
        if alike and pairs:
            only = rng.choice(pairs)[0]
            chosen = rng.choices([pair for pair in pairs if pair[0] == only], k=count)
        else:
            chosen = rng.sample(pairs, count) if len(pairs) >= count else []
            if len({name for name, _ in chosen}) < count:
                continue
        actors = tuple(random_character(rng, *pair) for pair in chosen)
        if alike and pairs and rng.random() < 0.5:  # they do and feel the same, as "two foxes" do
            first = actors[0]
            if rng.random() < 0.7:
                first = replace(first, mood="calm", accessory="none")
            actors = (first, *(replace(first, look=rng.choice(LOOKS)) for _ in actors[1:]))
        return Scene(
            characters=actors,
            place=place,
            light=rng.choices(LIGHTS, (5, 2, 3))[0],
            weather=rng.choices(WEATHERS, (6, 2, 2))[0],
            props=tuple(rng.sample(PROPS, rng.choices((0, 1, 2), (55, 37, 8))[0])),
            spot=rng.choice(SPOTS),
        )
