"""The outline of a story, one line for each panel, and the messages it makes the user send."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..values import MAX_PANELS, check_panels, check_premise

CONTINUE = "What happens next?"
_MARK = re.compile(r"^\s*(?:[-*•–—>#]+\s+|[*_]*(?:(?:scene|panel)\s*)?\d{1,2}\s*[.):][*_]*\s+)", re.IGNORECASE)


def beats(text: str) -> tuple[str, ...]:
    """Return the lines of an outline, without blank ones and without leading numbers or bullets.

    Raises:
        ValueError: There are more lines than a story can have panels.
    """
    outline = tuple(filter(None, map(unmarked, text.splitlines())))
    if len(outline) > MAX_PANELS:
        raise ValueError(f"The outline has {len(outline)} lines, and a story {MAX_PANELS} panels at most: shorten it.")
    return outline


def unmarked(line: str) -> str:
    """Return a line without a number or bullet at its beginning, and with single spaces."""
    return " ".join(_MARK.sub("", line, count=1).split())


def messages(premise: str, panels: int, outline: Sequence[str] = ()) -> list[str]:
    """Return the user's message of each panel: the premise with the outline's first line, its other lines, CONTINUE.

    Args:
        premise: What the story is about.
        panels: How many panels it has, 1..32.
        outline: Lines for the first panels; the user asks for each further panel with CONTINUE.

    Raises:
        ValueError: The premise is empty, `panels` is out of range, or there are more lines than panels.
    """
    check_premise(premise)
    check_panels(panels)
    if len(outline) > panels:
        raise ValueError(
            f"The outline has {len(outline)} lines for {panels} panel{'s' * (panels > 1)}: "
            "ask for as many panels, or shorten it."
        )
    first = f"{premise.rstrip()}\n{outline[0]}" if outline else premise
    return [first, *outline[1:], *[CONTINUE] * (panels - max(1, len(outline)))]
