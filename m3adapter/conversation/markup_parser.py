"""Parses the assistant's markup from a stream into text and captions of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from . import marks
from .segments import Picture, Segment, Text

_ENDS = {"tag": "", "bracket": "]", "markdown": "](", "parenthesis": ")", "heading": "\n"}
_OPENING = {"]": "[", ")": "("}
_EMPHASIS = ' *_`"“”'
LONGEST = 200  # characters of an unclosed caption in which a sentence ends
_SENTENCE = re.compile(rf".{{12,{LONGEST}}}?(?:[.!?…][\"'”’»)]*(?=\s)|[。！？])", re.DOTALL)
_WORD = re.compile(r"[^\s*_]")  # the beginning of a word: anything but blanks and emphasis


@dataclass(frozen=True)
class TextPiece:
    """Text outside captions, which can be shown at once."""

    text: str


@dataclass(frozen=True)
class SlotOpened:
    """The beginning of a picture slot, whose caption follows."""


@dataclass(frozen=True)
class SlotClosed:
    """The end of a picture slot, with its whole caption (it may be empty), whitespace normalised."""

    caption: str


MarkupEvent = TextPiece | SlotOpened | SlotClosed


class MarkupParser:
    """Parses a reply chunk by chunk: the agreed tags, and every other spelling that `marks.py` knows.

    The result does not depend on how the reply is cut into chunks, takes time proportional to its length, and loses no
    text. An opening mark inside a caption ends that caption and begins the next one (before the caption's first word it
    is a repetition, and ignored); a stray closing tag is dropped; a tag of any name closes any other. A caption that is
    never closed ends at the first line break after its first word, and the rest is text again.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._before = ""  # the character before it, since some marks must begin a line
        self._caption: list[str] | None = None  # None outside a caption
        self._worded = False  # whether the caption has a word
        self._end = ""  # what ends the caption: "" a tag, a bracket, or "\n" the line
        self._depth = 0  # of brackets in a caption that ends with one
        self._target = False  # whether a Markdown picture's target may follow

    @property
    def in_caption(self) -> bool:
        """Whether the next characters belong to a caption."""
        return self._caption is not None

    def feed(self, chunk: str) -> list[MarkupEvent]:
        """Return the events that `chunk` completes; a possible beginning of a mark waits for the next call."""
        events: list[MarkupEvent] = []
        self._read(self._pending + chunk, events)
        return events

    def close(self) -> list[MarkupEvent]:
        """Return the events at the end of the reply, and reset the parser."""
        events: list[MarkupEvent] = []
        pending, self._pending = self._pending, ""
        if self._caption is not None and marks.CUT_OFF.match(pending):
            pending = ""
        elif self._caption is None or not pending.startswith("<"):
            self._write(pending, events)
            pending = ""
        while self._caption is not None:
            self._break_off(events)
        self._write(pending, events)  # an unfinished tag, and the text inside it
        self.__init__()  # type: ignore[misc]
        return events

    def _read(self, text: str, events: list[MarkupEvent]) -> None:
        buffer, position = self._before + text, len(self._before)
        while position < len(buffer):
            if self._target:
                mark = marks.TARGET.match(buffer, position)
                if mark and mark.lastgroup == "begun":
                    break
                position = mark.end() if mark else position
                self._target = False
                continue
            finder = marks.OUTSIDE if self._caption is None else marks.IN_LINE if self._end else marks.IN_TAGS
            mark = finder.search(buffer, position)
            self._write(buffer[position : mark.start() if mark else None], events)
            position = mark.start() if mark else len(buffer)
            if mark is None or mark.lastgroup == "begun":
                break
            position = self._take(mark, events)
        self._before, self._pending = buffer[max(position - 1, 0) : position], buffer[position:]

    def _take(self, mark: re.Match[str], events: list[MarkupEvent]) -> int:
        """Handle a mark and return the position to read on from."""
        spelling, written = mark.lastgroup or "", self._caption is not None and self._worded
        if spelling == "stop":
            return self._stop(mark, events)
        own = marks.caption_of(mark) if spelling == "tag" else None
        if spelling == "tag" and (mark["slash"] or (mark["void"] and written and own is None)):
            if self._caption is not None:
                self._shut(events)
                if not mark["slash"]:
                    self._write(marks.words_of(mark), events)
            elif mark["gap"]:  # too loosely spelled to be a tag where none is expected
                self._write(mark.group(), events)
            return mark.end()
        if written and spelling != "tag":  # brackets in a caption that has begun belong to it
            self._write(mark.group(), events)
            self._depth += self._end[0] == "]"
            return mark.end()
        if written:
            self._break_off(events)
            return mark.start()  # read again: the text after a caption that was broken off may have begun another
        if self._caption is None:
            events.append(SlotOpened())
        self._caption, self._worded, self._depth = [], False, 0
        self._end = _ENDS[spelling]
        if spelling == "tag":
            words = marks.words_of(mark)
            if own is not None or mark["void"]:
                self._caption = [own or words]
                self._shut(events)
                if own not in (None, words) and words:
                    self._write(f" {words} ", events)
            elif words:  # one word: it begins the caption
                self._write(f"{words} ", events)
        return mark.end()

    def _stop(self, mark: re.Match[str], events: list[MarkupEvent]) -> int:
        """Handle a bracket or a line break in a caption that such a character may end."""
        character, bracket = mark.group(), self._end[0]
        if character == "\n" and self._worded:
            self._shut(events)
            return mark.start()
        if bracket != "\n":
            self._depth += (character == _OPENING[bracket]) - (character == bracket)
        if self._depth < 0:
            self._target = self._end == _ENDS["markdown"]
            self._shut(events)
        else:
            self._write(character, events)
        return mark.end()

    def _write(self, text: str, events: list[MarkupEvent]) -> None:
        if self._caption is not None:
            self._caption.append(text)
            self._worded = self._worded or bool(_WORD.search(text))
        elif text:
            events.append(TextPiece(text))

    def _shut(self, events: list[MarkupEvent]) -> None:
        caption = " ".join("".join(self._caption or ()).split())
        events.append(SlotClosed(caption.strip(_EMPHASIS) if self._end else caption))
        self._caption = None

    def _break_off(self, events: list[MarkupEvent]) -> None:
        """End a caption that was not closed, and read the text after its line, which may begin another one.

        If that line is too long for a caption, the text after its first sentence is read again instead.
        """
        caption, rest = "".join(self._caption or ()), ""
        if not self._end and (word := _WORD.search(caption)) and (end := caption.find("\n", word.end())) >= 0:
            caption, rest = caption[:end], caption[end:]
        if len(caption) > LONGEST and self._end != "\n" and (sentence := _SENTENCE.match(caption)):
            caption, rest = caption[: sentence.end()], caption[sentence.end() :] + rest
        self._caption = [caption]
        self._shut(events)
        if rest:
            self._before = ""
            self._read(rest, events)
            self._write(self._pending, events)


def assemble(events: Iterable[MarkupEvent]) -> tuple[Segment, ...]:
    """Return a reply's events as segments in order: texts, adjacent pieces joined, and open pictures with captions."""
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
    """Parse a whole reply into segments; one without markup is a single Text, an empty one is ()."""
    parser = MarkupParser()
    return assemble(parser.feed(text) + parser.close())
