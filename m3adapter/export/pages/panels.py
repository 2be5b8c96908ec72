"""The panels of a story: the pictures of a conversation, and the words that belong to each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...conversation.conversation import Conversation
from ...conversation.displayed import displayed
from ...conversation.segments import Picture, Text
from ...values import shown

WORDS = ("below", "balloons", "captions", "none")

_QUOTES = (("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("‹", "›"), ("「", "」"), ("『", "』"), ('"', '"'))
_QUOTED = re.compile("|".join(rf"{left}([^{left}{right}\n]+){right}" for left, right in _QUOTES))
# The part of a sentence that leads to a speech, and the rest of a sentence after a speech: it begins in lower case or
# in a script without cases.
_LEADS_IN = re.compile(r"[^.!?…。！？\n]*[:,：，]\s*$")
_FOLLOWS = re.compile(
    r",?[ \t]*(?![A-ZÀ-ÞΑ-ΩА-Я\"“„«‹「『])\w[^.!?…。！？\"“”„«»‹›「」『』\n]*(?:[.!?…。！？]|(?=[\"“„«‹「『]))"
)
_WORD = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]|[^\W\u3041-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Panel:
    """A painted picture of the assistant and its words."""

    picture: Picture
    text: str


def panels_of(conversation: Conversation, words: str = "below") -> list[Panel]:
    """Return the assistant's painted pictures in order, each with its words.

    A picture has the text before it; the last one of a turn also has the text after it. The text of a turn without a
    picture goes to the next picture or, if there is none, to the last one.

    Args:
        conversation: A story.
        words: One of WORDS.

    Raises:
        ValueError: `words` is not in WORDS, or no picture is painted.
    """
    if words not in WORDS:
        raise ValueError(f"words is {shown(words)}: choose one of {', '.join(WORDS)}.")
    pictures: list[tuple[Picture, list[str]]] = []
    waiting: list[str] = []
    for turn in conversation.turns:
        if turn.role != "assistant":
            continue
        painted = False
        for segment in turn.segments:
            if isinstance(segment, Text):
                waiting.append(segment.text)
            elif not segment.is_open:
                pictures.append((segment, waiting))
                painted, waiting = True, []
        if painted:
            pictures[-1][1].extend(waiting)
            waiting = []
    if not pictures:
        raise ValueError("The conversation has no painted picture: let the assistant paint one first.")
    pictures[-1][1].extend(waiting)
    return [Panel(picture, _words(picture, texts, words)) for picture, texts in pictures]


def by_page(panels: list[Panel], most: int) -> Iterator[list[Panel]]:
    """Yield the panels of each page: at most `most`, and about as many on all pages."""
    pages = -(-len(panels) // most)
    for page in range(pages):
        yield panels[len(panels) * page // pages : len(panels) * (page + 1) // pages]


def speeches(text: str) -> list[str]:
    """Return the speeches in a text: whatever is in quotation marks, without the marks."""
    return [next(filter(None, match.groups())) for match in _QUOTED.finditer(text)]


def without_speeches(text: str, count: int) -> str:
    """Remove the first `count` speeches from a text, and the few words that say whose they are ("said the fox")."""
    parts, end = [], 0
    for match in list(_QUOTED.finditer(text))[:count]:
        parts.append(_LEADS_IN.sub(_unless_long, text[end : match.start()]))
        end = match.end()
        if follows := _FOLLOWS.match(text, end):
            end = end if _unless_long(follows) else follows.end()
    lines = "".join([*(f"{part} " for part in parts), text[end:]]).split("\n")
    return "\n".join(" ".join(line.split()) for line in lines).strip()


def _unless_long(match: re.Match[str]) -> str:
    """Return the match if it has more than four words (or letters of a script without spaces), else ""."""
    return match.group() if len(_WORD.findall(match.group())) > 4 else ""


def _words(picture: Picture, texts: list[str], words: str) -> str:
    if words == "none":
        return ""
    if words == "captions":
        return displayed(picture.caption).strip()
    return "\n\n".join(filter(None, (displayed(text).strip() for text in texts)))
