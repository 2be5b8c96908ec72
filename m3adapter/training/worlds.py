"""What a trainer of the starter's parts asks of a world: scenes, their pictures, their captions, what they show."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

NAMES = ("storybook", "picturebook")


@dataclass(frozen=True)
class World:
    """A world that draws itself.

    Attributes:
        name: In NAMES.
        size: Sides of its pictures in pixels.
        cell: Pixels to a cell of the latents of its autoencoder.
        seen: Side in pixels at which its vision encoder looks at pictures.
        tokens: Length of its captions in tokens, the marks of start and end included.
        random_scene: (source of chance) to a scene.
        draw: (scene, seed) to uint8 [size, size, 3] and, where figures are, bool [size, size].
        caption: (source of chance, scene) to one of its captions.
        labels: scenes to class indices: those of `actors` [B, species], where the number of classes means absent; of
            `wholes` [B]; and of `several` 0 or 1 [B, classes].
        actors, wholes, several: Names of the labels with their numbers of classes.
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
    """`--world`, by default the one that the shipped starter was trained on."""
    parser.add_argument("--world", choices=NAMES, default=NAMES[0], help="what is drawn (default: %(default)s)")


def open_world(name: str) -> World:
    """The world of that name."""
    return {"storybook": _storybook, "picturebook": _picturebook}[name]()


def _storybook() -> World:
    from ..storybook.render import SIZE, render_with_figures
    from ..storybook.world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, random_scene
    from .clip import captioned, labels

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
    from ..picturebook.labels import ACTOR_FIELDS, WHOLE_FIELDS, labels
    from ..picturebook.render import SIZE, render_with_figures
    from ..picturebook.words import captioned
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
