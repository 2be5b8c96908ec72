"""Reads a reply while it is written: separates thoughts from text, and limits the number of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..conversation.markup import MarkupEvent, MarkupParser, SlotClosed, SlotOpened, TextPiece, assemble
from ..conversation.segments import Segment
from ..events import NotFinite, TextChunk, TextWithdrawn, ThoughtChunk
from .prompts import PromptError
from .thoughts import Said, ThoughtError, ThoughtSplitter, Withdrawn

PICTURES = 4  # of a reply, by default


class Declined(ValueError):
    """A model that was trained to tell stories in pictures answers in words alone; the message quotes it."""


# Failures of models while they write or paint a reply; their messages are sentences.
FAILED_REPLY = (ThoughtError, PromptError, NotFinite, Declined)


class ReplyReader:
    """Reads a language model's reply, chunk by chunk.

    Args:
        max_pictures: The most pictures of the reply; further captions become text.
    """

    def __init__(self, max_pictures: int = PICTURES) -> None:
        self._max_pictures = max_pictures
        self._splitter = ThoughtSplitter()
        self._said = ""
        self._restart()

    def _restart(self) -> None:
        self._parser = MarkupParser()
        self._events: list[MarkupEvent] = []
        self._pictures = 0

    def feed(self, chunk: str) -> Iterator[TextChunk | ThoughtChunk | TextWithdrawn]:
        """Yield the events that `chunk` completes."""
        yield from self._read(self._splitter.feed(chunk))

    def close(self) -> Iterator[TextChunk | ThoughtChunk | TextWithdrawn]:
        """Yield the events at the end of the reply; raise ThoughtError if it had nothing but thoughts."""
        yield from self._read(self._splitter.close())
        yield from self._tell(self._parser.close())
        if self._said.strip() or not self._splitter.thought:
            return
        if self._splitter.thinking and not self._splitter.over:
            raise ThoughtError("The language model stopped in the middle of a thought: try another seed or model.")
        raise ThoughtError("The language model thought, and then said nothing: try another seed or model.")

    def segments(self) -> tuple[Segment, ...]:
        """Return the reply: its texts, and pictures still to be painted."""
        return assemble(self._events)

    def _read(
        self, pieces: Iterable[Said | ThoughtChunk | Withdrawn]
    ) -> Iterator[TextChunk | ThoughtChunk | TextWithdrawn]:
        for piece in pieces:
            if isinstance(piece, ThoughtChunk):
                yield piece
            elif isinstance(piece, Said):
                self._said += piece.text
                yield from self._tell(self._parser.feed(piece.text))
            else:
                self._said = self._said[: len(self._said) - piece.length]
                self._restart()
                yield TextWithdrawn("".join(chunk.text for chunk in self._tell(self._parser.feed(self._said))))

    def _tell(self, events: Iterable[MarkupEvent]) -> Iterator[TextChunk]:
        """Keep events of the markup, and yield their texts."""
        for event in events:
            if not isinstance(event, TextPiece) and self._pictures >= self._max_pictures:
                if isinstance(event, SlotOpened) or not event.caption:
                    continue
                event = TextPiece(self._apart(event.caption))
            self._pictures += isinstance(event, SlotClosed)
            self._events.append(event)
            if isinstance(event, TextPiece):
                yield TextChunk(event.text)

    def _apart(self, caption: str) -> str:
        """Return a caption as text, separated by blanks from the text around it."""
        texts = [event.text for event in self._events if isinstance(event, TextPiece)]
        before = " " if texts and not texts[-1][-1:].isspace() else ""
        return f"{before}{caption} "
