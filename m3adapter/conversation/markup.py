"""The assistant's markup, captions between two tags within its text: writing it, escaping it and completing it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .marks import TAG
from .markup_parser import MarkupEvent, MarkupParser, SlotClosed, SlotOpened, TextPiece, assemble, parse
from .segments import Picture, Segment, Text

__all__ = [
    "MarkupEvent", "MarkupParser", "SlotClosed", "SlotOpened", "TextPiece", "assemble", "escape", "first_sentence",
    "parse", "render", "with_captions",
]  # fmt: skip

OPEN, CLOSE = "<image>", "</image>"

# The lookbehind lets a long run of "<" be tried only once, which keeps the search linear.
_SPECIAL = re.compile(r"(?<!<)<+[^\s<>]{1,128}>+")
_LOOKALIKES = str.maketrans("<>[]", "‹›⟦⟧")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)]*(?=\s|$)|[。！？]+[」』”’]*")
_SHORTEST_SENTENCE = 12  # shorter ones are titles and outcries ("Mr.", "Oh no!"): the sentence goes on


def render(segments: Iterable[Segment]) -> str:
    """Write segments as the reply that `parse` reads as these segments; images, seeds and gates are left out.

    Tags and special tokens inside texts and captions are escaped, so they cannot add or break a slot. Other spellings
    that `parse` takes for a picture, such as a line that begins with "Image:", stay as they are.
    """
    parts = []
    for segment in segments:
        part = escape(segment.text if isinstance(segment, Text) else segment.caption)
        parts.append(part if isinstance(segment, Text) else f"{OPEN}{part}{CLOSE}")
    return "".join(parts)


def escape(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Return `text` with nothing in it that reads as a tag of the markup or a special token.

    Everything spelled `<...>` without a space is replaced (`<|end|>` becomes `‹|end|›`), and so is every spelling of a
    tag. `special_tokens` adds a model's own spellings, such as `[INST]`. Escaped text stays as it is.
    """
    for pattern in (_SPECIAL, TAG):
        text = pattern.sub(lambda match: match.group().translate(_LOOKALIKES), text)
    for token in sorted(special_tokens, key=len, reverse=True):
        if not token.strip():
            continue  # blank tokens cannot break out of a dialogue, and replacing them would ruin the text
        alike = token.translate(_LOOKALIKES)
        text = text.replace(token, alike if alike != token else " ".join(token))
    return text


def first_sentence(text: str, limit: int = 200) -> str:
    """Return the first sentence of `text` on one line, cut at a word, with an ellipsis, beyond `limit` characters."""
    line = " ".join(text.split())
    for match in _SENTENCE_END.finditer(line):
        if match.end() >= _SHORTEST_SENTENCE:
            line = line[: match.end()]
            break
    if len(line) <= limit:
        return line
    cut = line[: limit - 1]
    return (cut.rsplit(" ", 1)[0] or cut).rstrip(" ,;:") + "…"


def with_captions(segments: Sequence[Segment], premise: str | None) -> tuple[Segment, ...]:
    """Return a reply's segments with empty captions replaced by the reply's first sentence.

    With a `premise`, a reply without a picture gets one at its end, captioned by the reply's first sentence or, if it
    has no text, by the premise's.
    """
    text = " ".join(segment.text for segment in segments if isinstance(segment, Text))
    sentence = first_sentence(text) or first_sentence(premise or "")
    if premise is not None and not any(isinstance(segment, Picture) for segment in segments):
        return (*segments, Picture(caption=sentence))
    return tuple(
        replace(segment, caption=segment.caption or sentence) if isinstance(segment, Picture) else segment
        for segment in segments
    )
