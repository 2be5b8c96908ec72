"""The outline of a story, one line for each panel, and what the user says by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..limits import MAX_PANELS, check_panels, check_premise

CONTINUE = "What happens next?"
_MARK = re.compile(r"^\s*(?:[-*•–—>#]+\s+|[*_]*(?:(?:scene|panel)\s*)?\d{1,2}\s*[.):][*_]*\s+)", re.IGNORECASE)


def beats(text: str) -> tuple[str, ...]:
    """The lines of an outline, without blank ones and without the numbers or bullets they may begin with.

    Raises ValueError for more lines than a story can have panels.
    """
    lines = (" ".join(_MARK.sub("", line, count=1).split()) for line in text.splitlines())
    found = tuple(filter(None, lines))
    if len(found) > MAX_PANELS:
        raise ValueError(f"The outline has {len(found)} lines, and a story {MAX_PANELS} panels at most: shorten it.")
    return found


def messages(premise: str, panels: int, outline: Sequence[str] = ()) -> list[str]:
    """What the user says in each panel: the premise with the outline's first line, its other lines, then CONTINUE.

    Raises ValueError for a premise without text, panels beyond 1..32, and an outline of more lines than panels.
    """
    check_premise(premise)
    check_panels(panels)
    if len(outline) > panels:
        raise ValueError(
            f"The outline has {len(outline)} lines for {panels} panels: make as many panels, or shorten it."
        )
    first = f"{premise.rstrip()}\n{outline[0]}" if outline else premise
    return [first, *outline[1:], *[CONTINUE] * (panels - max(1, len(outline)))]
