"""How well the figures of pictures are drawn: their PSNR to the nearest render of the same scene (`figure_psnr`)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..picturebook.render import render_with_figures
from ..picturebook.stories.tale import Split
from ..picturebook.words import FACTS, LONGEST, Said, caption
from ..picturebook.world import FACINGS, SIDEWAYS, SPOTS, Scene, random_scene

SCENES = 24
VARIANTS = 240  # renders of a scene, at most
# Facts that a caption of these scenes says; what it leaves free, the nearest render decides.
SAID = frozenset(FACTS) - {"facing"}


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


def nearest(picture: Tensor, among: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the PSNR in dB of a picture's figures [H, W, 3] in 0..1 to those of the nearest render."""
    pixels, best = picture.float().cpu().numpy(), 0.0
    for render, figures in among:
        error = float(((pixels - render / 255.0)[figures] ** 2).mean())
        best = max(best, -10 * math.log10(max(error, 1e-8)))
    return best


@torch.no_grad()
def figure_psnr(
    autoencode: Callable[[Tensor], Tensor], paint: Callable[[list[str]], Sequence[Tensor]] | None, seed: int
) -> dict[str, float | None]:
    """Return the mean PSNR of figures: of renders that went through the autoencoder, and of painted pictures.

    Args:
        autoencode: Encodes and decodes pictures [B, 3, H, W] in -1..1.
        paint: Paints captions as pictures [H, W, 3] in 0..1; without it, only the autoencoder is measured.
        seed: Chooses the scenes.
    """
    chosen = scenes(random.Random(f"figures {seed}"))
    known = [renders(scene) for scene, _ in chosen]
    decoded = []
    for among in known:
        picture = torch.from_numpy(among[0][0].copy()).float() / 255
        out = autoencode(picture.permute(2, 0, 1)[None] * 2 - 1)[0].float().cpu()
        decoded.append(nearest((out.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1), among[:1]))
    found: dict[str, float | None] = {"autoencoder": round(sum(decoded) / len(decoded), 2), "painted": None}
    if paint is not None:
        painted = [nearest(*pair) for pair in zip(paint([text for _, text in chosen]), known, strict=True)]
        found["painted"] = round(sum(painted) / len(painted), 2)
    return found
