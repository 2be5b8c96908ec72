"""Parts of a data set: for training, for validation, for testing."""

from __future__ import annotations

from collections.abc import Callable

from ..values import shown
from .reader import Place, Reader
from .sample import DatasetError, digest


def part_of(
    reader: Reader, places: list[Place], split: str, held_out: float
) -> tuple[list[Place], Callable[[int], int] | None]:
    """Return the places of a part of a data set and, if they are one conversation only, where its pictures are cut."""
    if split not in ("", "train", "validation", "test"):
        raise DatasetError(f"The part of the data set is {shown(split)}: give train, validation or test.")
    if not split:
        return places, None
    own = {name for place in places if (name := reader.split(place))}
    if split == "test" and "test" not in own:
        raise DatasetError(f"{reader.root.name} has no part for testing: use validation, or add a folder named test.")
    named = [place for place in places if (reader.split(place) or "train") == split]
    if split == "test" or "validation" in own:
        return named, None
    named = [place for place in places if (reader.split(place) or "train") == "train"]
    if len(named) == 1:
        return (
            named,
            lambda samples: samples - max(1, round(samples * held_out)) if samples > 1 and held_out else samples,
        )
    count = max(1, round(len(named) * held_out)) if len(named) > 1 and held_out else 0
    order = sorted(named, key=lambda place: digest(reader.where(place)))
    held = set(order[:count])
    return [place for place in named if (place in held) == (split == "validation")], None
