"""A reply while it is being written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence


class StreamedReply(Iterator[str]):
    """A reply, chunk by chunk while the language model writes it.

    Args:
        chunks: The chunks.
        notes: A list that gets notes about the prompt once it has been made.
    """

    def __init__(self, chunks: Generator[str, None, None], notes: Sequence[str]) -> None:
        self._chunks, self._notes = chunks, notes

    @property
    def note(self) -> str:
        """What the prompt shortened or left out, in a sentence; "" for nothing, or before the reply has begun."""
        return " ".join(filter(None, self._notes))

    def __next__(self) -> str:
        return next(self._chunks)

    def close(self) -> None:
        """Stop writing."""
        self._chunks.close()
