"""The assistant's markup, `<image>caption</image>` amid its text: writing it, and reading it from a stream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .segments import Picture, Segment, Text

OPEN, CLOSE = "<image>", "</image>"

_TAG = re.compile(r"<(/?)image>", re.IGNORECASE | re.ASCII)
# The lookbehind lets a long run of "<" be tried only once, which keeps the search linear.
_SPECIAL = re.compile(r"(?<!<)<+[^\s<>]{1,128}>+")
_LOOKALIKES = str.maketrans("<>[]", "‹›⟦⟧")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)]*(?=\s|$)|[。！？]+[」』”’]*")
_SHORTEST_SENTENCE = 12  # shorter ones are titles and outcries ("Mr.", "Oh no!"): the sentence goes on


@dataclass(frozen=True)
class TextPiece:
    """Text outside captions, to be shown as it comes."""

    text: str


@dataclass(frozen=True)
class SlotOpened:
    """A picture slot begins: what follows is its caption."""


@dataclass(frozen=True)
class SlotClosed:
    """The slot ends; `caption` is whole, its whitespace normalised (it may be empty)."""

    caption: str


MarkupEvent = TextPiece | SlotOpened | SlotClosed


class MarkupParser:
    """Reads a reply chunk by chunk; tags may be split anywhere between chunks and written in any case.

    No text is ever lost: an opening tag inside a caption ends that caption and begins the next one (unless nothing was
    written yet, then it is a repeated tag and ignored), a stray closing tag is dropped, and close() ends a caption that
    is still open.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._caption: str | None = None  # None outside a caption

    def feed(self, chunk: str) -> list[MarkupEvent]:
        """The events that `chunk` settles. The beginning of a possible tag at its end is kept for the next call."""
        buffer, position = self._pending + chunk, 0
        events: list[MarkupEvent] = []
        for tag in _TAG.finditer(buffer):
            self._write(buffer[position : tag.start()], events)
            self._turn(tag.group(1) == "/", events)
            position = tag.end()
        rest = buffer[position:]
        keep = _tag_start_at_end(rest)
        self._write(rest[: len(rest) - keep], events)
        self._pending = rest[len(rest) - keep :]
        return events

    def close(self) -> list[MarkupEvent]:
        """The events at the end of the reply; afterwards the parser is as new."""
        events: list[MarkupEvent] = []
        if self._caption is None:
            self._write(self._pending, events)
        else:  # what is pending is the cut off beginning of a tag, no part of the caption
            self._turn(True, events)
        self._pending = ""
        return events

    def _write(self, text: str, events: list[MarkupEvent]) -> None:
        if self._caption is not None:
            self._caption += text
        elif text:
            events.append(TextPiece(text))

    def _turn(self, closing: bool, events: list[MarkupEvent]) -> None:
        caption = None if self._caption is None else " ".join(self._caption.split())
        if caption is None and closing:
            return
        if caption == "" and not closing:
            return
        if caption is not None:
            events.append(SlotClosed(caption))
        if not closing:
            events.append(SlotOpened())
        self._caption = None if closing else ""


def _tag_start_at_end(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    start = text.rfind("<", -(len(CLOSE) - 1))
    if start < 0:
        return 0
    tail = text[start:].lower()
    return len(text) - start if OPEN.startswith(tail) or CLOSE.startswith(tail) else 0


def assemble(events: Iterable[MarkupEvent]) -> tuple[Segment, ...]:
    """A reply's events as its segments in order: texts (adjacent pieces joined) and open pictures with captions."""
    segments: list[Segment] = []
    pieces: list[str] = []
    for event in events:
        if isinstance(event, TextPiece):
            pieces.append(event.text)
            continue
        if pieces:
            segments.append(Text("".join(pieces)))
            pieces = []
        if isinstance(event, SlotClosed):
            segments.append(Picture(caption=event.caption))
    return (*segments, Text("".join(pieces))) if pieces else tuple(segments)


def parse(text: str) -> tuple[Segment, ...]:
    """A whole reply as segments in order; one without markup is a single Text, an empty one is ()."""
    parser = MarkupParser()
    return assemble(parser.feed(text) + parser.close())


def render(segments: Iterable[Segment]) -> str:
    """The reply that parse() reads as `segments` (images, seeds and gates are not part of a reply's text).

    Markup and special tokens inside texts and captions are escaped: they cannot add or break a slot.
    """
    parts = []
    for segment in segments:
        part = escape(segment.text if isinstance(segment, Text) else segment.caption)
        parts.append(part if isinstance(segment, Text) else f"{OPEN}{part}{CLOSE}")
    return "".join(parts)


def escape(text: str, special_tokens: Iterable[str] = ()) -> str:
    """`text` in which nothing can be taken for the markup or a special token: `<|end|>` becomes `‹|end|›`.

    Everything spelled `<...>` without a space is replaced, whatever the model; `special_tokens` adds spellings of a
    model's own, such as `[INST]`. Text that is already escaped stays as it is.
    """
    text = _SPECIAL.sub(lambda match: match.group().translate(_LOOKALIKES), text)
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
