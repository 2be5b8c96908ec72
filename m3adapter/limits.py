"""What may be asked of the pipeline: the bounds, and checks that name the field and the cure in one sentence."""

from __future__ import annotations

import math
import re
from typing import Any

from .gate import MAX_STRENGTH
from .segments import SEED_LIMIT

MAX_PANELS = 32
MAX_STEPS = 1000
MAX_GUIDANCE = 30.0


def rerolls(text: str) -> dict[int, int]:
    """Re-rolls as people write them, "3: 1, 5: 2": the picture 3 with its first re-roll, 5 with its second.

    Raises ValueError for anything else.
    """
    found: dict[int, int] = {}
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = re.fullmatch(r"([0-9]{1,9})\s*[:=]\s*([0-9]{1,9})", part)
        if not match or int(match[1]) in found or match[1].strip("0") == "":
            raise ValueError(f"rerolls has {part!r}: write pictures and numbers like 3: 1, 5: 2, each picture once.")
        found[int(match[1])] = int(match[2])
    return found


def check_premise(premise: Any) -> None:
    """Raises ValueError unless the premise is some text."""
    if not isinstance(premise, str) or not premise.strip():
        raise ValueError("The premise is empty: say in a sentence what the story is about.")


def check_panels(panels: Any) -> None:
    """Raises ValueError unless `panels` is a whole number from 1 to 32."""
    _whole("panels", panels, 1, MAX_PANELS)


def check_steps(steps: Any) -> None:
    """Raises ValueError unless `steps` is a whole number from 1 to 1000."""
    _whole("steps", steps, 1, MAX_STEPS)


def check_seed(seed: Any) -> None:
    """Raises ValueError unless `seed` is a whole number from 0 to 2**64-1."""
    _whole("seed", seed, 0, SEED_LIMIT - 1)


def check_gate(gate: Any) -> None:
    """Raises ValueError unless `gate` is a number from 0 to 4."""
    _number("gate", gate, 0, MAX_STRENGTH)


def check_guidance(guidance: Any) -> None:
    """Raises ValueError unless `guidance` is a number from 0 to 30 (1 is no guidance)."""
    _number("guidance", guidance, 0, MAX_GUIDANCE)


def check_denoise(denoise: Any) -> None:
    """Raises ValueError unless `denoise` is a number from 0 to 1 (1 keeps nothing of a picture)."""
    _number("denoise", denoise, 0, 1)


def check_rerolls(rerolls: Any) -> None:
    """Raises ValueError unless every picture (from 1) is given a number of re-rolls from 0 to 2**32-1."""
    for picture, number in rerolls.items():
        _whole("The number of a picture in rerolls", picture, 1, 2**32 - 1)
        _whole(f"The re-roll of picture {picture}", number, 0, 2**32 - 1)


def check_switch(switch_at: Any) -> None:
    """Raises ValueError unless `switch_at` is a number between 0 and 1, which are not possible themselves."""
    _number("switch_at", switch_at, 0, 1)
    if switch_at in (0, 1):
        raise ValueError(f"switch_at is {switch_at}: give a number between 0 and 1, say 0.8.")


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        bound = "2**64-1" if high == SEED_LIMIT - 1 else high
        raise ValueError(f"{name} is {value!r}: give a whole number from {low} to {bound}.")


def _number(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}: give a number from {low:g} to {high:g}.")
