"""The picture book as a data set: what references tell is known to the word, because the world is."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation
from ..conversation.deferred import Deferred
from ..conversation.references import Reference
from ..conversation.segments import Picture
from ..datasets import sample as datasets
from ..datasets.drawing import sources, with_users_pictures
from ..datasets.report import Report
from . import dataset as world
from .dataset import RENDERED, Shown
from .pool import Pool, pool, portrait
from .stories.tale import Split
from .stories.teller import story
from .world import SPECIES, Scene, random_character

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

RENDERS = 2  # different renders of a scene: the place as it is, or mirrored


class Drawn(Deferred):
    """A picture, drawn at every look.

    Args:
        scene: What it shows.
        variant: Which of its renders.
        style: As in `Shown`.
        worn: Whether it is a little blurred and noisy, as a painted picture would be.
    """

    def __init__(self, scene: Scene, variant: int, *, style: str = RENDERED, worn: bool = False) -> None:
        self.scene, self.style, self.worn = scene, style, worn
        self._name = repr((scene, variant, style, worn)).encode()
        self._seed = int.from_bytes(hashlib.blake2b(self._name, digest_size=8).digest(), "big")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        from .places import SIZE

        return SIZE, SIZE

    @property
    def digest(self) -> str:
        """The digest of what it shows, and of the world's sources."""
        return hashlib.blake2b(self._name + sources(Path(__file__).parent), digest_size=16).hexdigest()

    def decode(self) -> Tensor:
        """Draw the picture [H, W, 3]."""
        import torch

        from ..storybook.pool import worn

        drawn = drawing(Shown(self.scene, (), style=self.style), self._seed >> 33)
        if self.worn and self.style == RENDERED:
            generator = torch.Generator().manual_seed(self._seed >> 1)
            return worn(drawn, random.Random(self._seed), generator)
        return torch.from_numpy(drawn.copy()).float() / 255


def drawing(shown: Shown, seed: int) -> np.ndarray:
    """Return a reference picture as uint8 [256, 256, 3]."""
    if shown.style == RENDERED:
        from .render import render

        return render(shown.scene, seed)
    from . import foreign

    return foreign.draw(shown.scene.characters[0], shown.style, seed)


def portrait_of(species: int, rng: random.Random) -> Tensor:
    """Return a picture [H, W, 3] of one character of a species, given as its index, in any look and place."""
    shown = portrait(rng, random_character(rng, SPECIES[species], "stands"), 0)
    return Drawn(shown.scene, rng.randrange(2**31), worn=True).decode()


class Picturebook:
    """Pictures of training stories as a data set: see `datasets.sample.Dataset`.

    `told` has the looks and accessories that only references show, `meant` the canonical caption without names. Earlier
    pictures of the assistant are open slots, since a story names what they show. Users' pictures are drawn.

    Args:
        drawn: The samples.
    """

    def __init__(self, drawn: Pool) -> None:
        self.pool = drawn
        count = len(drawn.samples)
        self._report = Report("picturebook", "picturebook", samples=count, conversations=count)

    @classmethod
    def draw(cls, stage: int, seed: int, count: int) -> Picturebook:
        """Draw what a stage of M3FT trains on, from the same stories for the same seed."""
        return cls(pool(random.Random(seed + stage), count, stage))

    @classmethod
    def held_out(cls, split: Split, seed: int, count: int) -> Picturebook:
        """Draw pictures on which nothing is trained, of characters whose looks only references show, one of a story."""
        rng = random.Random(f"held out {seed}")
        drawn: list[world.Sample] = []
        while len(drawn) < count:
            suitable = [sample for sample in world.samples(story(rng, split)) if sample.known and sample.is_clear]
            drawn += [rng.choice(suitable)] if suitable else []
        found = cls(Pool(drawn))
        found.report.split = split
        return found

    @property
    def report(self) -> Report:
        """What was drawn; nothing is left out."""
        return self._report

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.pool.samples)

    def __getitem__(self, index: int) -> datasets.Sample:
        """Return the sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"the data set has {len(self)} samples, not {index + 1}")
        return self._sample(self.pool.samples[index], index, index)

    def exchanged(self, index: int, rng: random.Random) -> datasets.Sample:
        """Return the sample at `index` with another one's references.

        Most of them show a character's species, and tell its look, which the picture then has as well.
        """
        sample, other = self.pool.exchanged(index, rng)
        return self._sample(sample, index, other)

    def key(self, index: int) -> str:
        """Return the digest of the sample at `index`."""
        return self[index].key

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of every picture."""
        from .places import SIZE

        return SIZE, SIZE

    def _sample(self, sample: world.Sample, index: int, other: int) -> datasets.Sample:
        """Return a sample whose references belong to number `other`."""
        references = []
        for place, shown in enumerate(sample.references):
            image = Drawn(shown.scene, other * world.REFERENCES + place, style=shown.style, worn=True)
            references.append(Reference(Picture(image=image), shown.weight))  # type: ignore[arg-type]
        painted = Drawn(sample.painted, index % RENDERS)
        return datasets.Sample(
            conversation=shown_to(sample, index),
            slot=sample.slot,
            picture=Picture(sample.caption, painted),  # type: ignore[arg-type]
            references=tuple(references),
            told=sample.told,
            known=tuple(sample.scene.characters[place].species for place in sample.known),
            source=f"picturebook {index + 1}",
            meant=sample.meant if sample.meant != sample.caption else "",
        )


def shown_to(sample: world.Sample, index: int) -> Conversation:
    """Return the conversation of a sample with the users' pictures drawn; `index` chooses their renders."""
    drawn = (Drawn(scene, index * 64 + place, worn=True) for place, scene in enumerate(sample.users))
    return with_users_pictures(sample.conversation, drawn)
