"""The pictures of stories that M3FT trains on, with what the vision encoder says of their references."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapter.vision_encoder import VisionEncoder
from ..storybook import pool as storybook
from ..storybook.pool import picture

__all__ = ["Pool", "picture", "pool"]


class Pool(storybook.Pool):
    """Samples that a training draws from."""

    @torch.no_grad()
    def vision(self, encoder: VisionEncoder, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Return the features [samples, R, L, P, D] of all references in bfloat16 and their mask [samples, R]."""
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


def pool(rng: random.Random, count: int, *, exchanges: Sequence[int], **wishes: bool) -> Pool:
    """Draw pictures of training stories: see `storybook.pool.pool`."""
    return Pool(storybook.pool(rng, count, exchanges=exchanges, **wishes).samples)
