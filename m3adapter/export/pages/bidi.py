"""Text in both directions: the Unicode Bidirectional Algorithm (UAX #9) for text without its control characters.

A test compares it with the implementation in fpdf2, which only users of PDF install.
"""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import bidirectional

_NUMBERS = ("EN", "AN")
_NEUTRAL = ("B", "S", "WS", "ON")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def is_rtl(text: str) -> bool:
    """Return whether a paragraph runs from right to left, as its first letter does (rules P2 and P3)."""
    for character in text:
        bidi_class = bidirectional(character)
        if bidi_class in ("L", "R", "AL"):
            return bidi_class != "L"
    return False


def levels(text: str, rtl: bool) -> list[int]:
    """Return the embedding level of each character of a paragraph; even levels run from left to right."""
    base = "R" if rtl else "L"
    classes = _numbers(_weak(text, base), base)
    _pairs(text, classes, base)
    for start, end in _neutral_runs(classes):  # rules N1 and N2
        before = _direction(classes[start - 1]) if start else base
        after = _direction(classes[end]) if end < len(classes) else base
        classes[start:end] = [before if before == after else base] * (end - start)
    if rtl:
        return [1 if bidi_class == "R" else 2 for bidi_class in classes]
    return [{"L": 0, "R": 1}.get(bidi_class, 2) for bidi_class in classes]


def visual(levels: list[int]) -> list[tuple[int, int, bool]]:
    """Order the runs of a line for display (rule L2).

    Args:
        levels: The embedding levels of the characters of the line.

    Returns:
        (start, end, whether it runs from right to left) of each run, from the leftmost to the rightmost.
    """
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
    """Return the class of each character after the rules W1 to W3."""
    classes, previous, strong = [], base, base
    for character in text:
        bidi_class = bidirectional(character) or "L"
        if bidi_class in ("NSM", "BN"):
            bidi_class = previous
        elif bidi_class in ("L", "R", "AL"):
            strong = bidi_class
        elif bidi_class == "EN" and strong == "AL":
            bidi_class = "AN"
        previous = bidi_class
        classes.append(bidi_class)
    return ["R" if bidi_class == "AL" else bidi_class for bidi_class in classes]


def _numbers(classes: list[str], base: str) -> list[str]:
    """Apply the rules W4 to W7."""
    for index in range(1, len(classes) - 1):
        before, separator, after = classes[index - 1 : index + 2]
        if before == after and ((separator == "CS" and before in _NUMBERS) or (separator == "ES" and before == "EN")):
            classes[index] = before
    for order in (range(len(classes)), range(len(classes) - 1, -1, -1)):
        adjacent = False
        for index in order:
            adjacent = classes[index] == "EN" or (adjacent and classes[index] == "ET")
            if adjacent:
                classes[index] = "EN"
    strong = base
    for index, bidi_class in enumerate(classes):
        if bidi_class in ("L", "R"):
            strong = bidi_class
        elif bidi_class in ("ES", "ET", "CS"):
            classes[index] = "ON"
        elif bidi_class == "EN" and strong == "L":
            classes[index] = "L"
    return classes


def _pairs(text: str, classes: list[str], base: str) -> None:
    """Apply the rule N0: brackets take the direction of what they enclose."""
    opened: list[tuple[str, int]] = []
    pairs: list[tuple[int, int]] = []
    for index, character in enumerate(text):
        if classes[index] != "ON":
            continue
        if character in _BRACKETS:
            opened.append((_BRACKETS[character], index))
        elif any(character == closing for closing, _ in opened):
            while opened[-1][0] != character:
                opened.pop()
            pairs.append((opened.pop()[1], index))
    for start, end in sorted(pairs):
        inside = {_direction(enclosed) for enclosed in classes[start + 1 : end] if enclosed not in _NEUTRAL}
        if base in inside:
            classes[start] = classes[end] = base
        elif inside:
            other = inside.pop()
            preceding = (_direction(earlier) for earlier in reversed(classes[:start]) if earlier not in _NEUTRAL)
            classes[start] = classes[end] = other if next(preceding, base) == other else base


def _neutral_runs(classes: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the runs of neutral characters as (start, end)."""
    start = 0
    while start < len(classes):
        end = start
        while end < len(classes) and classes[end] in _NEUTRAL:
            end += 1
        if end > start:
            yield start, end
        start = end + 1


def _direction(bidi_class: str) -> str:
    return "R" if bidi_class in _NUMBERS else bidi_class
