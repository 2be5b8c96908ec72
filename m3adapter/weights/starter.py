"""Where the shipped M²Chat lies, and whether a folder holds all the models of one."""

from __future__ import annotations

from pathlib import Path

from .model_files import read_json

STARTER = Path(__file__).parents[1] / "starter"
PARTS = ("language_model", "vision_encoder", "adapter.safetensors", "decoder")
WORLDS = ("storybook", "picturebook")  # what the library draws, and starters know
WORLD = "world.json"  # the file that tells which of them a starter knows; without it, it is the first


def check_weights(directory: Path) -> None:
    """Raise FileNotFoundError unless `directory` has all the models of an M²Chat."""
    missing = [part for part in PARTS if not (directory / part).exists()]
    if missing:
        raise FileNotFoundError(
            f"The weights in {directory.name} are incomplete ({', '.join(missing)} missing): install the pack again, "
            "or train them with `python -m m3adapter train`."
        )


def world_of(directory: Path) -> str:
    """Return the world that a starter knows.

    Raises:
        ValueError: Its file is damaged, or names no world.
    """
    path = directory / WORLD
    if not path.is_file():
        return WORLDS[0]
    world = read_json(path).get("world")
    if world not in WORLDS:
        raise ValueError(f"{path.name} names no world that is known: install the starter again, or give --world.")
    return str(world)
