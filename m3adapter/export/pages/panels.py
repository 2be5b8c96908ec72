"""What goes on the pages: the pictures of a conversation, and the words that belong to each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...conversation.conversation import Conversation
from ...conversation.displayed import displayed
from ...conversation.segments import Picture, Text
from ...values import shown

WORDS = ("below", "balloons", "captions", "none")

_QUOTES = (("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("‹", "›"), ("「", "」"), ("『", "』"), ('"', '"'))
_QUOTED = re.compile("|".join(rf"{left}([^{left}{right}\n]+){right}" for left, right in _QUOTES))
# The end of a sentence that leads to a speech, and one that begins in lower case, or without cases, after a speech.
_LEADS_IN = re.compile(r"[^.!?…。！？\n]*[:,：，]\s*$")
_FOLLOWS = re.compile(
    r",?[ \t]*(?![A-ZÀ-ÞΑ-ΩА-Я\"“„«‹「『])\w[^.!?…。！？\"“”„«»‹›「」『』\n]*(?:[.!?…。！？]|(?=[\"“„«‹「『]))"
)
_WORD = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]|[^\W\u3041-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Panel:
    """A painted picture of the assistant, and its words."""

    picture: Picture
    text: str


def panels_of(conversation: Conversation, words: str = "below") -> list[Panel]:
    """The assistant's painted pictures in order, each with the text before it, a turn's last one with what follows too.

    A turn without a picture goes to the next picture, or to the last one of all. Raises ValueError, one sentence: no
    painted picture, or words that are not in WORDS.
    """
    if words not in WORDS:
        raise ValueError(f"words is {shown(words)}: choose one of {', '.join(WORDS)}.")
    found: list[tuple[Picture, list[str]]] = []
    waiting: list[str] = []
    for turn in conversation.turns:
        if turn.role != "assistant":
            continue
        painted = False
        for segment in turn.segments:
            if isinstance(segment, Text):
                waiting.append(segment.text)
            elif not segment.is_open:
                found.append((segment, waiting))
                painted, waiting = True, []
        if painted:
            found[-1][1].extend(waiting)
            waiting = []
    if not found:
        raise ValueError("The conversation has no painted picture: let the assistant paint one first.")
    found[-1][1].extend(waiting)
    return [Panel(picture, _words(picture, texts, words)) for picture, texts in found]


def speeches(text: str) -> list[str]:
    """What is said in a text: whatever stands in quotation marks, without them."""
    return [next(filter(None, match.groups())) for match in _QUOTED.finditer(text)]


def without_speeches(text: str, count: int) -> str:
    """The text without its first `count` speeches, nor the few words that only say whose they are ("said the fox")."""
    told, end = [], 0
    for match in list(_QUOTED.finditer(text))[:count]:
        told.append(_LEADS_IN.sub(_unless_long, text[end : match.start()]))
        end = match.end()
        if follows := _FOLLOWS.match(text, end):
            end = end if _unless_long(follows) else follows.end()
    lines = "".join([*(f"{part} " for part in told), text[end:]]).split("\n")
    return "\n".join(" ".join(line.split()) for line in lines).strip()


def _unless_long(match: re.Match[str]) -> str:
    """What was matched if it has more than four words (or letters of a script without spaces), else nothing."""
    return match.group() if len(_WORD.findall(match.group())) > 4 else ""


def _words(picture: Picture, texts: list[str], words: str) -> str:
    if words == "none":
        return ""
    if words == "captions":
        return displayed(picture.caption).strip()
    return "\n\n".join(filter(None, (displayed(text).strip() for text in texts)))
