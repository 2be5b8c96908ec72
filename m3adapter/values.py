"""Values from users, files and other programs: checks whether they are numbers, and quotes them in errors."""

from __future__ import annotations

from typing import Any

MAX_SHOWN = 80  # characters


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
