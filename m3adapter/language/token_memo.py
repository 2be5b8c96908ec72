"""Remembers results for texts, so that a growing conversation is tokenised turn by turn, each turn once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST = 2**23  # characters that are remembered, some 16 MB with their tokens
T = TypeVar("T")


class Memo(Generic[T]):
    """A function of texts whose values are remembered; the oldest are forgotten if there is no room.

    Args:
        function: The function.
        most: The most characters of all texts whose values are remembered.
    """

    def __init__(self, function: Callable[[str], T], most: int = _MOST) -> None:
        self._function, self._most = function, most
        self._values: dict[str, T] = {}
        self._size = 0

    def __call__(self, text: str) -> T:
        """Return the function's value."""
        try:
            return self._values[text]
        except KeyError:
            value = self._function(text)
        if len(text) > self._most // 8:
            return value
        self._values[text] = value
        self._size += len(text)
        if self._size > self._most:
            texts = list(self._values)
            for old in texts[: len(texts) // 2]:
                self._values.pop(old, None)
            self._size = sum(map(len, list(self._values)))
        return value


class TokenMemo:
    """The ids of texts, tokenised in pieces that are remembered.

    A tokenizer tokenises what stands between two special tokens by itself, so a text is cut before each of the special
    tokens by which the chat template marks turns. Where that would change any id of an example, nothing is cut.

    Args:
        tokenizer: The tokenizer.
        example: A dialogue as the chat template writes it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, example: str) -> None:
        self._tokenizer = tokenizer
        self._ids = Memo(self._whole)
        marks = _separators(tokenizer, example)
        self._mark = re.compile("|".join(map(re.escape, marks))) if marks else None
        if self(example) != list(self._whole(example)):
            self._mark = None

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text, in which special tokens are read as such."""
        if self._mark is None:
            return list(self._ids(text))
        starts = [match.start() for match in self._mark.finditer(text)]
        if not starts:
            return list(self._ids(text))
        ids: list[int] = []
        for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
            if start < end:
                ids += self._ids(text[start:end])
        return ids

    def count(self, text: str) -> int:
        """Return how many ids a text without marks of turns has."""
        return len(self._ids(text))

    def _whole(self, text: str) -> Sequence[int]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _separators(tokenizer: PreTrainedTokenizerBase, example: str) -> list[str]:
    """Return the special tokens in the example before which a text can be cut, the longest first."""
    special = [token for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    return sorted(
        (
            token.content
            for token in special
            if token.content in example
            and not any(getattr(token, flag, False) for flag in ("lstrip", "normalized", "single_word"))
            and not _within(token.content, (other.content for other in special))
        ),
        key=len,
        reverse=True,
    )


def _within(text: str, others: Iterable[str]) -> bool:
    return any(text in other and text != other for other in others)
