"""The outline of a story: one line for each panel, typed by hand or asked of a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .conversation import Conversation
from .limits import MAX_PANELS, check_panels, check_premise
from .request import ShouldStop

if TYPE_CHECKING:
    from .language_model import Sampling
    from .pipeline import M2Chat

CONTINUE = "What happens next?"
_ASK = (
    "Plan an illustrated story in exactly {count} scenes. Write {count} lines and nothing else: one short sentence for "
    "each scene, in order, that says who does what and where.\n\nThe story: {premise}"
)
_MARK = re.compile(r"\s*(?:[-*•–—>#]+\s+|[*_]*(?:(?:scene|panel)\s*)?\d{1,2}\s*[.):][*_]*\s+)", re.IGNORECASE)


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


def write_outline(
    chat: M2Chat,
    premise: str,
    panels: int,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[str, ...]:
    """An outline of `panels` lines that the language model makes of a premise; of longer ones, the first lines.

    Raises ValueError where it gives fewer, as small models do, Interrupted.
    """
    check_premise(premise)
    check_panels(panels)
    asked = Conversation().user(_ASK.format(count=panels, premise=premise.strip()))
    plain = replace(chat, language_model=chat.language_model.without_instructions())
    said = plain.write(asked, sampling=sampling, seed=seed, on_text=on_text, should_stop=should_stop).turns[-1].text
    # A line that ends with a colon announces the others.
    found = beats("\n".join(line for line in said.splitlines() if not line.rstrip(" *_").endswith(":")))
    if len(found) < panels:
        raise ValueError(
            f"The language model wrote {len(found)} of {panels} lines: "
            "try another seed or a larger model, or write the outline by hand."
        )
    return found[:panels]
