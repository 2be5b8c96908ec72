"""Counts the tokens of a reply: those of its words, of its thoughts, and those not yet assigned to either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..conversation.markup import MarkupParser
from .thoughts import Said, ThoughtSplitter, Withdrawn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .chat_template import ChatTemplate
    from .sampling import Sampling


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


def unfinished_thought(tokens: ReplyTokens, sampling: Sampling, template: ChatTemplate) -> str:
    """Return the error message for a reply that ended in a thought."""
    off = "set thinking to off" if sampling.thinking and template.switches else "use one that thinks less"
    if not tokens.full:
        return f"The language model stopped in the middle of a thought: try another seed, or {off}."
    if tokens.thinking < sampling.max_thinking:
        return (
            f"The language model was still thinking after {tokens.thinking} tokens, and its context has no room for "
            f"more: shorten the conversation, lower max_length, or {off}."
        )
    return f"The language model was still thinking after {tokens.thinking} tokens: raise max_thinking, or {off}."


def end_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, special: dict[int, str], ending: str
) -> frozenset[int]:
    """Return the tokens that end a reply: the model's, the tokenizer's, and the one that the chat template writes."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    written = tokenizer(ending, add_special_tokens=False)["input_ids"][:1]
    ends = (*several, tokenizer.eos_token_id, *(number for number in written if number in special))
    return frozenset(item for item in ends if item is not None)
