"""Values from users, files and other programs: their limits, checks that say the cure, and how errors quote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_SHOWN = 80  # characters of a value in an error
SEED_LIMIT = 2**64
MAX_STRENGTH = 4.0  # of a gate
MAX_PANELS = 32
MAX_PICTURES = 32  # of a reply
MAX_STEPS = 1000
MAX_GUIDANCE = 30.0
MAX_SIDE = 8192  # pixels
MAX_BATCH = 64  # pictures painted at once
MAX_VARIANTS = 16  # of a picture


def is_whole(value: Any, low: int, high: int) -> bool:
    """Return whether a value is a whole number from `low` to `high`; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any, low: float, high: float) -> bool:
    """Return whether a value is a number from `low` to `high`; True, False and NaN are not.

    It is compared without conversion, because an integer may be too large for a float.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def shown(value: Any) -> str:
    """Return a wrong value as an error message quotes it: one line of at most 80 characters, whatever the value is.

    Numbers and texts are quoted by `repr`. It would fail for an integer of very many digits and for deep nesting, and
    write out a list of any length, so for these their type is named instead.
    """
    if isinstance(value, str):
        return _line(repr(value) if len(value) < MAX_SHOWN - 2 else f"{value[: MAX_SHOWN // 2]!r}…")
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a whole number of about {int(value.bit_length() * 0.30103) + 1} digits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return _line(repr(value)) if len(value) <= 8 and all(map(_plain, value)) else f"a list of {len(value)}"
    return f"an object of {len(value)}" if isinstance(value, dict) else f"a {type(value).__name__}"


def _plain(value: Any) -> bool:
    short = isinstance(value, str) and len(value) < MAX_SHOWN
    return short or value is None or isinstance(value, float) or is_number(value, -(2**128), 2**128)


def _line(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def label(path: Path) -> str:
    """Return the name of a file with that of its folder, without the rest of its path."""
    return f"{path.parent.name}/{path.name}"


def rerolls(text: str) -> dict[int, int]:
    """Parse re-rolls such as "3: 1, 5: 2": picture 3 with its first re-roll, picture 5 with its second.

    Raises:
        ValueError: The text has another form.
    """
    numbers: dict[int, int] = {}
    if not isinstance(text, str):
        raise ValueError(f"rerolls is {shown(text)}: write pictures and numbers like 3: 1, 5: 2, each picture once.")
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = re.fullmatch(r"([0-9]{1,9})\s*[:=]\s*([0-9]{1,9})", part)
        if not match or int(match[1]) in numbers or match[1].strip("0") == "":
            raise ValueError(
                f"rerolls has {shown(part)}: write pictures and numbers like 3: 1, 5: 2, each picture once."
            )
        numbers[int(match[1])] = int(match[2])
    return numbers


def check_premise(premise: Any) -> None:
    """Raise ValueError unless the premise is a text that is not empty."""
    if not isinstance(premise, str) or not premise.strip():
        raise ValueError("The premise is empty: say in a sentence what the story is about.")


def check_panels(panels: Any) -> None:
    """Raise ValueError unless `panels` is a whole number from 1 to 32."""
    whole("panels", panels, 1, MAX_PANELS)


def check_pictures(pictures: Any) -> None:
    """Raise ValueError unless `max_pictures`, of one reply, is a whole number from 1 to 32."""
    whole("max_pictures", pictures, 1, MAX_PICTURES)


def check_batch_size(size: Any) -> None:
    """Raise ValueError unless `batch_size`, of pictures painted at once, is a whole number from 1 to 64."""
    whole("batch_size", size, 1, MAX_BATCH)


def check_variants(variants: Any) -> None:
    """Raise ValueError unless `variants`, of each picture, is a whole number from 1 to 16."""
    whole("variants", variants, 1, MAX_VARIANTS)


def check_steps(steps: Any) -> None:
    """Raise ValueError unless `steps` is a whole number from 1 to 1000."""
    whole("steps", steps, 1, MAX_STEPS)


def check_seed(seed: Any) -> None:
    """Raise ValueError unless `seed` is a whole number from 0 to 2**64-1."""
    whole("seed", seed, 0, SEED_LIMIT - 1)


def check_gate(gate: Any) -> None:
    """Raise ValueError unless `gate` is a number from 0 to 4."""
    number("gate", gate, 0, MAX_STRENGTH)


def check_guidance(guidance: Any) -> None:
    """Raise ValueError unless `guidance` is a number from 0 to 30 (1 is no guidance)."""
    number("guidance", guidance, 0, MAX_GUIDANCE)


def check_denoise(denoise: Any) -> None:
    """Raise ValueError unless `denoise` is a number from 0 to 1 (1 keeps nothing of the picture)."""
    number("denoise", denoise, 0, 1)


def check_side(name: str, side: Any) -> None:
    """Raise ValueError unless a picture's width or height is a whole number from 0 (the default size) to 8192."""
    whole(name, side, 0, MAX_SIDE)


def check_rerolls(rerolls: Any) -> None:
    """Raise ValueError unless pictures (from 1) are mapped to numbers of re-rolls from 0 to 2**32-1."""
    for picture, number in rerolls.items():
        whole("The number of a picture in rerolls", picture, 1, 2**32 - 1)
        whole(f"The re-roll of picture {picture}", number, 0, 2**32 - 1)


def check_rerolled(rerolls: Mapping[int, int], count: int) -> None:
    """Raise ValueError unless a story of `count` pictures has all those that are painted again."""
    if rerolls and max(rerolls) > count:
        raise ValueError(
            f"rerolls has picture {max(rerolls)}, and the story has only {count}: leave it out, or ask for more panels."
        )


def check_switch(switch_at: Any) -> None:
    """Raise ValueError unless `switch_at` is a number between 0 and 1, both excluded."""
    number("switch_at", switch_at, 0, 1)
    if switch_at in (0, 1):
        raise ValueError(f"switch_at is {switch_at}: give a number between 0 and 1, say 0.8.")


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return a value if it is a whole number from `low` to `high`, and raise ValueError otherwise.

    Args:
        name: How the error names the value.
        value: The value.
        low: Lowest number.
        high: Highest number.
    """
    if not is_whole(value, low, high):
        bound = "2**64-1" if high == SEED_LIMIT - 1 else high
        raise ValueError(f"{name} is {shown(value)}: give a whole number from {low} to {bound}.")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """Return a value if it is a number from `low` to `high`, and raise ValueError otherwise.

    Args:
        name: How the error names the value.
        value: The value.
        low: Lowest number.
        high: Highest number.
    """
    if not is_number(value, low, high):
        raise ValueError(f"{name} is {shown(value)}: give a number from {low:g} to {high:g}.")
    return value
