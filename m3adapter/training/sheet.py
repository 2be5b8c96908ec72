"""Pictures of held-out samples, painted while a training runs: a reference, what it shows, gate 0 and gate 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.buckets import Bucket, fit
from ..datasets.sample import Sample
from ..diffusion.condition import Condition
from .models_at_work import Models

GATES = (0.0, 1.0)
STEPS, GUIDANCE = 20, 3.0

ConditionAt = Callable[[Sample, float], Condition]


def row(models: Models, sample: Sample, condition_at: ConditionAt, side: int) -> Tensor:
    """Return the pictures of a sample side by side [side, 4 * side, 3]."""
    square = Bucket(side, side)
    shown = [reference.picture for reference in sample.references[:1]] + [sample.picture]
    pictures = [fit(picture.pixels, square).pixels for picture in shown]
    if not sample.references:
        pictures.insert(0, torch.ones_like(pictures[0]))
    models.at_work("texts")
    plain = models.decoder.encode_text([sample.caption])
    conditions = [condition_at(sample, gate) for gate in GATES]
    models.at_work("unet", "vae")
    seed = int(sample.picture.digest[:8], 16)
    for condition in conditions:
        whole = Condition(condition.embeds, condition.pooled, plain.negative_embeds, plain.negative_pooled)
        with models.autocast():
            painted = models.decoder.decode(whole, seed=seed, steps=STEPS, guidance=GUIDANCE, width=side, height=side)
        pictures.append(painted[0])
    return torch.cat(pictures, 1)


def save_sheet(path: Path, rows: list[Tensor]) -> None:
    """Write rows of pictures below each other as a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (torch.cat(rows).clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(path)
