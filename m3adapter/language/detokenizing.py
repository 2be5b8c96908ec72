"""Turns token ids into text while they are being written, in linear time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_WINDOW = 16  # tokens; with more, those that can no longer change the text are left out
_BROKEN = "\ufffd"  # what the bytes of an unfinished character decode as


class Detokenizer:
    """Decodes a sequence token by token. Its chunks, joined, are the text of the whole sequence.

    Only the newest tokens are decoded each time, from one on that stands for whole characters. How a tokenizer writes
    a token may depend on the one before it (WordPiece's blanks) and on whether it is the first (SentencePiece's), but
    not on those before that: a stretch of single bytes, which some decode together, ends at such a token.

    Args:
        decode: Returns the text of token ids, special tokens included.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._sent = 0  # characters of the window's text
        self._limit = _WINDOW

    def add(self, token: int) -> str:
        """Return the text that a token completes; "" while a character is unfinished."""
        self._window.append(token)
        text = self._decode(self._window)
        # A character of several bytes may take several tokens; until it is whole it decodes as U+FFFD.
        if text.endswith(_BROKEN) or len(text) <= self._sent:
            return ""
        chunk, self._sent = text[self._sent :], len(text)
        if len(self._window) > self._limit:
            self._move(text)
        return chunk

    def close(self) -> str:
        """Return the text that is left, without the beginning of an unfinished character."""
        return self._decode(self._window)[self._sent :].rstrip(_BROKEN)

    def _move(self, text: str) -> None:
        """Let the window begin at a late token that stands for whole characters, if there is one.

        If there is none, look again when there are twice as many tokens, so that the search costs little.
        """
        self._limit = 2 * len(self._window)
        for start in range(len(self._window) - 2, 0, -1):
            if not self._whole(self._window[start]):
                continue
            rest = self._decode(self._window[start:])
            if text.endswith(rest):
                self._window, self._sent, self._limit = self._window[start:], len(rest), _WINDOW
                return

    def _whole(self, token: int) -> bool:
        """Return whether a token stands for whole characters, and is not the byte of a single one."""
        text = self._decode([token])
        return _BROKEN not in text and (len(text) > 1 or not text.isascii())
