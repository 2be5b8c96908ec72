"""Trains the judge of a world on renders, the storybook's by default.

Blur and noise teach it to ignore the quality of a picture.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..storybook.judge import Judge
from ..storybook.labels import labels
from ..storybook.render import render
from ..storybook.world import Scene, random_scene
from . import options
from .autoencoder import to_tensor
from .clip import roughened
from .feeding import add_workers_option
from .loop import Average, accelerator, add_options, autocast, begin, train
from .muon import Muon
from .worlds import add_world_option

HELD_OUT_SEED = 10**7  # seeds of held-out renders begin here; those of training are lower


def batch_of(rng: random.Random, count: int) -> tuple[list[Scene], Tensor]:
    """Return random scenes and their renders [count, 3, H, W] in -1..1."""
    scenes = [random_scene(rng) for _ in range(count)]
    return scenes, to_tensor([render(scene, rng.randrange(HELD_OUT_SEED)) for scene in scenes])


def accuracy(judge: Judge, scenes: list[Scene], images: list[np.ndarray]) -> dict[str, float]:
    """Return the accuracy for each attribute: species, scene (place), prop, appearance, light, weather."""
    verdict = judge.judge([torch.from_numpy(image).float() / 255 for image in images])
    truth = labels(scenes)
    scores = {"species": 0.0, "appearance": 0.0}
    actors = 0
    for row, scene in enumerate(scenes):
        names = {actor.species for actor in scene.characters}
        scores["species"] += verdict.species(row, len(names)) == names
        scores["appearance"] += sum(verdict.look(row, actor.species) == actor.look for actor in scene.characters)
        actors += len(names)
    scores["species"] /= len(scenes)
    scores["appearance"] /= actors
    for name, label in (("scene", "place"), ("prop", "prop"), ("light", "light"), ("weather", "weather")):
        scores[name] = float((getattr(verdict, label) == truth[label]).float().mean())
    return scores


def held_out(count: int, seed: int) -> tuple[list[Scene], list[np.ndarray]]:
    """Return scenes and renders that no training has seen."""
    rng = random.Random(HELD_OUT_SEED + seed)
    scenes = [random_scene(rng) for _ in range(count)]
    return scenes, [render(scene, HELD_OUT_SEED + rng.randrange(2**31)) for scene in scenes]


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train judge`; see `--help`."""
    parser = options.parser("judge", __doc__)
    add_options(parser, steps=1200, batch=48, lr=1e-3)
    add_world_option(parser)
    add_workers_option(parser)
    args = parser.parse_args(argv)
    begin(args, "judge", "judge.safetensors")
    if args.world == "picturebook":
        from . import picture_judge

        picture_judge.main(args)
        return
    device = accelerator().device
    judge = Judge().to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = Muon(judge.named_parameters(), lr=args.lr, weight_decay=0.02)
    average = Average(judge, 0.99)
    scenes, images = held_out(200, 0)

    def step_loss(rng: random.Random, _: float) -> tuple[Tensor, dict[str, float]]:
        drawn, batch = batch_of(rng, args.batch)
        truth = {name: value.to(device) for name, value in labels(drawn).items()}
        with autocast():
            logits = judge.train()(roughened(batch.to(device)).contiguous(memory_format=torch.channels_last))
        actors = logits.pop("actors").flatten(0, 1)
        loss = functional.cross_entropy(actors, truth["actors"].flatten(), reduction="sum") / args.batch
        return loss + sum(functional.cross_entropy(v, truth[name]) for name, v in logits.items()), {}

    def measure() -> dict[str, float]:
        return accuracy(judge.eval(), scenes, images)

    if not train(args, "judge", judge, optimizer, average, step_loss, every=100, measure=measure):
        return
    print(accuracy(judge.eval(), *held_out(1000, 1)))
    judge.save(args.output / "judge.safetensors")
