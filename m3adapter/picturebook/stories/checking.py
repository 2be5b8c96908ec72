"""Whether a reply tells what the true one tells, for the checks of a language model in training."""

from __future__ import annotations

import re

from ...conversation.markup import parse
from ...conversation.segments import Picture, Text
from ..reading import Reading, read
from .tale import Exchange

_FIELDS = ("place", "light", "weather", "prop", "action", "mood", "accessory")


def judged(reply: str, truth: Exchange, before: str) -> dict[str, bool]:
    """Return which checks a reply passed.

    - "parsed": there are as many pictures as there should be, each after a text; an answer has text and none.
    - "told": every caption names a species and a place, and both are in its own text.
    - "complete": as "told", and so are things, light and weather; who has a name in a caption has it in the text.
    - "followed": the first caption tells what the message asks for, and nobody and nothing else.

    Args:
        reply: What a language model wrote.
        truth: What it should be like.
        before: The text of the conversation up to the reply.
    """
    segments = parse(reply)
    if not truth.panels:
        return {"parsed": len(segments) == 1 and isinstance(segments[0], Text) and bool(reply.strip())}
    pairs = list(zip(segments[::2], segments[1::2], strict=False))
    parsed = (
        len(segments) == 2 * len(truth.panels)
        and all(isinstance(text, Text) and isinstance(picture, Picture) for text, picture in pairs)
        and reply.rstrip().endswith(">")
    )
    results = {"parsed": parsed}
    if not parsed:
        return results
    checks = [_pair(text.text, picture.caption) for text, picture in pairs]  # type: ignore[union-attr]
    results["told"] = all(told for told, _ in checks)
    results["complete"] = all(complete for _, complete in checks)
    shown, right = read(pairs[0][1].caption), read(truth.panels[0].caption)  # type: ignore[union-attr]
    names = [name for name in truth.panels[0].names if name]
    results["followed"] = (
        _asked(right, truth.message, before) == _asked(shown, truth.message, before)
        and all(name in pairs[0][1].caption for name in names)  # type: ignore[union-attr]
    )  # fmt: skip
    return results


def _pair(text: str, caption: str) -> tuple[bool, bool]:
    said, shown = read(text), read(caption)
    told = bool(shown.species) and bool(shown.of("place"))
    told = told and all(species in said.species or _by_name(text, caption, species) for species in shown.species)
    told = told and shown.of("place") <= said.of("place")
    return told, told and all(shown.of(name) <= said.of(name) for name in ("prop", "light", "weather"))


def told(text: str, caption: str) -> bool:
    """Return whether a caption names a species and a place, and its text the same."""
    return _pair(text, caption)[0]


def _by_name(text: str, caption: str, species: str) -> bool:
    """Return whether the text has the name that the caption gives to a species: "Milo the blue fox"."""
    return any(name in text for name in re.findall(rf"(\w+) the (?:[a-z]+ ){{0,2}}{species}\b", caption))


def _asked(reading: Reading, message: str, before: str) -> tuple[object, ...]:
    """Return what a caption tells, without what it was free to choose."""
    known = read(f"{message}. {before}", loose=True)
    facts = [reading.of(name) - {"day", "clear"} for name in _FIELDS if name != "place"]
    place = reading.of("place") & known.of("place")
    return dict(reading.species), place, *facts, reading.looks
