"""The cast of a story: its characters by name, with words and pictures that say what they look like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .new_looks import still_said
from .segments import ConversationError, Picture, clean

MAX_NAME = 80
MAX_LOOKS = 400


@dataclass(frozen=True)
class Character:
    """A character of a story, recognised in captions by name, ignoring case.

    Attributes:
        name: The name that captions use.
        pictures: Pictures that show only this character, the best one first; there may be none.
        looks: What the character always looks like, in a few words of one line; "" if nobody has said.

    Raises:
        ConversationError: The name is empty, name or looks are too long, or a picture has no image.
    """

    name: str
    pictures: tuple[Picture, ...] = ()
    looks: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(clean(self.name).split()))
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "looks", " ".join(clean(self.looks).split()))
        if not self.name:
            raise ConversationError("A character of the cast needs a name: the one that captions use.")
        if len(self.name) > MAX_NAME:
            raise ConversationError(
                f"The name of a character has {len(self.name)} letters: give one of at most {MAX_NAME}."
            )
        if len(self.looks) > MAX_LOOKS:
            raise ConversationError(
                f"The looks of {self.name} have {len(self.looks)} letters: say them in at most {MAX_LOOKS}."
            )
        if any(picture.is_open for picture in self.pictures):
            raise ConversationError(f"A picture of {self.name} in the cast needs an image.")

    def is_called(self, name: str) -> bool:
        """Return whether `name` is this character's."""
        return plain(name) == plain(self.name)


def named(caption: str, cast: Iterable[Character]) -> list[Character]:
    """Return the characters of the cast that a caption names, in the order in which it names them.

    A name must be a whole word, not part of a longer one. In scripts without capital letters, which often do not
    separate words ("狐狸在森林里", "الثعلب"), it may stand anywhere.
    """
    return [character for _, character in _places(plain(caption), cast)]


def with_looks(caption: str, cast: Iterable[Character], *, named_in: str | None = None) -> str:
    """Return a caption followed by the looks of the characters of the cast that it names, or that `named_in` does.

    For a painter that knows no character but by words: "a fox on the beach" becomes "a fox on the beach, the fox is a
    small red cub"; after a name without an article, "Rosa on the beach. Rosa: a small red fox". Looks that the caption
    has already are not said again, and those of whose kind it names others ("a blue fox") are left out: see
    `new_looks.still_said`.
    """
    text = plain(caption if named_in is None else named_in)
    asides, notes = [], []
    found = _places(text, cast)
    for place, character in found:
        others = [other.name for _, other in found if other is not character]
        looks = still_said(character.looks, text, plain(character.name), others, common=character.name[0].islower())
        if not looks:
            continue
        words = 3 if character.name[0].islower() else 0  # between the article and a name: "a clever little fox"
        if re.search(rf"\b(?:an?|the) (?:[\w'-]+ ){{0,{words}}}$", text[:place]):
            asides.append(f"the {character.name} is {looks}")
        else:
            notes.append(f"{character.name}: {looks}")
    said = f"{caption.rstrip(' .')}, {' and '.join(asides)}" if asides else caption
    return f"{said.rstrip(' .')}. {'. '.join(notes)}" if notes else said


def with_character(cast: Sequence[Character], character: Character) -> tuple[Character, ...]:
    """Return the cast with one more character, who replaces an earlier one of the same name."""
    others = [character if other.is_called(character.name) else other for other in cast]
    return tuple(others) if character in others else (*others, character)


def plain(text: str) -> str:
    """Return a text in the form in which names are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _places(text: str, cast: Iterable[Character]) -> list[tuple[int, Character]]:
    """Return the characters that a plain text names, with the places of their names, in order."""
    places = [(_find(text, plain(character.name)), character) for character in cast]
    return sorted((place for place in places if place[0] >= 0), key=lambda place: place[0])


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
