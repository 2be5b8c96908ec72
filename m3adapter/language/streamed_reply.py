"""A reply while it is being written."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass


@dataclass
class Course:
    """What happens while a reply is written.

    Attributes:
        note: What the prompt shortened or left out, in a sentence; "" for nothing, or before the reply has begun.
        ended: Whether the model has ended its reply, which is not cut off.
    """

    note: str = ""
    ended: bool = False


class StreamedReply(Iterator[str]):
    """A reply, chunk by chunk while the language model writes it.

    Args:
        chunks: The chunks.
        course: Kept up to date by what writes them.
    """

    def __init__(self, chunks: Generator[str, None, None], course: Course) -> None:
        self._chunks, self._course = chunks, course

    @property
    def note(self) -> str:
        """As in `Course`."""
        return self._course.note

    @property
    def ended(self) -> bool:
        """As in `Course`."""
        return self._course.ended

    def __next__(self) -> str:
        return next(self._chunks)

    def close(self) -> None:
        """Stop writing."""
        self._chunks.close()
