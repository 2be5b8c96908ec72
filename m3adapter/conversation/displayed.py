"""Texts of others as they may stand on a page: nothing in them reaches beyond their own paragraph."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from .conversation import Conversation
from .markup import first_sentence

GENERATOR = "M2Chat for ComfyUI"

# Explicit embeddings, overrides and isolates (UAX #9): they can show a text in another order than it is written. The
# marks LRM, RLM and ALM stay, which right-to-left scripts need.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Unassigned for good (FFFE, FFFF and the like, which XML forbids), control characters, lone surrogates.
_FORBIDDEN = ("Cc", "Cs")


def displayed(text: str) -> str:
    """The text without what no page can hold or what reorders it: control, bidirectional and non-characters.

    Newline and tab stay; each U+2028 and U+2029 becomes a newline.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return "".join(c for c in text if c in "\n\t" or not (c in _BIDI_CONTROLS or _is_forbidden(c)))


def paragraphs(text: str) -> Iterator[list[str]]:
    """The displayed text's paragraphs, which blank lines separate, each as its lines without space around them."""
    for paragraph in re.split(r"\n[ \t]*(?:\n[ \t]*)+", displayed(text)):
        if paragraph.strip():
            yield [line.strip() for line in paragraph.strip().split("\n")]


def one_line(text: str) -> str:
    """The displayed text on one line, with single spaces."""
    return " ".join(displayed(text).split())


def story_title(conversation: Conversation) -> str:
    """The first sentence of the first user message."""
    told = (displayed(turn.text) for turn in conversation.turns if turn.role == "user")
    return first_sentence(next(told, ""), 90) or "An illustrated story"


def _is_forbidden(character: str) -> bool:
    code = ord(character)
    nothing = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return nothing or unicodedata.category(character) in _FORBIDDEN
