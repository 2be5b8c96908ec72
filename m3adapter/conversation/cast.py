"""The cast of a story: its characters by name, with pictures that show what they look like."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .segments import ConversationError, Picture, clean

MAX_NAME = 80


@dataclass(frozen=True)
class Character:
    """A character of a story, recognised in captions by name, ignoring case.

    Attributes:
        name: The name that captions use.
        pictures: Pictures that show only this character, the best one first; there may be none.

    Raises:
        ConversationError: The name is empty or too long, or a picture has no image.
    """

    name: str
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(clean(self.name).split()))
        object.__setattr__(self, "pictures", tuple(self.pictures))
        if not self.name:
            raise ConversationError("A character of the cast needs a name: the one that captions use.")
        if len(self.name) > MAX_NAME:
            raise ConversationError(
                f"The name of a character has {len(self.name)} letters: give one of at most {MAX_NAME}."
            )
        if any(picture.is_open for picture in self.pictures):
            raise ConversationError(f"A picture of {self.name} in the cast needs an image.")

    def is_called(self, name: str) -> bool:
        """Return whether `name` is this character's."""
        return _plain(name) == _plain(self.name)


def named(caption: str, cast: Iterable[Character]) -> list[Character]:
    """Return the characters of the cast that a caption names, in the order in which it names them.

    A name must be a whole word, not part of a longer one. In scripts without capital letters, which often do not
    separate words ("狐狸在森林里", "الثعلب"), it may stand anywhere.
    """
    text = _plain(caption)
    places = [(_find(text, _plain(character.name)), character) for character in cast]
    return [character for _, character in sorted((p for p in places if p[0] >= 0), key=lambda p: p[0])]


def with_character(cast: Sequence[Character], character: Character) -> tuple[Character, ...]:
    """Return the cast with one more character, who replaces an earlier one of the same name."""
    others = [character if other.is_called(character.name) else other for other in cast]
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
    """Return whether two neighbouring characters, one inside a name and one outside, belong to one word."""
    return all(character.isalnum() and unicodedata.category(character) != "Lo" for character in (left, right))
