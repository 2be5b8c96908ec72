"""Parts of a data set: for training, for validation, for testing."""

from __future__ import annotations

from collections.abc import Callable

from ..values import shown
from .reader import Place, Reader
from .sample import DatasetError, digest

PARTS = ("", "train", "validation", "test")


def part_of(
    reader: Reader, places: list[Place], split: str, held_out: float, gives: Callable[[Place], bool]
) -> tuple[list[Place], Callable[[int], int] | None]:
    """Return the places of a part of a data set and, if they are one conversation only, where its pictures are cut.

    Args:
        reader: Reads the data set.
        places: All its places.
        split: The part; "" for all.
        held_out: The part of the conversations that is for validation, if the data set has no such part of its own.
        gives: Says whether a place has a sample to learn from, which it must be read for.

    Raises:
        DatasetError: There is no such part.
    """
    if split not in PARTS:
        raise DatasetError(f"The part of the data set is {shown(split)}: give train, validation or test.")
    if not split:
        return places, None
    stated = [reader.split(place) for place in places]
    own = set(stated)
    if split == "test" and "test" not in own:
        raise DatasetError(f"{reader.root.name} has no part for testing: use validation, or add a folder named test.")
    if split == "test" or "validation" in own:
        return [place for place, part in zip(places, stated, strict=True) if (part or "train") == split], None
    named = [place for place, part in zip(places, stated, strict=True) if (part or "train") == "train"]
    if not held_out:
        return (named if split == "train" else []), None
    units: dict[str, list[Place]] = {}
    for place in named:
        units.setdefault(reader.unit(place), []).append(place)
    order = sorted(units, key=digest)
    count = _held(len(order), held_out, lambda number: any(map(gives, units[order[number]])))
    if count is None:  # there is only one conversation, or one picture, whose captions are not divided
        if any(len(found) > 1 for found in units.values()):
            return (named if split == "train" else []), None
        return named, lambda samples: samples - max(1, round(samples * held_out)) if samples > 1 else samples
    held = {place for unit in order[:count] for place in units[unit]}
    return [place for place in named if (place in held) == (split == "validation")], None


def _held(units: int, part: float, gives: Callable[[int], bool]) -> int | None:
    """Return how many units are held out, so that both parts have a sample; None if only one unit has any.

    One damaged picture must not make a data set untrainable. Few units are asked for, since asking reads them.
    """
    first = next((number for number in range(units) if gives(number)), None) if units > 1 else 0
    if first is None:
        return 0  # nothing can be learned, and training says why
    count = max(1, round(units * part), first + 1)
    if any(gives(number) for number in range(count, units)):
        return count
    return next((number for number in range(first + 1, min(count, units)) if gives(number)), None)
