"""The pictures of stories that M3FT trains on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..storybook.dataset import Sample, draw
from ..storybook.render import render
from ..storybook.world import LOOKS, Scene
from ..vision_encoder import VisionEncoder

STRANGE = 0.12  # part of disturbed samples that get another story's references
DRIFTED = 0.12  # part whose latest reference has lost the look: the oldest one counts


@dataclass(frozen=True)
class Pool:
    """Samples that a training draws from."""

    samples: list[Sample]

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
    rng: random.Random, count: int, *, exchanges: Sequence[int], users_pictures: bool = True, disturbed: bool = False
) -> Pool:
    """`count` pictures of training stories of so many exchanges.

    Without `users_pictures`, only those before which no user has shown a picture; `disturbed`, some references are
    wrong on purpose.
    """
    drawn: list[Sample] = []
    while len(drawn) < count:
        sample = draw(rng, "train", exchanges=rng.choice(exchanges))
        if users_pictures or not sample.user_scenes:
            drawn.append(sample)
    if disturbed:
        drawn = [_disturbed(sample, rng, drawn) for sample in drawn]
    return Pool(drawn)


def picture(scene: Scene, rng: random.Random) -> Tensor:
    """A render [H, W, 3] in 0..1, sometimes a little blurred and noisy, as painted references are."""
    image = Image.fromarray(render(scene, rng.randrange(2**31)))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.random() * 1.3))
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return (pixels + rng.random() * 0.04 * torch.randn(pixels.shape)).clamp(0, 1)


def _disturbed(sample: Sample, rng: random.Random, others: list[Sample]) -> Sample:
    references = sample.references
    chance = rng.random()
    if chance < STRANGE:
        references = rng.choice(others).references
    elif chance < STRANGE + DRIFTED and len(references) > 1:
        actors = tuple(replace(actor, look=rng.choice(LOOKS)) for actor in references[-1].characters)
        references = (*references[:-1], replace(references[-1], characters=actors))
    if references is sample.references:
        return sample
    species = {actor.species for scene in references for actor in scene.characters}
    known = tuple(
        index
        for index, actor in enumerate(sample.scene.characters)
        if actor.species in species and index not in sample.named
    )
    return replace(sample, references=references, known=known)
