"""Counts the tokens of a reply: those of its words, of its thoughts, and those not yet assigned to either."""

from __future__ import annotations

from ..conversation.markup import MarkupParser
from .thoughts import Said, ThoughtSplitter, Withdrawn


class ReplyTokens:
    """The tokens of a reply while it is being written.

    Args:
        opening: The beginning of the reply that the chat template has written.
        length: The most tokens of words.
        thinking: The most tokens of thoughts, including their marks.
    """

    def __init__(self, opening: str, length: int, thinking: int) -> None:
        self.splitter = ThoughtSplitter(opening)
        self.length, self.thinking = length, thinking
        self._markup = MarkupParser()
        self._said: list[int] = []
        self._thought: list[int] = []
        self._open: list[int] = []  # words, or the beginning of a mark
        self._stretch = self._caption = 0  # in _said: where the words since the last thought, and a caption, begin

    @property
    def full(self) -> bool:
        """Whether the limit is reached: of thoughts while the model is thinking, else of words."""
        if self.splitter.thinking:
            return len(self._thought) >= self.thinking
        first = not self._said and self.splitter.marking  # the mark of a first thought must not be cut off
        return not first and len(self._said) + len(self._open) >= self.length

    def repeated(self, *, in_captions: bool) -> list[int]:
        """Return the tokens that the repetition penalty applies to: words so far or, in a thought, thoughts so far.

        A caption repeats words of the text on purpose, and its own words only in a model that runs in circles;
        `in_captions` says whether to penalise the latter.
        """
        if self.splitter.thinking:
            return self._thought
        words = self._said + self._open
        if not self._markup.in_caption:
            self._caption = len(words)
            return words
        return words[self._caption :] if in_captions else []

    def add(self, token: int, text: str) -> None:
        """Add a token, and the text that it completes."""
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
