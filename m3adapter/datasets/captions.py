"""Captions: what counts as one, where it stands beside a picture, and under which names in a table."""

from __future__ import annotations

import unicodedata
from typing import Any

from ..conversation.segments import clean

CAPTIONS = ("text", "caption", "prompt", "description", "captions", "texts")  # columns of a picture's caption
BESIDE = (".txt", ".caption")  # how the caption's file beside a picture ends


def is_blank(text: str) -> bool:
    """Return whether nothing of a text can be seen: spaces, joiners and other marks of no width say nothing."""
    return all(character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Mn") for character in text)


def usable(caption: Any) -> str:
    """Return a caption cleaned and on one line; "" if there is none."""
    if not isinstance(caption, str) or is_blank(caption):
        return ""
    return " ".join(clean(caption).split())
