"""The choice of wordings that a split may use, and the filling of templates.

A template is a string with `{slots}` and with `[singular|plural]` alternatives for one actor or two, such as
"[walks|walk] home".
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, TypeVar

T = TypeVar("T")
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# Every split uses the whole of a list that is shorter than this (articles, numbers, names of months...).
SMALLEST_DIVIDED = 5
# Of this many wordings, one is for validation and one for the test; shorter lists have one each.
SHARE = 10

_ALTERNATIVES = re.compile(r"\[([^\[\]|]*)\|([^\[\]|]*)\]")
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([\"']?)([a-z])")


def allowed(items: Sequence[T], split: Split) -> Sequence[T]:
    """Return the part of a list of wordings that a split may use.

    The last wordings of a list are held out: the very last for the test, those before them for validation. Lists of
    fewer than SMALLEST_DIVIDED entries are not divided.
    """
    if len(items) < SMALLEST_DIVIDED:
        return items
    held = max(1, len(items) // SHARE)
    if split == "train":
        return items[: -2 * held]
    return items[-2 * held : -held] if split == "validation" else items[-held:]


def pick(rng: random.Random, items: Sequence[T], split: Split) -> T:
    """Return a random wording of those that a split may use."""
    return rng.choice(allowed(items, split))


def pick_fitting(rng: random.Random, items: Sequence[str], split: Split, slots: Mapping[str, str]) -> str:
    """Return a random template whose slots are all known, or else the first such template of training.

    Raises:
        ValueError: No template of the list can be filled.
    """
    fitting = [item for item in allowed(items, split) if fits(item, slots)]
    if fitting:
        return rng.choice(fitting)
    for item in allowed(items, "train"):
        if fits(item, slots):
            return item
    raise ValueError(f"none of {len(items)} templates fits the slots {sorted(slots)}")


def fits(template: str, slots: Mapping[str, str]) -> bool:
    """Return whether every slot of a template has a value."""
    return all(name in slots for name in slot_names(template))


@lru_cache(maxsize=4096)
def slot_names(template: str) -> frozenset[str]:
    """Return the names of the slots of a template."""
    return frozenset(re.findall(r"\{(\w+)\}", template))


def fill(template: str, slots: Mapping[str, str], *, plural: bool = False) -> str:
    """Turn a template into text: choose alternatives, fill slots, and capitalise sentences."""
    chosen = _ALTERNATIVES.sub(lambda match: match.group(2 if plural else 1), template)
    return capitalised(chosen.format_map(slots))


def capitalised(text: str) -> str:
    """Capitalise the first letter of each sentence."""
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2) + match.group(3).upper(), text)
