"""Values as people, files and other programs give them: whether they are numbers, and how an error quotes them."""

from __future__ import annotations

from typing import Any

MAX_SHOWN = 80  # characters


def is_whole(value: Any, low: int, high: int) -> bool:
    """Whether a value is a whole number from `low` to `high`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to `high`; True and False are none.

    It is compared before anything else is done with it: an integer may be too large for a float, and NaN is
    never within.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def shown(value: Any) -> str:
    """What a person recognises a wrong value by: one line of at most 80 characters, whatever the value is.

    `repr` does for a number or a word. It fails for an integer of very many digits and for what is deeply nested, and
    it writes out a list of any length: of these, their kind is said.
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
