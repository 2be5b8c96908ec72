"""The assistant's markup, a caption between two tags amid its text: writing it, escaping it, mending what was read."""

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
    """The reply that parse() reads as `segments` (images, seeds and gates are not part of a reply's text).

    Tags and special tokens inside texts and captions are escaped: they cannot add or break a slot. What else parse()
    takes for a picture, say a line that begins with "Image:", stays as it is.
    """
    parts = []
    for segment in segments:
        part = escape(segment.text if isinstance(segment, Text) else segment.caption)
        parts.append(part if isinstance(segment, Text) else f"{OPEN}{part}{CLOSE}")
    return "".join(parts)


def escape(text: str, special_tokens: Iterable[str] = ()) -> str:
    """`text` in which nothing can be taken for a tag of the markup or a special token: `<|end|>` becomes `‹|end|›`.

    Everything spelled `<...>` without a space is replaced, and every spelling of a tag, whatever the model;
    `special_tokens` adds spellings of a model's own, such as `[INST]`. Text that is already escaped stays as it is.
    """
    for pattern in (_SPECIAL, TAG):
        text = pattern.sub(lambda match: match.group().translate(_LOOKALIKES), text)
    for token in sorted(special_tokens, key=len, reverse=True):
        if not token.strip():
            continue  # a newline or a run of blanks is no way out of a dialogue, and replacing it would ruin the text
        alike = token.translate(_LOOKALIKES)
        text = text.replace(token, alike if alike != token else " ".join(token))
    return text


def first_sentence(text: str, limit: int = 200) -> str:
    """The first sentence of `text` on one line, at most `limit` characters (then cut at a word, with an ellipsis)."""
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
    """A reply's segments with no caption left empty: the reply's first sentence stands in.

    Where there is a `premise`, a reply without a picture gets one at its end, captioned the same way (by the premise's
    first sentence, should the reply have no text).
    """
    said = " ".join(segment.text for segment in segments if isinstance(segment, Text))
    sentence = first_sentence(said) or first_sentence(premise or "")
    if premise is not None and not any(isinstance(segment, Picture) for segment in segments):
        return (*segments, Picture(caption=sentence))
    return tuple(
        replace(segment, caption=segment.caption or sentence) if isinstance(segment, Picture) else segment
        for segment in segments
    )
