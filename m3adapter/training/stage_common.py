"""What both stages of M3FT share: their parameters, drawing samples, denoising, and measuring on held-out samples."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..datasets.sample import Dataset, Sample
from ..diffusion.condition import Condition
from .diffusion_loss import DiffusionLoss, Draws, Framing
from .shares import Share

if TYPE_CHECKING:
    from ..adapter.m3_adapter import M3Adapter
    from .frozen import Frozen
    from .recipe import Recipe, Stage
    from .text_target import PictureText, TextTarget

WORTH_SAMPLES = 32  # on which `caption_worth` is measured
Outputs = tuple[Tensor, Tensor]  # prompt embeddings [B, N, D] and pooled ones [B, P]


@dataclass
class Setting:
    """What a stage works with."""

    recipe: Recipe
    adapter: M3Adapter
    frozen: Frozen
    target: TextTarget
    denoising: DiffusionLoss
    samples: Dataset
    held_out: Sequence[Sample]
    picture_text: PictureText | None = None


def group_of(adapter: M3Adapter, stage: int) -> dict[str, nn.Parameter]:
    """Return the parameters that a stage trains, and freeze all others.

    Raises:
        AssertionError: The two stages share a parameter or leave one out.
    """
    first, second = adapter.stage1_parameters(), adapter.stage2_parameters()
    assert not first.keys() & second.keys(), "the stages share parameters"
    assert first.keys() | second.keys() == dict(adapter.named_parameters()).keys(), "a parameter belongs to no stage"
    adapter.requires_grad_(False)
    group = first if stage == 1 else second
    for parameter in group.values():
        parameter.requires_grad_(True)
    return group


def draw(rng: random.Random, count: int, batch: int) -> list[int]:
    """Draw the samples of a step; no sample twice, unless the batch is larger than the data set."""
    return rng.sample(range(count), batch) if batch <= count else rng.choices(range(count), k=batch)


def own_places(setting: Setting, share: Share, indices: Sequence[int], options: Stage) -> list[int]:
    """Return the places in a step's samples that a share computes: of as few sizes of pictures as can be."""
    sizes = [setting.frozen.size_of(setting.samples.size(index)) for index in indices]
    return share.of(sizes, denoised(options))


def denoised(options: Stage) -> int:
    """Return how many of a step's samples are denoised: the first ones, and at least one of any share."""
    return max(1, int(options.batch * options.denoise_share)) if options.denoise_share and options.denoise else 0


def anchored(adapter: M3Adapter, outputs: Outputs, anchor: Outputs | None) -> Outputs:
    """Return the condition that an adapter's outputs make, with the anchor if there is one, as `M3Adapter.forward`."""
    if anchor is None:
        return outputs
    embeds, pooled = outputs
    return (
        anchor[0] + torch.tanh(adapter.alpha.to(embeds)) * embeds,
        anchor[1] + torch.tanh(adapter.alpha_pooled.to(pooled)) * pooled,
    )


def denoise(
    setting: Setting, outputs: Outputs, samples: Sequence[Sample], share: Share, own: Sequence[int], count: int
) -> Tensor:
    """Return the decoder's loss on the first `count` of a step's samples: this share's part of their mean.

    Pictures of one size are denoised together.

    Args:
        setting: The models.
        outputs: Conditions of the share's samples.
        samples: All of the step's samples that are denoised, or more.
        share: The part of them whose conditions these are.
        own: The places of the share's samples in the step, those that are denoised first.
        count: How many of the step's samples are denoised.
    """
    device = setting.frozen.models.device
    shapes = [setting.frozen.latent_shape(sample.picture) for sample in samples[:count]]
    times, noise = setting.denoising.draw_each(shapes, device)
    own = [place for place in own if place < count]
    if not own:
        return outputs[0].sum() * 0.0
    latents, framing = setting.frozen.latents_of([samples[place].picture for place in own])
    setting.frozen.models.at_work("unet")
    losses = []
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, value in enumerate(latents):
        groups.setdefault(tuple(value.shape), []).append(row)
    for rows in groups.values():
        chosen = torch.tensor([own[row] for row in rows])
        draws = Draws(times[chosen.to(times.device)], torch.stack([noise[place] for place in chosen.tolist()]))
        framed = Framing(framing.original[rows], framing.crop[rows], framing.target[rows])
        batch = torch.stack([latents[row] for row in rows])
        losses.append(setting.denoising(batch, outputs[0][rows], outputs[1][rows], framed, draws))
    return share.mean(torch.cat(losses), count)


@torch.no_grad()
def measured_loss(setting: Setting, condition: Condition, sample: Sample) -> float:
    """Return the decoder's loss on a held-out sample, the same times and noise whenever it is measured."""
    latents, framing = setting.frozen.latents_of([sample.picture])
    setting.frozen.models.at_work("unet")
    count = 4
    batch = torch.stack(latents * count)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(sample.picture.digest[:8], 16))
        draws = setting.denoising.draw(batch.cpu())
    draws = Draws(draws.times.to(batch.device), draws.noise.to(batch.device))
    framed = Framing(*(part.expand(count, 2) for part in (framing.original, framing.crop, framing.target)))
    embeds, pooled = (part.expand(count, *part.shape[1:]) for part in (condition.embeds, condition.pooled))
    return float(setting.denoising(batch, embeds, pooled, framed, draws).mean())


@torch.no_grad()
def caption_worth(setting: Setting) -> float:
    """Return by how much captions lower the decoder's loss on pictures, against the empty condition."""
    samples = [setting.samples[index] for index in range(min(len(setting.samples), WORTH_SAMPLES))]
    found = []
    for sample in samples:
        told = setting.target([sample.caption])
        nothing = (torch.zeros_like(told[0]), torch.zeros_like(told[1]))
        losses = [measured_loss(setting, Condition(*given, *given), sample) for given in (nothing, told)]
        found.append(losses[0] - losses[1])
    return sum(found) / len(found)


def parts(stage: Stage, processes: int) -> int:
    """Return how many parts each process divides its samples of a step into."""
    own = -(-stage.batch // processes)
    return -(-own // stage.micro_batch) if stage.micro_batch else 1


def mean_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those rows that have it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
