"""Whose the tokens of a reply are: its words', its thoughts', or still nobody's, and how many more may come."""

from __future__ import annotations

from ..conversation.markup import MarkupParser
from .thoughts import Said, ThoughtSplitter, Withdrawn


class ReplyTokens:
    """The tokens of a reply while it is being written.

    Args:
        opening: What the chat template has written of the reply.
        length: Most tokens of what is said.
        thinking: Most tokens of what is thought, marks included.
    """

    def __init__(self, opening: str, length: int, thinking: int) -> None:
        self.splitter = ThoughtSplitter(opening)
        self.length, self.thinking = length, thinking
        self._markup = MarkupParser()
        self._said: list[int] = []
        self._thought: list[int] = []
        self._open: list[int] = []  # they may be words, or the beginning of a mark
        self._stretch = self._caption = 0  # in _said: where the words since the last thought, and a caption, begin

    @property
    def full(self) -> bool:
        """Whether no more may be said, or thought, whichever is the model's business now."""
        if self.splitter.thinking:
            return len(self._thought) >= self.thinking
        first = not self._said and self.splitter.marking  # a thought must not be cut short where it begins
        return not first and len(self._said) + len(self._open) >= self.length

    def repeated(self, *, in_captions: bool) -> list[int]:
        """What the next token should rather not repeat: what is said so far, or what is thought so far.

        A caption repeats the words of the text on purpose, but its own only in a model that runs in circles:
        `in_captions` says whether that is to be looked at.
        """
        if self.splitter.thinking:
            return self._thought
        words = self._said + self._open
        if not self._markup.in_caption:
            self._caption = len(words)
            return words
        return words[self._caption :] if in_captions else []

    def add(self, token: int, text: str) -> None:
        """One more token, and the text that is whole with it."""
        self._open.append(token)
        pieces = self.splitter.feed(text)
        for piece in pieces:
            if isinstance(piece, Said):
                self._markup.feed(piece.text)
            elif isinstance(piece, Withdrawn):
                self._thought += self._said[self._stretch :]
                del self._said[self._stretch :]
                self._markup = MarkupParser()
        if any(isinstance(piece, Said) for piece in pieces):
            self._said += self._open
        elif self.splitter.thinking or (text and not self.splitter.holding):
            self._thought += self._open
            self._stretch = len(self._said)
        else:
            return
        self._open = []
