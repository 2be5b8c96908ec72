"""What exists in the storybook world, and how captions describe a scene.

A character has a *species*, which every text names, and a *look* (the colour of its coat), which a text names only when
a user asks for a change. Whatever keeps a look from one picture to the next must therefore have seen a picture.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass

SPECIES = (
    "rabbit", "squirrel", "hedgehog", "turtle", "elephant", "dinosaur", "snail", "duck", "penguin", "owl", "cat",
    "dog", "pig", "sheep", "mouse", "giraffe", "kangaroo", "frog", "bear", "fox", "lion", "monkey",
)  # fmt: skip
LOOKS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey")
PLACES = ("forest", "beach", "desert", "mountains", "city", "meadow", "castle", "village", "volcano", "camp")
PROPS = (
    "balloon", "kite", "umbrella", "guitar", "cake", "key", "gift", "ball", "drum", "book", "sunflower", "bucket",
)  # fmt: skip
LIGHTS = ("day", "sunset", "night")
WEATHERS = ("clear", "rain", "snow")

PLACE_PHRASES = {
    "forest": "in the forest",
    "beach": "on the beach",
    "desert": "in the desert",
    "mountains": "in the mountains",
    "city": "in the city",
    "meadow": "on the meadow",
    "castle": "at the castle",
    "village": "in the village",
    "volcano": "by the volcano",
    "camp": "at the camp",
}
LIGHT_PHRASES = {"day": "", "sunset": "at sunset", "night": "at night"}
WEATHER_PHRASES = {"clear": "", "rain": "in the rain", "snow": "in the snow"}

BEHIND = 0.3  # part of the looks that captions for the decoder's training say at their end
BARE = 0.6  # part of those captions that say the other looks without articles, as the adapter means them
# Wordings of a caption; style 0 is the canonical one, which the captions of stories have.
CAPTION_STYLES = (
    "{who}{prop} {place}{light}{weather}",
    "{who}{prop} {place}{weather}{light}",
    "{place}{light}{weather}, {who}{prop}",
    "a picture of {who}{prop} {place}{light}{weather}",
    "{who} {place}{prop}{light}{weather}",
    "{who}{light}{weather} {place}{prop}",
)


@dataclass(frozen=True)
class Character:
    """A character of a scene: `species` in SPECIES, `look` in LOOKS."""

    species: str
    look: str


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows. The first of two characters stands on the left."""

    characters: tuple[Character, ...]
    prop: str | None
    place: str
    light: str = "day"
    weather: str = "clear"


def article(noun: str) -> str:
    """Return a noun (or adjective and noun) with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(scene: Scene, *, looks: Collection[int] = (), asides: Collection[int] = (), style: int = 0) -> str:
    """Describe a scene in words: "a fox with a kite in the forest at night".

    Args:
        scene: What to describe.
        looks: Indices of the characters whose colour is before the noun ("a blue fox"); none by default.
        asides: Indices of those whose colour follows at the end (", the fox is blue"); none by default.
        style: Index into CAPTION_STYLES.
    """
    names = [
        article(f"{actor.look} {actor.species}" if index in looks else actor.species)
        for index, actor in enumerate(scene.characters)
    ]
    text = CAPTION_STYLES[style].format(
        who=" and ".join(names),
        prop=f" with {article(scene.prop)}" if scene.prop else "",
        place=PLACE_PHRASES[scene.place],
        light=" " + LIGHT_PHRASES[scene.light] if LIGHT_PHRASES[scene.light] else "",
        weather=" " + WEATHER_PHRASES[scene.weather] if WEATHER_PHRASES[scene.weather] else "",
    )
    if asides:
        named = [f"the {actor.species} is {actor.look}" for i, actor in enumerate(scene.characters) if i in asides]
        text = f"{text}, {' and '.join(named)}"
    return text.strip()


def bare(text: str, scene: Scene, looks: Collection[int]) -> str:
    """Say looks in a caption in place of articles: "blue fox" for "a fox" or "a blue fox".

    No word then stands at another place than without the look, so an embedding changes where the look belongs. Colours
    at the end ("..., the fox is blue") are bound to one of two animals far more loosely.
    """
    for index in looks:
        actor = scene.characters[index]
        text = re.sub(rf"\ban? ({actor.look} )?{actor.species}\b", f"{actor.look} {actor.species}", text, count=1)
    return text


def random_scene(rng: random.Random, *, characters: int | None = None) -> Scene:
    """Return a random scene: usually with one character and a prop, mostly in fair weather by day."""
    count = characters or (2 if rng.random() < 0.25 else 1)
    species = rng.sample(SPECIES, count)
    return Scene(
        characters=tuple(Character(name, rng.choice(LOOKS)) for name in species),
        prop=rng.choice(PROPS) if rng.random() < 0.8 else None,
        place=rng.choice(PLACES),
        light=rng.choices(LIGHTS, (2, 1, 1))[0],
        weather=rng.choices(WEATHERS, (3, 1, 1))[0],
    )


def captioned(rng: random.Random, scene: Scene | None = None) -> tuple[Scene, str]:
    """Return a scene, a random one by default, and one of its captions.

    Half of the captions of two characters name the look of one only: nothing then tells that of the other, which must
    not take over the one that is named. That is the hardest to learn.
    """
    scene = scene or random_scene(rng)
    count = len(scene.characters)
    told = rng.choices((0, 1, 2), (1, 3, 2))[0] if count == 2 else rng.randrange(count + 1)
    looks = sorted(rng.sample(range(count), told))
    style = 0 if rng.random() < 0.5 else rng.randrange(len(CAPTION_STYLES))
    behind = [index for index in looks if rng.random() < BEHIND]
    before = [index for index in looks if index not in behind]
    text = caption(scene, looks=before, asides=behind, style=style)
    return scene, bare(text, scene, before) if rng.random() < BARE else text
