"""Where the shipped M²Chat lies, and whether a folder holds all the models of one."""

from __future__ import annotations

from pathlib import Path

STARTER = Path(__file__).parents[1] / "starter"
PARTS = ("language_model", "vision_encoder", "adapter.safetensors", "decoder")


def check_weights(directory: Path) -> None:
    """Raise FileNotFoundError unless `directory` has all the models of an M²Chat."""
    missing = [part for part in PARTS if not (directory / part).exists()]
    if missing:
        raise FileNotFoundError(
            f"The weights in {directory.name} are incomplete ({', '.join(missing)} missing): install the pack again, "
            "or train them with `python -m m3adapter train`."
        )
