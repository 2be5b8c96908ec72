"""Pictures of stories drawn for training: which are rare and hard in stories is frequent here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation
from .dataset import Sample, aside, samples
from .stories import story
from .world import LOOKS, SPECIES, Character, Scene, random_scene

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

DRIFTED = 0.3  # part of the samples with several references whose latest one has lost the look; the oldest one counts
SAID = 0.4  # part of the captions of stage 1 that name what only references show, because stage 2 uses its heads
LEFT_OUT = 0.85  # part of the easy samples, with a single character in every picture, that is left out
# If hard samples are preferred: the part kept of samples with two characters whose looks only references show, of those
# with one such character and a newcomer, and of others. The hardest, whose caption names the look of one character but
# not of the other, are all kept.
BOTH_KNOWN, NEWCOMER, OTHERS = 1.0, 0.5, 0.1
ALIKE = 0.6  # part of the exchanged references that show a character of the sample, perhaps in another look


@dataclass(frozen=True)
class Pool:
    """Samples that a training draws from.

    Attributes:
        samples: The samples.
        showing: For each species, the indices of the samples whose references show it.
    """

    samples: list[Sample]
    showing: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        """Index the samples by the species that their references show."""
        showing: dict[str, list[int]] = {name: [] for name in SPECIES}
        for index, sample in enumerate(self.samples):
            for name in _species(sample.references):
                showing[name].append(index)
        object.__setattr__(self, "showing", showing)

    def exchanged(self, index: int, rng: random.Random) -> tuple[Sample, int]:
        """Return the sample at `index` with the references of another sample, and the index of that sample.

        Most of these references show a character of the sample's scene and are therefore useful; others may not be.
        """
        sample = self.samples[index]
        alike = self.showing[rng.choice(sample.scene.characters).species]
        other = rng.choice(alike) if alike and rng.random() < ALIKE else rng.randrange(len(self.samples))
        return with_references(sample, self.samples[other].references), other

    @staticmethod
    def painted(sample: Sample) -> Scene:
        """Return the scene that the picture of a sample should show, given its references."""
        actors = list(sample.scene.characters)
        for index in sample.known:
            referenced = sample.shown(index)
            assert referenced is not None
            actors[index] = referenced
        return replace(sample.scene, characters=tuple(actors))


def pool(
    rng: random.Random,
    count: int,
    *,
    exchanges: Sequence[int],
    users_pictures: bool = True,
    drifting: bool = False,
    said: bool = False,
    hard: bool = False,
) -> Pool:
    """Draw pictures of training stories.

    Args:
        rng: Chooses the stories.
        count: Number of samples.
        exchanges: Possible lengths of the stories.
        users_pictures: Whether users may have shown pictures before.
        drifting: Whether some references show a character in a look that it never had.
        said: Whether some captions name the looks of their characters.
        hard: Whether most samples have two characters with looks that references show; they are rare in stories and
            the hardest to learn.
    """
    drawn: list[Sample] = []
    while len(drawn) < count:
        for sample in samples(story(rng, "train", exchanges=rng.choice(exchanges))):
            easy = all(len(scene.characters) == 1 for scene in (sample.scene, *sample.references))
            if (sample.user_scenes and not users_pictures) or (easy and rng.random() < LEFT_OUT):
                continue
            if hard and rng.random() >= _kept(sample):
                continue
            drawn.append(sample)
    del drawn[count:]
    if drifting:
        drawn = [_drifted(sample, rng) if rng.random() < DRIFTED else sample for sample in drawn]
    if said:
        drawn = [_said(sample) if rng.random() < SAID else sample for sample in drawn]
    return Pool(drawn)


def picture(scene: Scene, rng: random.Random, generator: torch.Generator | None = None) -> Tensor:
    """Render a scene [H, W, 3] in 0..1, sometimes a little blurred and noisy like a painted reference.

    Args:
        scene: What to render.
        rng: Chooses the render, the blur and the noise's strength.
        generator: Draws the noise; torch's own by default.
    """
    from .render import render

    return worn(render(scene, rng.randrange(2**31)), rng, generator)


def worn(render: np.ndarray, rng: random.Random, generator: torch.Generator | None = None) -> Tensor:
    """Return a render uint8 [H, W, 3] as [H, W, 3] in 0..1, sometimes a little blurred and noisy: see `picture`."""
    import numpy as np
    import torch
    from PIL import Image, ImageFilter

    image = Image.fromarray(render)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.random() * 1.3))
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return (pixels + rng.random() * 0.04 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def portrait(species: int, rng: random.Random) -> Tensor:
    """Return a picture [H, W, 3] of one character of a species, given as its index, in any look and place."""
    scene = random_scene(rng, characters=1)
    return picture(replace(scene, characters=(Character(SPECIES[species], scene.characters[0].look),)), rng)


def with_references(sample: Sample, references: tuple[Scene, ...]) -> Sample:
    """Return a sample with other references."""
    species = _species(references)
    known = tuple(
        index
        for index, actor in enumerate(sample.scene.characters)
        if actor.species in species and index not in sample.named
    )
    return replace(sample, references=references, known=known)


def _species(scenes: Sequence[Scene]) -> set[str]:
    return {actor.species for scene in scenes for actor in scene.characters}


def _kept(sample: Sample) -> float:
    if sample.known and sample.named:
        return 1.0
    if len(sample.known) > 1:
        return BOTH_KNOWN
    return NEWCOMER if sample.known and len(sample.scene.characters) > 1 else OTHERS


def _drifted(sample: Sample, rng: random.Random) -> Sample:
    """Change the looks in the latest of several references."""
    if len(sample.references) < 2:
        return sample
    *before, latest = sample.references
    actors = tuple(replace(actor, look=rng.choice(LOOKS)) for actor in latest.characters)
    return with_references(sample, (*before, replace(latest, characters=actors)))


def _said(sample: Sample) -> Sample:
    """Append the looks that the caption does not name: "..., the fox is blue"."""
    free = tuple(index for index in range(len(sample.scene.characters)) if index not in sample.named)
    caption = aside(replace(sample, known=free, references=(sample.scene,)))
    turn, place = sample.slot
    segments = list(sample.conversation.turns[turn].segments)
    segments[place] = replace(sample.conversation.picture(sample.slot), caption=caption)
    turns = list(sample.conversation.turns)
    turns[turn] = replace(turns[turn], segments=tuple(segments))
    return replace(sample, conversation=Conversation(tuple(turns)), caption=caption)
