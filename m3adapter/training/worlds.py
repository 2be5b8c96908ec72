"""The worlds that trainings draw from: scenes, pictures of them, captions, and labels of what they show."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..weights.starter import WORLDS as NAMES


@dataclass(frozen=True)
class World:
    """A world of scenes that can be drawn.

    Attributes:
        name: In NAMES.
        size: Side of its pictures in pixels.
        cell: Side of a cell of the latents in pixels.
        seen: Side in pixels of the pictures that its vision encoder takes.
        tokens: Length of its captions in tokens, including those for start and end.
        random_scene: Returns a scene, given random numbers.
        draw: Returns a picture uint8 [size, size, 3] and the mask of its figures bool [size, size], given a scene and a
            seed.
        caption: Returns a caption, given random numbers and a scene.
        labels: Returns the classes of scenes: those of `actors` [B, species], where the number of classes means absent;
            those of `wholes` [B]; and those of `several`, 0 or 1 [B, classes].
        actors: Labels of each species with their numbers of classes.
        wholes: Labels of a picture with their numbers of classes.
        several: Labels of which a picture may have several classes, with their numbers of classes.
        species: The names of its species.
    """

    name: str
    size: int
    cell: int
    seen: int
    tokens: int
    random_scene: Callable[..., Any]
    draw: Callable[[Any, int], tuple[np.ndarray, np.ndarray]]
    caption: Callable[[random.Random, Any], str]
    labels: Callable[[Any], dict[str, Tensor]]
    actors: dict[str, int]
    wholes: dict[str, int]
    several: dict[str, int]
    species: tuple[str, ...]


def add_world_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--world`, by default the world of the shipped starter."""
    parser.add_argument("--world", choices=NAMES, default=NAMES[0], help="what is drawn (default: %(default)s)")


def open_world(name: str) -> World:
    """Return the world of a name in NAMES."""
    return {"storybook": _storybook, "picturebook": _picturebook}[name]()


def _storybook() -> World:
    from ..storybook.labels import labels
    from ..storybook.render import SIZE, render_with_figures
    from ..storybook.world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, captioned, random_scene

    return World(
        name="storybook",
        size=SIZE,
        cell=8,
        seen=SIZE,
        tokens=32,
        random_scene=random_scene,
        draw=render_with_figures,
        caption=lambda rng, scene: captioned(rng, scene)[1],
        labels=labels,
        actors={"actors": len(LOOKS)},
        wholes={"place": len(PLACES), "prop": len(PROPS) + 1, "light": len(LIGHTS), "weather": len(WEATHERS)},
        several={},
        species=SPECIES,
    )


def _picturebook() -> World:
    from ..picturebook.captions import captioned
    from ..picturebook.labels import ACTOR_FIELDS, WHOLE_FIELDS, labels
    from ..picturebook.render import SIZE, render_with_figures
    from ..picturebook.world import PROPS, SPECIES, random_scene

    return World(
        name="picturebook",
        size=SIZE,
        cell=16,
        seen=160,
        tokens=48,
        random_scene=random_scene,
        draw=render_with_figures,
        caption=captioned,
        labels=labels,
        actors=ACTOR_FIELDS,
        wholes=WHOLE_FIELDS,
        several={"props": len(PROPS)},
        species=SPECIES,
    )
