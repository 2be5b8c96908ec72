"""References: the earlier pictures that a new one looks at, and with what weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal, NamedTuple, get_args

from ..values import number, shown, whole
from .cast import Character, named
from .segments import ConversationError, Picture, checking

Rule = Literal["first and last", "first", "last", "character", "chosen"]
RULES: tuple[str, ...] = get_args(Rule)
MAX_WEIGHT = 10.0
MAX_NUMBER = 2**31  # of a picture, and of pictures


class Reference(NamedTuple):
    """An earlier picture that a new one should agree with, and how much it counts: as `weight` copies of it."""

    picture: Picture
    weight: float


@dataclass(frozen=True)
class ReferencePolicy:
    """Chooses the references of a picture: pictures of the cast that its caption names, then earlier pictures.

    Attributes:
        rule: Which pictures follow those of the cast: the first one and the latest ones; the first ones; the latest
            ones; the latest ones whose captions name the same characters of the cast; or those chosen by hand.
        count: The most references, including those of the cast.
        chosen: For "chosen": the numbers of pictures in the conversation, including users' pictures, from 1, in the
            order wanted. Pictures that do not come before the new one are skipped.
        weights: Attention weights of the first reference, the second and so on, 0..10; further references have weight
            1. Weights are relative, so that the weight of a single reference has no effect; 0 leaves a reference out.

    Raises:
        ConversationError: A value is out of range; the message is one sentence.
    """

    rule: Rule = "first and last"
    count: int = 2
    chosen: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConversationError(f"The rule of references is {shown(self.rule)}: give one of {', '.join(RULES)}.")
        with checking():
            whole("The limit of references", self.count, 0, MAX_NUMBER)
            for picture in self.chosen:
                whole("The number of a chosen picture", picture, 1, MAX_NUMBER)
            for weight in self.weights:
                number("The weight of a reference", weight, 0, MAX_WEIGHT)

    def choose(self, earlier: Sequence[Picture], cast: Sequence[Character], caption: str) -> tuple[Picture, ...]:
        """Choose the references of a picture, no image twice; () if there are none.

        Args:
            earlier: The pictures before it, oldest first.
            cast: The cast of the story.
            caption: The picture's caption.

        Returns:
            Pictures of the characters that the caption names, then those of the rule: in the order chosen for
            "chosen", else oldest first.
        """
        characters = named(caption, cast)
        of_cast = self._of_cast(characters)
        places = self._places(earlier, characters)
        of_rule = _distinct(of_cast, (earlier[index] for index in places), self.count)[len(of_cast) :]
        if self.rule != "chosen":
            of_rule.sort(key=lambda picture: next(i for i, other in enumerate(earlier) if other is picture))
        return (*of_cast, *of_rule)

    def awaits(self, earlier: Sequence[Picture], cast: Sequence[Character], caption: str) -> bool:
        """Return whether `choose` has to wait for open pictures among `earlier`, which are yet to be painted."""
        characters = named(caption, cast)
        chosen = self._of_cast(characters)
        for index in self._places(earlier, characters):
            if len(chosen) == self.count:
                return False
            if earlier[index].is_open:
                return True
            chosen = _distinct(chosen, [earlier[index]], self.count)
        return False

    def _of_cast(self, characters: Sequence[Character]) -> list[Picture]:
        """Return the distinct pictures of characters, everybody's best one first."""
        rounds = zip_longest(*(character.pictures for character in characters))
        return _distinct([], (picture for picture in chain(*rounds) if picture is not None), self.count)

    def weight(self, index: int) -> float:
        """Return the weight of the reference number `index` (from 0)."""
        return self.weights[index] if index < len(self.weights) else 1.0

    def _places(self, earlier: Sequence[Picture], characters: Sequence[Character]) -> list[int]:
        """Return the indices of the pictures that the rule allows, in the order in which they are taken."""
        every = range(len(earlier))
        if self.rule == "chosen":
            return [number - 1 for number in self.chosen if number <= len(earlier)]
        if self.rule == "first and last":
            return [*every[:1], *every[:0:-1]]
        if self.rule == "character":
            return [index for index in every[::-1] if named(earlier[index].caption, characters)]
        return [*(every if self.rule == "first" else every[::-1])]


def _distinct(taken: Sequence[Picture], more: Iterable[Picture], count: int) -> list[Picture]:
    """Return `taken` and the pictures of `more` that are not among them, at most `count` in all."""
    distinct = list(taken)
    for picture in more:
        if len(distinct) < count and not any(picture.shows(other) for other in distinct):
            distinct.append(picture)
    return distinct


def chosen_of(text: str) -> tuple[int, ...]:
    """Parse numbers of pictures such as "1, 3"; raise ConversationError for anything else."""
    parts = text.replace(",", " ").split()
    if not parts or not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        raise ConversationError(f"pictures is {shown(text)}: write numbers of earlier pictures, like 1, 3.")
    return tuple(map(int, parts))


def weights_of(text: str) -> tuple[float, ...]:
    """Parse weights such as "1, 0.5" (none in an empty text); raise ConversationError for anything else."""
    try:
        return ReferencePolicy(weights=tuple(map(float, text.replace(",", " ").split()))).weights
    except ValueError as error:
        raise ConversationError(f"weights is {shown(text)}: write numbers from 0 to 10, like 1, 0.5.") from error
