"""The pictures of stories that M3FT trains on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..adapter.vision_encoder import VisionEncoder
from ..conversation.conversation import Conversation
from ..storybook.dataset import Sample, aside, samples
from ..storybook.render import render
from ..storybook.stories import story
from ..storybook.world import LOOKS, SPECIES, Scene

DRIFTED = 0.3  # part of the samples with several references whose latest one has lost the look: the oldest one counts
SAID = 0.4  # part of stage 1's captions that also say what only references can tell: its heads are stage 2's
LEFT_OUT = 0.85  # part of the drawn samples with a single character in every picture, the easy ones, that is left out
# Where hard samples are wished for, part kept of those of two characters whose looks only references tell, and of the
# others, but for the hardest: captions that name the look of one character and leave that of another to the references.
BOTH_KNOWN, OTHERS = 1.0, 0.1
ALIKE = 0.6  # part of the exchanged references that show a character of the sample, if with another look


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
        showing: dict[str, list[int]] = {name: [] for name in SPECIES}
        for index, sample in enumerate(self.samples):
            for name in _species(sample.references):
                showing[name].append(index)
        object.__setattr__(self, "showing", showing)

    def exchanged(self, index: int, rng: random.Random) -> tuple[Sample, int]:
        """The sample at `index` with the references of another one, and that one's index.

        Most of them show a character of the sample's scene, so that there is something to tell; the others may not.
        """
        sample = self.samples[index]
        alike = self.showing[rng.choice(sample.scene.characters).species]
        other = rng.choice(alike) if alike and rng.random() < ALIKE else rng.randrange(len(self.samples))
        return with_references(sample, self.samples[other].references), other

    @torch.no_grad()
    def vision(self, encoder: VisionEncoder, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Features [samples, R, L, P, D] of all references, in bfloat16, and their mask [samples, R]."""
        most = max(len(sample.references) for sample in self.samples)
        mask = torch.zeros(len(self.samples), most, dtype=torch.bool)
        features: Tensor | None = None
        places = [(row, column) for row, s in enumerate(self.samples) for column in range(len(s.references))]
        for start in range(0, len(places), 64):
            part = places[start : start + 64]
            images = [picture(self.samples[row].references[column], rng) for row, column in part]
            levels = encoder.encode(images).levels.to("cpu", torch.bfloat16)
            if features is None:
                features = torch.zeros(len(self.samples), most, *levels.shape[1:], dtype=torch.bfloat16)
            rows, columns = (torch.tensor(values) for values in zip(*part, strict=True))
            features[rows, columns] = levels
            mask[rows, columns] = True
        assert features is not None, "no sample has a reference"
        return features, mask

    @staticmethod
    def painted(sample: Sample) -> Scene:
        """The scene that the sample's picture should show, given its references."""
        actors = list(sample.scene.characters)
        for index in sample.known:
            shown = sample.shown(index)
            assert shown is not None
            actors[index] = shown
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
    """`count` pictures of training stories of so many exchanges.

    Without `users_pictures`, only those before which no user has shown a picture; `drifting`, some references show a
    character in a look that it never had; `said`, some captions say the looks of their characters; `hard`, most
    have two characters, of whose looks one or both are for the references to tell: rare in stories, hardest to learn.
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


def picture(scene: Scene, rng: random.Random) -> Tensor:
    """A render [H, W, 3] in 0..1, sometimes a little blurred and noisy, as painted references are."""
    image = Image.fromarray(render(scene, rng.randrange(2**31)))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.random() * 1.3))
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return (pixels + rng.random() * 0.04 * torch.randn(pixels.shape)).clamp(0, 1)


def with_references(sample: Sample, references: tuple[Scene, ...]) -> Sample:
    """The sample as if those had been its reference pictures."""
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
    return BOTH_KNOWN if len(sample.known) > 1 else OTHERS


def _drifted(sample: Sample, rng: random.Random) -> Sample:
    """With other looks in the latest of several references."""
    if len(sample.references) < 2:
        return sample
    *before, latest = sample.references
    actors = tuple(replace(actor, look=rng.choice(LOOKS)) for actor in latest.characters)
    return with_references(sample, (*before, replace(latest, characters=actors)))


def _said(sample: Sample) -> Sample:
    """With the looks that its caption does not name said behind it: "..., the fox is blue"."""
    free = tuple(index for index in range(len(sample.scene.characters)) if index not in sample.named)
    caption = aside(replace(sample, known=free, references=(sample.scene,)))
    turn, place = sample.slot
    segments = list(sample.conversation.turns[turn].segments)
    segments[place] = replace(segments[place], caption=caption)
    turns = list(sample.conversation.turns)
    turns[turn] = replace(turns[turn], segments=tuple(segments))
    return replace(sample, conversation=Conversation(tuple(turns)), caption=caption)
