"""The cast of a story: its characters by name, with pictures that show what they look like."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .segments import ConversationError, Picture, clean

MAX_NAME = 80


@dataclass(frozen=True)
class Character:
    """Somebody who appears in a story, recognised in captions by `name`, whatever its case.

    `pictures` show the character and nobody else, the best one first; there may be none. Raises ConversationError.
    """

    name: str
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(clean(self.name).split()))
        object.__setattr__(self, "pictures", tuple(self.pictures))
        if not self.name:
            raise ConversationError("A character of the cast needs a name: the one that captions call it by.")
        if len(self.name) > MAX_NAME:
            raise ConversationError(f"The name of a character has {len(self.name)} letters, and {MAX_NAME} are most.")
        if any(picture.is_open for picture in self.pictures):
            raise ConversationError(f"A picture of {self.name} in the cast needs an image.")

    def is_called(self, name: str) -> bool:
        """Whether `name` is this character's."""
        return _plain(name) == _plain(self.name)


def named(caption: str, cast: Iterable[Character]) -> list[Character]:
    """Who of the cast a caption names, in its order.

    A name is found as a whole word, not in the middle of a longer one. In scripts without capital letters, where words
    are often not apart ("狐狸在森林里", "الثعلب"), it is found anywhere.
    """
    text = _plain(caption)
    places = [(_find(text, _plain(character.name)), character) for character in cast]
    return [character for _, character in sorted((p for p in places if p[0] >= 0), key=lambda p: p[0])]


def with_character(cast: Sequence[Character], character: Character) -> tuple[Character, ...]:
    """The cast with one more character, who takes the place of an earlier one of that name."""
    others = [one if not one.is_called(character.name) else character for one in cast]
    return tuple(others) if character in others else (*others, character)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _find(text: str, name: str) -> int:
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (_joined(before, name[0]) or _joined(name[-1], after)):
            return start
        start = text.find(name, start + 1)
    return -1


def _joined(left: str, right: str) -> bool:
    """Whether two characters, one inside a name and one outside, stand in one word."""
    return all(character.isalnum() and unicodedata.category(character) != "Lo" for character in (left, right))
