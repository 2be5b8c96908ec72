"""Texts with placeholders for pictures, as interleaved models and collectors of their output write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .markup import parse, with_captions
from .segments import ConversationError, Picture, Segment, Text

if TYPE_CHECKING:
    from torch import Tensor

# <image>, <image 2>, <image_2>, <|image_2|>, [Image 2], {img 2}; not <image>a caption</image>, which is markup.
_PLACEHOLDER = re.compile(
    r"[<\[{]\|?[ ]?(?:image|img|picture|pic)(?:[ _:#-]{0,2}(?P<number>\d{1,3}))?(?:[ _-]?placeholder)?[ ]?\|?/?[>\]}]",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"</(?:image|img|picture|pic)>", re.IGNORECASE)


def fill_placeholders(text: str, pictures: Sequence[Tensor]) -> tuple[Segment, ...]:
    """Return a text as segments, with pictures where its placeholders are.

    Placeholders are numbered, from 1 or from 0, or take the pictures in order; those without a picture become open
    slots. A picture without a caption is captioned with the sentence before it, or behind it if it comes first.

    Args:
        text: With placeholders such as <image>, <image_2> or [Image 2], or with captions between <image> and </image>.
        pictures: The pictures [H, W, 3 or 4].

    Raises:
        ConversationError: There are more pictures than placeholders, or a number twice.
    """
    segments = list(parse(text)) if _CLOSED.search(text) else _segments(text)
    places = [index for index, segment in enumerate(segments) if isinstance(segment, Picture)]
    if len(pictures) > len(places):
        raise ConversationError(
            f"images holds {len(pictures)} pictures, but text has {len(places)} placeholders: write <image> where each "
            "belongs."
        )
    order = _order(text, len(places))
    for index, place in enumerate(places):
        number = order[index]
        caption = segments[place].caption or _caption(segments, place)  # type: ignore[union-attr]
        segments[place] = Picture(caption, pictures[number] if number < len(pictures) else None)
    told = [segment for segment in segments if isinstance(segment, Picture) or segment.text.strip()]
    return with_captions(told, None)


def _segments(text: str) -> list[Segment]:
    """Return the texts between placeholders, and a picture without a caption for each placeholder."""
    segments: list[Segment] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        segments += [Text(text[end : match.start()]), Picture()]
        end = match.end()
    return [*segments, Text(text[end:])]


def _order(text: str, count: int) -> list[int]:
    """Return which picture, from 0, each placeholder stands for."""
    numbers = [match["number"] for match in _PLACEHOLDER.finditer(text)]
    if _CLOSED.search(text) or None in numbers or len(numbers) != count:
        return list(range(count))
    found = [int(number) for number in numbers]
    first = 0 if 0 in found else 1
    if len(set(found)) < len(found) or max(found, default=0) - first >= max(count, 1):
        raise ConversationError(
            f"The placeholders in text have the numbers {', '.join(numbers)}: number them from 1, each once."
        )
    return [number - first for number in found]


def _caption(segments: Sequence[Segment], place: int) -> str:
    """Return the last sentence before a picture, or the first one behind it."""
    for text in (
        *(segment.text for segment in segments[:place][::-1] if isinstance(segment, Text)),
        *(segment.text for segment in segments[place:] if isinstance(segment, Text)),
    ):
        sentences = re.split(r"(?<=[.!?…。！？])\s+", text.strip())
        before = any(isinstance(segment, Text) and segment.text.strip() for segment in segments[:place])
        if text.strip():
            return sentences[-1 if before else 0]
    return ""
