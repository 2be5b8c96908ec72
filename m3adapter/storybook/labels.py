"""What the pictures of the storybook show, as class indices for classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, Scene


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Return the classes of scenes by name.

    `actors` [count, species] is the look of each species, or len(LOOKS) if it is absent; `prop` [count] is len(PROPS)
    if there is none; `place`, `light` and `weather` are [count].
    """
    actors = torch.full((len(scenes), len(SPECIES)), len(LOOKS))
    for row, scene in enumerate(scenes):
        for actor in scene.characters:
            actors[row, SPECIES.index(actor.species)] = LOOKS.index(actor.look)
    return {
        "actors": actors,
        "place": torch.tensor([PLACES.index(scene.place) for scene in scenes]),
        "prop": torch.tensor([PROPS.index(scene.prop) if scene.prop else len(PROPS) for scene in scenes]),
        "light": torch.tensor([LIGHTS.index(scene.light) for scene in scenes]),
        "weather": torch.tensor([WEATHERS.index(scene.weather) for scene in scenes]),
    }
