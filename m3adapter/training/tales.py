"""The stories that a language model is trained on: those of the storybook, or those of the picture book."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Tales:
    """The stories of a world.

    Attributes:
        name: Of the world, in `worlds.NAMES`.
        species: What a user's picture may show.
        story: Returns a story, given random numbers and a split.
        systems: Texts of system turns.
        content: Words on which a picture depends, in lower case.
        caption_weight: How much predicting the words of a caption counts; those of a paragraph count 1.
        vocabulary: Number of tokens of the tokenizer.
        marked: Whether the tokenizer writes capitals as marks, so that "Rabbit", "rabbit" and " rabbit" share a token.
        judged: Returns which checks a reply passed ("parsed", "told", "complete", "followed"), given the reply, the
            exchange that it should be like and the text before it.
    """

    name: str
    species: tuple[str, ...]
    story: Callable[[random.Random, Split], Any]
    systems: tuple[str, ...]
    content: frozenset[str]
    caption_weight: float
    vocabulary: int
    marked: bool
    judged: Callable[[str, Any, str], dict[str, bool]]


def open_tales(name: str) -> Tales:
    """Return the stories of a world in `worlds.NAMES`."""
    return {"storybook": storybook, "picturebook": picturebook}[name]()


def storybook() -> Tales:
    """Return what people say to the storybook, the world of the shipped starter, and its replies."""
    from ..picturebook.stories.checking import judged
    from ..picturebook.stories.ordinary import story
    from ..storybook.wording.requests import SYSTEM
    from ..storybook.world import LOOKS, PLACES, PROPS, SPECIES

    named = ("sunset", "night", "rain", "snow", "and", "called", "cannot", "not")
    return Tales(
        name="storybook",
        species=SPECIES,
        story=story,
        systems=SYSTEM,
        content=frozenset((*SPECIES, *PLACES, *PROPS, *LOOKS, *named)),
        caption_weight=1.0,
        vocabulary=2048,
        marked=False,
        judged=judged,
    )


def picturebook() -> Tales:
    """Return the stories of the picture book."""
    from ..picturebook.stories.checking import judged
    from ..picturebook.stories.teller import story
    from ..picturebook.world import ACCESSORIES, LOOKS, PLACES, PROPS, SPECIES
    from ..storybook.wording.requests import SYSTEM

    doing = ("sleeping", "jumping", "running", "swimming", "holding", "hiding", "stands", "stand")
    feeling = ("happy", "sad", "scared", "calm")
    counting = (
        "and",
        "two",
        "three",
        "another",
        "day",
        "fine",
        "facing",
        "left",
        "right",
        "close",
        "far",
        "cannot",
        "not",
    )
    return Tales(
        name="picturebook",
        species=SPECIES,
        story=story,
        systems=SYSTEM,
        content=frozenset((*SPECIES, *PLACES, *PROPS, *LOOKS, *ACCESSORIES, *doing, *feeling, *counting,
                           "sunset", "night", "rain", "snow")),
        caption_weight=2.0,
        vocabulary=4096,
        marked=True,
        judged=judged,
    )  # fmt: skip
