"""Versions: what stood at a place before and was told or painted again, put aside and unopened until it is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """Something put aside, in the form in which it is saved.

    `content` is JSON, turns or a picture as conversation.json has them; the file picture_<k>.png in it is the PNG
    number k, from 1, of `pictures`. None is decoded before the version is chosen: a conversation with many versions
    takes no more memory than its files.
    """

    content: str
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Versions:
    """The other versions of what stands at a place, in the order in which they came about.

    `place`, from 0, is where among them the present one belongs.
    """

    others: tuple[Version, ...] = ()
    place: int = 0

    @property
    def count(self) -> int:
        """How many there are, the present one included."""
        return len(self.others) + 1

    def all_with(self, present: Version) -> tuple[Version, ...]:
        """All versions, with the present one put aside in its place."""
        return (*self.others[: self.place], present, *self.others[self.place :])

    def another(self, present: Version) -> Versions:
        """With the present one put aside, and room at the end for what comes instead."""
        every = self.all_with(present)
        return Versions(every, len(every))

    def choose(self, number: int, present: Version) -> tuple[Version, Versions]:
        """The version of that number, from 0, and the versions with it in the place of the present one."""
        every = self.all_with(present)
        return every[number], Versions((*every[:number], *every[number + 1 :]), number)
