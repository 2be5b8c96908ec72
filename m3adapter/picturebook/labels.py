"""What the pictures of the picture book show, as class indices for classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .world import (
    ACCESSORIES,
    ACTIONS,
    LIGHTS,
    LOOKS,
    MOODS,
    MOST_CHARACTERS,
    PLACES,
    PROPS,
    SIDEWAYS,
    SPECIES,
    WEATHERS,
    Character,
    Scene,
)

UNKNOWN = -100  # no class: it cannot be seen, or two characters of one species differ
ACTOR_FIELDS = {
    "look": len(LOOKS),
    "accessory": len(ACCESSORIES),
    "action": len(ACTIONS),
    "mood": len(MOODS),
    "facing": 2,
    "near": 2,
    "count": MOST_CHARACTERS,
}
WHOLE_FIELDS = {"place": len(PLACES), "light": len(LIGHTS), "weather": len(WEATHERS)}


def covered(actor: Character) -> bool:
    """Return whether it cannot be seen if the character wears a scarf."""
    return actor.action in ("sleeps", "swims", "hides") and actor.accessory in ("none", "scarf")


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Return the classes of B scenes by name.

    Returns:
        The fields of ACTOR_FIELDS [B, species], with the number of classes for an absent species; those of
        WHOLE_FIELDS [B]; and "props" [B, props], 1 for each prop that stands somewhere or is held, else 0.
    """
    actors = {name: torch.full((len(scenes), len(SPECIES)), size) for name, size in ACTOR_FIELDS.items()}
    props = torch.zeros(len(scenes), len(PROPS))
    for row, scene in enumerate(scenes):
        seen: set[str] = set()
        for actor in scene.characters:
            column = SPECIES.index(actor.species)
            values = {
                "look": LOOKS.index(actor.look),
                "accessory": UNKNOWN if covered(actor) else ACCESSORIES.index(actor.accessory),
                "action": ACTIONS.index(actor.action),
                "mood": MOODS.index(actor.mood),
                "facing": int(actor.facing == "right") if actor.species in SIDEWAYS else UNKNOWN,
                "near": int(actor.near),
                "count": sum(other.species == actor.species for other in scene.characters) - 1,
            }
            for name, value in values.items():
                known = actors[name][row, column]
                actors[name][row, column] = UNKNOWN if actor.species in seen and int(known) != value else value
            seen.add(actor.species)
            if actor.held:
                props[row, PROPS.index(actor.held)] = 1
        for name in scene.props:
            props[row, PROPS.index(name)] = 1
    return {
        **actors,
        "place": torch.tensor([PLACES.index(scene.place) for scene in scenes]),
        "light": torch.tensor([LIGHTS.index(scene.light) for scene in scenes]),
        "weather": torch.tensor([WEATHERS.index(scene.weather) for scene in scenes]),
        "props": props,
    }
