"""The storybook world as a data set: what references tell is known to the word, because the world is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..conversation.conversation import Conversation
from ..conversation.deferred import Deferred
from ..conversation.references import Reference
from ..conversation.segments import Picture
from ..datasets import sample as datasets
from ..datasets.drawing import sources, with_users_pictures
from ..datasets.report import Report
from . import dataset as world
from .pool import Pool, picture, pool
from .retyping import retyped
from .stories import Split, story
from .world import Character, Scene, bare

if TYPE_CHECKING:
    from torch import Tensor

RENDERS = 4  # different renders of a scene, so that one that many samples show is not drawn for each
# What M3FT's stages draw: the lengths of stories, and what is drawn more often than stories have it.
STAGES: dict[int, dict[str, Any]] = {
    1: {"exchanges": (1, 1, 2), "users_pictures": False, "said": True},
    2: {"exchanges": (1, 2, 2, 3), "drifting": True, "hard": True},
}


class Drawn(Deferred):
    """A scene, drawn at every look.

    Args:
        scene: The scene.
        variant: Which of its renders.
        worn: Whether it is a little blurred and noisy, as a painted picture would be.
    """

    def __init__(self, scene: Scene, variant: int, *, worn: bool = False) -> None:
        self.scene, self.worn = scene, worn
        name = repr((scene, variant, worn)).encode()
        self._seed = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        self._name = name

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        from .render import SIZE

        return SIZE, SIZE

    @property
    def digest(self) -> str:
        """The digest of the scene, and of the world's sources."""
        return hashlib.blake2b(self._name + sources(Path(__file__).parent), digest_size=16).hexdigest()

    def decode(self) -> Tensor:
        """Draw the picture [H, W, 3]."""
        import torch

        from .render import render

        if self.worn:
            generator = torch.Generator().manual_seed(self._seed >> 1)
            return picture(self.scene, random.Random(self._seed), generator)
        return torch.from_numpy(render(self.scene, self._seed >> 33)).float() / 255


@dataclass(frozen=True)
class Foreign:
    """References that are no renders of this world.

    Attributes:
        part: Part of the references to a single character that are drawn otherwise, 0..1.
        draw: Draws a character; the number chooses how.
    """

    part: float
    draw: Callable[[Character, int], Deferred]


class Storybook:
    """Pictures of training stories as a data set: see `datasets.sample.Dataset`.

    `told` has the looks that only references show; earlier pictures of the assistant are open slots, since a story
    names what they show. Users' pictures are drawn.

    Args:
        drawn: The samples.
        retyped: Part of the samples whose captions are as people type them; `meant` then has that of the story.
        foreign: Draws some of the references; all are renders by default.
    """

    def __init__(self, drawn: Pool, retyped: float = 0.0, foreign: Foreign | None = None) -> None:
        self.pool, self.retyped, self.foreign = drawn, retyped, foreign
        self._report = Report("storybook", "storybook", samples=len(drawn.samples), conversations=len(drawn.samples))

    @classmethod
    def draw(
        cls, stage: int, seed: int, count: int, *, retyped: float = 0.0, foreign: Foreign | None = None
    ) -> Storybook:
        """Draw what a stage of M3FT trains on, from the same stories for the same seed."""
        return cls(pool(random.Random(seed + stage), count, **STAGES[stage]), retyped, foreign)

    @classmethod
    def held_out(cls, split: Split, seed: int, count: int) -> Storybook:
        """Draw pictures on which nothing is trained, of characters whose looks only references show, one of a story."""
        rng = random.Random(f"held out {seed}")
        drawn: list[world.Sample] = []
        while len(drawn) < count:
            suitable = [sample for sample in world.samples(story(rng, split)) if sample.known]
            drawn += [rng.choice(suitable)] if suitable else []
        storybook = cls(Pool(drawn))
        storybook.report.split = split
        return storybook

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

        Most of them show a character of the scene, and tell its look, which the picture then has as well.
        """
        sample, other = self.pool.exchanged(index, rng)
        return self._sample(sample, index, other)

    def key(self, index: int) -> str:
        """Return the digest of the sample at `index`."""
        return self[index].key

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of every picture."""
        from .render import SIZE

        return SIZE, SIZE

    def _sample(self, sample: world.Sample, index: int, other: int) -> datasets.Sample:
        """Return a sample whose references belong to number `other`."""
        references = tuple(
            Reference(Picture(image=self._reference(scene, other * world.REFERENCES + place)), 1.0)  # type: ignore[arg-type]
            for place, scene in enumerate(sample.references)
        )
        told = world.aside(sample)[len(sample.caption) :].removeprefix(", ")
        shown = self.pool.painted(sample)
        rng = random.Random(f"retyped {index} {sample.caption}")
        typed = retyped(rng, sample) if rng.random() < self.retyped else sample
        return datasets.Sample(
            conversation=_shown(typed, index),
            slot=sample.slot,
            picture=Picture(typed.caption, Drawn(shown, index % RENDERS)),  # type: ignore[arg-type]
            references=references,
            told=told,
            known=tuple(sample.scene.characters[place].species for place in sample.known),
            source=f"storybook {index + 1}",
            meant=sample.caption if typed.caption != sample.caption else "",
            whole=bare(sample.caption, shown, sample.known),
        )

    def _reference(self, scene: Scene, number: int) -> Deferred:
        """Return a reference: a worn render, or its only character as somebody else draws it."""
        rng = random.Random(f"foreign {number} {scene}")
        if self.foreign and len(scene.characters) == 1 and rng.random() < self.foreign.part:
            return self.foreign.draw(scene.characters[0], rng.randrange(2**31))
        return Drawn(scene, number, worn=True)


def _shown(sample: world.Sample, index: int) -> Conversation:
    """Return the conversation of a sample with the users' pictures drawn."""
    drawn = (Drawn(scene, index * 64 + place, worn=True) for place, scene in enumerate(sample.user_scenes))
    return with_users_pictures(sample.conversation, drawn)
