"""Whether a reply tells what the true one tells, for the checks of a language model in training."""

from __future__ import annotations

import re

from ..conversation.markup import parse
from ..conversation.segments import Picture, Text
from .stories import Exchange
from .world import LOOKS, PLACES, PROPS, SPECIES

_WORD = re.compile(r"[a-z]+")


def words(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(_WORD.findall(text.lower()))


def judged(reply: str, truth: Exchange, before: str) -> dict[str, bool]:
    """Return which checks a reply of the storybook passed, given what it should be like and the text before it."""
    segments = parse(reply)
    pairs = list(zip(segments[::2], segments[1::2], strict=False))
    parsed = (
        len(segments) == 2 * len(truth.panels)
        and all(isinstance(text, Text) and isinstance(picture, Picture) for text, picture in pairs)
        and reply.rstrip().endswith(">")
    )
    results = {"parsed": parsed}
    if not parsed:
        return results
    checks = [_pair(text.text, picture.caption, before) for text, picture in pairs]  # type: ignore[union-attr]
    results["told"] = all(told for told, _ in checks)
    results["complete"] = all(complete for _, complete in checks)
    panel = truth.panels[0]
    asked = words(truth.message) & words(panel.caption) & {*SPECIES, *PLACES, *PROPS, *LOOKS}
    if truth.user_scene:
        asked |= {truth.user_scene.characters[0].species}
    if asked:
        results["followed"] = results[f"followed {panel.task}"] = asked <= words(pairs[0][1].caption)  # type: ignore[union-attr]
    return results


def _pair(text: str, caption: str, before: str) -> tuple[bool, bool]:
    captioned, said = words(caption), words(text)
    told = all(captioned & {*names} and captioned & {*names} <= said for names in (SPECIES, PLACES))
    complete = told and captioned & {*PROPS} <= said and captioned & {*LOOKS} <= said | words(before)
    return told, complete
