"""What reads a layout of data sets: conversations one by one, from where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..conversation.conversation import Character, Conversation, Slot
from ..conversation.markup import first_sentence
from ..conversation.segments import Picture, Segment, Text, Turn
from .captions import is_blank
from .pictures import Pictures
from .report import Report

LONG_CAPTION = 400  # characters; of a longer text, a sentence is the caption

Place = tuple[Any, ...]  # where a conversation stands, in the terms of its reader


class Story(NamedTuple):
    """A conversation of a data set: its turns, with pictures that are read when they are looked at.

    Attributes:
        turns: The turns.
        cast: Its characters.
        groups: What its pictures share with those of other conversations: the name of a character, or of a folder.
        told: The words that only references tell, by turn and number of the picture in it, where the data set knows.
        meant: What captions mean in the decoder's words, likewise.
    """

    turns: tuple[Turn, ...]
    cast: tuple[Character, ...] = ()
    groups: tuple[str, ...] = ()
    told: Mapping[tuple[int, int], str] | None = None
    meant: Mapping[tuple[int, int], str] | None = None


class Reader(Protocol):
    """Reads the conversations of one layout."""

    kind: str
    root: Path

    def places(self, report: Report) -> Iterator[Place]:
        """Yield where conversations stand, in order, without opening pictures; report what cannot be one."""

    def where(self, place: Place) -> str:
        """Return a place for people: the file and the line."""

    def split(self, place: Place) -> str | None:
        """Return the part of the data set to which a place belongs; None if the data set does not say."""

    def unit(self, place: Place) -> str:
        """Return what must not be divided between training and validation: the place itself, or its picture."""

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return the conversation at a place; None if it is left out, which is reported.

        Pictures of the assistant that cannot be opened stay open slots.

        Raises:
            ConversationError: It breaks the rules of a conversation.
        """


def with_captions(segments: Sequence[Segment], asked: str) -> tuple[Segment, ...]:
    """Return an assistant's segments, with the nearest text for pictures that have no caption.

    It is the text before the picture or, if there is none, the one after it or what the user `asked`.
    """
    texts = [segment.text for segment in segments if isinstance(segment, Text) and not is_blank(segment.text)]
    nearest = texts[0] if texts else asked
    captioned: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Text):
            nearest = nearest if is_blank(segment.text) else segment.text
        elif is_blank(segment.caption):
            segment = segment.changed(caption=_short(nearest))
        captioned.append(segment)
    return tuple(captioned)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONG_CAPTION else first_sentence(text)


def up_to(story: Story, slot: Slot, history: int) -> tuple[Conversation, Slot]:
    """Return the conversation up to a picture, which is an open slot, and the slot in it."""
    turn = story.turns[slot.turn]
    picture = turn.segments[slot.segment]
    assert isinstance(picture, Picture)
    last = Turn(turn.role, (*turn.segments[: slot.segment], Picture(picture.caption)))
    before = story.turns[: slot.turn]
    system = before[:1] if before and before[0].role == "system" else ()
    rest = before[len(system) :]
    first = max(0, len(rest) - history)
    first += first % 2  # a user's turn begins
    conversation = Conversation((*system, *rest[first:], last), story.cast)
    return conversation, Slot(len(conversation.turns) - 1, slot.segment)
