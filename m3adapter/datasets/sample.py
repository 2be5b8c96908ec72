"""What a data set is: a sequence of samples, each a picture with the conversation in which it stands."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..conversation.conversation import Conversation, Slot
from ..conversation.references import Reference
from ..conversation.segments import Picture

if TYPE_CHECKING:
    from .report import Report


class DatasetError(ValueError):
    """A data set that cannot be used; the message is one sentence that says the cure."""


@dataclass(frozen=True)
class Sample:
    """One picture, with all that came before it.

    Pictures are decoded when somebody looks at them, and anew at every look (`Picture.pixels`); `Picture.size` and
    `Picture.digest` are known without.

    Attributes:
        conversation: The turns up to the picture, which is an open slot with its caption; earlier pictures have their
            images. Of a long conversation, only the latest turns.
        slot: The place of the picture.
        picture: What the slot should show.
        references: The pictures that it should agree with, and their weights, as `Conversation.references` orders them.
        told: The words that only the references tell: the whole caption is f"{meaning}, {told}". "" if they tell
            nothing; None if nobody knows, as with most data.
        known: The characters that the caption names and the references show.
        source: Where the sample comes from (file and line), for people.
        meant: What the caption means to somebody who has read the conversation, as a caption for the decoder: "a fox on
            the beach" for "Milo, beach". "" if the caption says it itself, or nobody knows.
        whole: The whole caption, if the decoder reads what only the references tell better elsewhere than at the end.
    """

    conversation: Conversation
    slot: Slot
    picture: Picture
    references: tuple[Reference, ...] = ()
    told: str | None = None
    known: tuple[str, ...] = ()
    source: str = ""
    meant: str = ""
    whole: str = ""

    @property
    def caption(self) -> str:
        """The caption of the slot."""
        return self.conversation.picture(self.slot).caption

    @property
    def meaning(self) -> str:
        """What the caption means: `meant`, or the caption itself."""
        return self.meant or self.caption

    @property
    def whole_caption(self) -> str:
        """What the caption means, with the words that only the references tell."""
        return (self.whole or f"{self.meaning}, {self.told}") if self.told else self.meaning

    @property
    def useful(self) -> bool:
        """Whether the references tell something, as far as anybody knows."""
        return bool(self.references) and self.told != ""

    @cached_property
    def words_key(self) -> str:
        """A digest of what the language model reads for the slot: words, captions, looks and users' pictures."""
        told = self.conversation
        shown = [told.picture(at).digest for at in told.user_slots(before=self.slot)]
        looks = [(character.name, character.looks) for character in told.cast]
        seen = [told.picture(at).seen for at in told.pictures()]
        return digest(json.dumps(told.messages()), tuple(self.slot), shown, looks, seen)

    @cached_property
    def key(self) -> str:
        """A digest of everything in the sample but its source."""
        references = [(reference.picture.digest, reference.weight) for reference in self.references]
        further = [text for text in (self.meant, self.whole) if text]
        return digest(self.words_key, self.caption, self.picture.digest, references, self.told, *further)


@runtime_checkable
class Dataset(Protocol):
    """A sequence of samples, read when they are asked for."""

    @property
    def report(self) -> Report:
        """What was read, and what was left out and why."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at `index` from 0; the same one every time. IndexError beyond the end."""

    def exchanged(self, index: int, rng: random.Random) -> Sample:
        """Return the sample at `index` with references that belong to another conversation.

        What they should tell is "" (nothing), or what a data set knows that they do. There may be none.
        """

    def key(self, index: int) -> str:
        """Return the digest of the sample at `index`: see `Sample.key`."""

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of the picture at `index` without reading it."""


def digest(*parts: object) -> str:
    """Return a digest of values by what `repr` says of them."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(repr(part).encode("utf-8", "backslashreplace") + b"|")
    return found.hexdigest()
