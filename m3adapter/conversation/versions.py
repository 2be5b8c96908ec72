"""Versions: earlier turns and pictures that were retold or repainted, kept undecoded until they are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .png_files import PngFile


@dataclass(frozen=True)
class Version:
    """An earlier state, in the form in which it is saved.

    Nothing is decoded before the version is chosen, so that a conversation with many versions takes no more memory than
    its files.

    Attributes:
        content: Turns or a picture, as JSON in the form of conversation.json.
        pictures: PNGs, in memory or in files; the file picture_<k>.png in `content` is number k, from 1.
    """

    content: str
    pictures: tuple[bytes | PngFile, ...] = ()


@dataclass(frozen=True)
class Versions:
    """The other versions of a turn or picture, in the order in which they were made.

    Attributes:
        others: The other versions.
        place: The present version's place among them, from 0.
    """

    others: tuple[Version, ...] = ()
    place: int = 0

    @property
    def count(self) -> int:
        """How many versions there are, including the present one."""
        return len(self.others) + 1

    def all_with(self, present: Version) -> tuple[Version, ...]:
        """Return all versions, with the present one in its place."""
        return (*self.others[: self.place], present, *self.others[self.place :])

    def another(self, present: Version) -> Versions:
        """Put the present version aside, to be replaced by a new one at the end."""
        versions = self.all_with(present)
        return Versions(versions, len(versions))

    def beside(self, others: Iterable[Version]) -> Versions:
        """Return these with further versions at the end, while the present one stays."""
        return Versions((*self.others, *others), self.place)

    def choose(self, number: int, present: Version) -> tuple[Version, Versions]:
        """Return the version of that number, from 0, and the versions beside it once it is the present one."""
        versions = self.all_with(present)
        return versions[number], Versions((*versions[:number], *versions[number + 1 :]), number)
