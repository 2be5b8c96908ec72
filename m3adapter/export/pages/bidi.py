"""Text in both directions: the Unicode Bidirectional Algorithm (UAX #9) for text without its control characters."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import bidirectional

_NUMBERS = ("EN", "AN")
_NEUTRAL = ("B", "S", "WS", "ON")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def is_rtl(text: str) -> bool:
    """Whether a paragraph runs from right to left: what its first letter does (rules P2 and P3)."""
    for character in text:
        kind = bidirectional(character)
        if kind in ("L", "R", "AL"):
            return kind != "L"
    return False


def levels(text: str, rtl: bool) -> list[int]:
    """The embedding level of each character of a paragraph: even ones run from left to right."""
    base = "R" if rtl else "L"
    kinds = _numbers(_weak(text, base), base)
    _pairs(text, kinds, base)
    for start, end in _stretches(kinds):
        before = _direction(kinds[start - 1]) if start else base
        after = _direction(kinds[end]) if end < len(kinds) else base
        kinds[start:end] = [before if before == after else base] * (end - start)
    if rtl:
        return [1 if kind == "R" else 2 for kind in kinds]
    return [{"L": 0, "R": 1}.get(kind, 2) for kind in kinds]


def visual(levels: list[int]) -> list[tuple[int, int, bool]]:
    """A line's stretches of one level as (start, end, from right to left), as they stand from left to right (L2)."""
    runs: list[tuple[int, int, int]] = []
    for index, level in enumerate(levels):
        if runs and runs[-1][2] == level:
            runs[-1] = (runs[-1][0], index + 1, level)
        else:
            runs.append((index, index + 1, level))
    for level in range(max(levels, default=0), 0, -1):
        index = 0
        while index < len(runs):
            end = index
            while end < len(runs) and runs[end][2] >= level:
                end += 1
            runs[index:end] = runs[index:end][::-1]
            index = max(end, index + 1)
    return [(start, end, bool(level % 2)) for start, end, level in runs]


def _weak(text: str, base: str) -> list[str]:
    """Rules W1 to W3."""
    kinds, previous, strong = [], base, base
    for character in text:
        kind = bidirectional(character) or "L"
        if kind in ("NSM", "BN"):
            kind = previous
        elif kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == "AL":
            kind = "AN"
        previous = kind
        kinds.append(kind)
    return ["R" if kind == "AL" else kind for kind in kinds]


def _numbers(kinds: list[str], base: str) -> list[str]:
    """Rules W4 to W7."""
    for index in range(1, len(kinds) - 1):
        before, kind, after = kinds[index - 1 : index + 2]
        if before == after and ((kind == "CS" and before in _NUMBERS) or (kind == "ES" and before == "EN")):
            kinds[index] = before
    for order in (range(len(kinds)), range(len(kinds) - 1, -1, -1)):
        near = False
        for index in order:
            near = kinds[index] == "EN" or (near and kinds[index] == "ET")
            if near:
                kinds[index] = "EN"
    strong = base
    for index, kind in enumerate(kinds):
        if kind in ("L", "R"):
            strong = kind
        elif kind in ("ES", "ET", "CS"):
            kinds[index] = "ON"
        elif kind == "EN" and strong == "L":
            kinds[index] = "L"
    return kinds


def _pairs(text: str, kinds: list[str], base: str) -> None:
    """Rule N0: brackets go with what they enclose."""
    waiting: list[tuple[str, int]] = []
    found: list[tuple[int, int]] = []
    for index, character in enumerate(text):
        if kinds[index] != "ON":
            continue
        if character in _BRACKETS:
            waiting.append((_BRACKETS[character], index))
        elif any(character == closing for closing, _ in waiting):
            while waiting[-1][0] != character:
                waiting.pop()
            found.append((waiting.pop()[1], index))
    for start, end in sorted(found):
        inside = {_direction(kind) for kind in kinds[start + 1 : end] if kind not in _NEUTRAL}
        if base in inside:
            kinds[start] = kinds[end] = base
        elif inside:
            other = inside.pop()
            before = next((_direction(kind) for kind in reversed(kinds[:start]) if kind not in _NEUTRAL), base)
            kinds[start] = kinds[end] = other if before == other else base


def _stretches(kinds: list[str]) -> Iterator[tuple[int, int]]:
    """Where the neutral characters lie, as (start, end)."""
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] in _NEUTRAL:
            end += 1
        if end > start:
            yield start, end
        start = end + 1


def _direction(kind: str) -> str:
    return "R" if kind in _NUMBERS else kind
