"""References: which earlier pictures a new one looks at, and how much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Literal, get_args

from ..values import is_number, is_whole, shown
from .cast import Character, named
from .segments import ConversationError, Picture

if TYPE_CHECKING:
    from torch import Tensor

Rule = Literal["first and last", "first", "last", "character", "chosen"]
RULES: tuple[str, ...] = get_args(Rule)
MAX_WEIGHT = 10.0
MAX_NUMBER = 2**31  # of pictures


@dataclass(frozen=True)
class ReferencePolicy:
    """How the references of a picture are found among those before it. Whom its caption names of the cast comes first.

    Attributes:
        rule: What follows the cast's pictures: the first picture and the latest ones; the first ones; the latest ones;
            the latest ones whose captions name the same characters of the cast; or those that were chosen by hand.
        count: Most references, the cast's included.
        chosen: For "chosen": the numbers of pictures in the conversation, the users' included, the first being 1, in
            the order wanted. Those that do not stand before the picture are no references of it.
        weights: How much attention the first reference gets, the second and so on, 0..10; where none is said, 1. They
            weigh references against one another: to be alone with any weight is the same as to be alone. 0 is to be
            absent.

    Raises ConversationError, one sentence.
    """

    rule: Rule = "first and last"
    count: int = 2
    chosen: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConversationError(
                f"The rule of references must be one of {', '.join(RULES)}, not {shown(self.rule)}."
            )
        if not is_whole(self.count, 0, MAX_NUMBER):
            raise ConversationError(f"The limit of references must be a whole number from 0, not {shown(self.count)}.")
        for number in self.chosen:
            if not is_whole(number, 1, MAX_NUMBER):
                raise ConversationError(f"Pictures are numbered from 1, and {shown(number)} is chosen.")
        for weight in self.weights:
            if not is_number(weight, 0, MAX_WEIGHT):
                raise ConversationError(f"A reference's weight must be a number from 0 to 10, not {shown(weight)}.")

    def choose(self, earlier: Sequence[Picture], cast: Sequence[Character], caption: str) -> tuple[Tensor, ...]:
        """The references [H, W, 3] of a picture of that caption, of the pictures `earlier`, oldest first.

        First those of the cast whom the caption names, then those of the rule, oldest first (as they were chosen, if
        they were). No picture twice; () where there is none.
        """
        called = named(caption, cast)
        each = zip_longest(*(character.pictures for character in called))  # everybody's best picture first
        taken = _distinct([], (picture for picture in chain(*each) if picture is not None), self.count)
        found = _distinct(taken, (earlier[index] for index in self._places(earlier, called)), self.count)
        rest = found[len(taken) :]
        if self.rule != "chosen":
            rest.sort(key=lambda picture: next(i for i, other in enumerate(earlier) if other is picture))
        return tuple(picture.image for picture in (*taken, *rest))

    def weight(self, index: int) -> float:
        """The weight of the reference number `index` (from 0)."""
        return self.weights[index] if index < len(self.weights) else 1.0

    def _places(self, earlier: Sequence[Picture], called: Sequence[Character]) -> list[int]:
        """Indices of the pictures that may be references, in the order in which they are taken."""
        every = range(len(earlier))
        if self.rule == "chosen":
            return [number - 1 for number in self.chosen if number <= len(earlier)]
        if self.rule == "first and last":
            return [*every[:1], *every[:0:-1]]
        if self.rule == "character":
            return [index for index in every[::-1] if named(earlier[index].caption, called)]
        return [*(every if self.rule == "first" else every[::-1])]


def _distinct(taken: Sequence[Picture], more: Iterable[Picture], count: int) -> list[Picture]:
    """`taken` and what is new in `more`, at most `count` in all."""
    found = list(taken)
    for picture in more:
        if len(found) < count and not any(picture.image.equal(other.image) for other in found):
            found.append(picture)
    return found


def chosen_of(text: str) -> tuple[int, ...]:
    """Numbers of pictures as people write them: "1, 3". Raises ConversationError for anything else."""
    parts = text.replace(",", " ").split()
    if not parts or not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        raise ConversationError(f"pictures is {shown(text)}: write numbers of earlier pictures, like 1, 3.")
    return tuple(map(int, parts))


def weights_of(text: str) -> tuple[float, ...]:
    """Weights as people write them: "1, 0.5"; () for an empty text. Raises ConversationError for anything else."""
    try:
        return ReferencePolicy(weights=tuple(map(float, text.replace(",", " ").split()))).weights
    except ValueError as error:
        raise ConversationError(f"weights is {shown(text)}: write numbers from 0 to 10, like 1, 0.5.") from error
