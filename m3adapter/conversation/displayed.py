"""Text that is safe to show on a page: nothing in it affects what lies outside its own paragraph."""

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
    """Remove what a page cannot hold and what reorders text: control, bidirectional and non-characters.

    Newlines and tabs stay; each U+2028 and U+2029 becomes a newline.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return "".join(c for c in text if c in "\n\t" or not (c in _BIDI_CONTROLS or _is_forbidden(c)))


def paragraphs(text: str) -> Iterator[list[str]]:
    """Yield the paragraphs of the displayed text, which blank lines separate, each as a list of stripped lines."""
    for paragraph in re.split(r"\n[ \t]*(?:\n[ \t]*)+", displayed(text)):
        if paragraph.strip():
            yield [line.strip() for line in paragraph.strip().split("\n")]


def one_line(text: str) -> str:
    """Return the displayed text on one line, with single spaces."""
    return " ".join(displayed(text).split())


def story_title(conversation: Conversation) -> str:
    """Return the first sentence of the first user message, or a default title."""
    messages = (displayed(turn.text) for turn in conversation.turns if turn.role == "user")
    return first_sentence(next(messages, ""), 90) or "An illustrated story"


def _is_forbidden(character: str) -> bool:
    code = ord(character)
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return is_noncharacter or unicodedata.category(character) in _FORBIDDEN
