"""Scenes of the picture book for `figure_psnr`, each with all renders that its caption allows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from ..picturebook.render import render_with_figures
from ..picturebook.stories.tale import Split
from ..picturebook.words import FACTS, LONGEST, Said, caption
from ..picturebook.world import FACINGS, SIDEWAYS, SPOTS, Scene, random_scene
from .figure_psnr import Drawn

SCENES = 24
VARIANTS = 240  # renders of a scene, at most
# Facts that a caption of these scenes says; what it leaves free, the nearest render decides.
SAID = frozenset(FACTS) - {"facing"}


def drawn(seed: int) -> Sequence[Drawn]:
    """Return captions and their renders; `seed` chooses the scenes."""
    return [(text, renders(scene)) for scene, text in scenes(random.Random(f"figures {seed}"))]


def scenes(rng: random.Random, count: int = SCENES, split: Split = "test") -> list[tuple[Scene, str]]:
    """Return scenes of one or two characters, and captions that say all but facing and spot."""
    found: list[tuple[Scene, str]] = []
    while len(found) < count:
        scene = random_scene(rng, split=split, counts=(0.5, 0.5, 0.0))
        said = Said((SAID,) * len(scene.characters), frozenset(("place", "light", "weather", "props")))
        text = caption(scene, said)
        if len(text.split()) <= LONGEST:
            found.append((scene, text))
    return found


def variants(scene: Scene) -> list[Scene]:
    """Return all scenes that a caption of `scenes` may mean."""
    spots = SPOTS if len(scene.characters) == 1 else (scene.spot,)
    facings = [FACINGS if actor.species in SIDEWAYS or actor.held else (actor.facing,) for actor in scene.characters]
    found = []
    for spot, *ways in product(spots, *facings):
        actors = (replace(actor, facing=way) for actor, way in zip(scene.characters, ways, strict=True))
        found.append(replace(scene, characters=tuple(actors), spot=spot))
    return found


def renders(scene: Scene) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the different renders of a scene's variants, uint8 [H, W, 3], with the masks of their figures [H, W]."""
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for variant in variants(scene):
        for seed in range(8):  # mirrored or not
            picture, figures = render_with_figures(variant, seed)
            found.setdefault(picture.tobytes(), (picture, figures))
    return list(found.values())[:VARIANTS]
