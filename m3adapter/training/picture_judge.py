"""Trains the picture book's judge on renders; blur and noise teach it to ignore the quality of a picture."""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor
from torch.nn import functional

from ..picturebook.judge import Judge
from ..picturebook.labels import ACTOR_FIELDS, UNKNOWN, WHOLE_FIELDS, labels
from ..picturebook.render import render
from ..picturebook.world import SPECIES, Scene, random_scene
from .autoencoder import to_tensor
from .clip import roughened
from .feeding import Feeder, Pool
from .loop import Average, accelerator, autocast, train
from .muon import Muon
from .worlds import open_world

HELD_OUT_SEED = 10**7  # seeds of held-out renders begin here; those of training are lower


def held_out(count: int, seed: int) -> tuple[list[Scene], list[Tensor]]:
    """Return scenes and renders [256, 256, 3] in 0..1 that no training has seen."""
    rng = random.Random(HELD_OUT_SEED + seed)
    scenes = [random_scene(rng, split="test") for _ in range(count)]
    return scenes, [torch.from_numpy(render(scene, rng.randrange(2**31)).copy()).float() / 255 for scene in scenes]


def accuracy(judge: Judge, scenes: list[Scene], images: list[Tensor]) -> dict[str, float]:
    """Return the accuracy for each attribute.

    Species, props and the fields of WHOLE_FIELDS are counted by picture, the others by character.
    """
    verdict = judge.judge(images)
    truth = labels(scenes)
    names = [{actor.species for actor in scene.characters} for scene in scenes]
    scores = {"species": sum(verdict.species(row, len(own)) == own for row, own in enumerate(names)) / len(scenes)}
    there = truth["look"] != ACTOR_FIELDS["look"]
    for name in ACTOR_FIELDS:
        known = there & (truth[name] != UNKNOWN)
        scores[name] = float((verdict.actors[name] == truth[name])[known].float().mean())
    for name in WHOLE_FIELDS:
        scores[name] = float((verdict.wholes[name] == truth[name]).float().mean())
    scores["props"] = float(((verdict.props > 0.5) == truth["props"].bool()).all(1).float().mean())
    return scores


def main(args: argparse.Namespace) -> None:
    """Run `python -m m3adapter train judge --world picturebook` with parsed options."""
    device = accelerator().device
    world = open_world("picturebook")
    judge = Judge().to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = Muon(judge.named_parameters(), lr=args.lr, weight_decay=0.02)
    average = Average(judge, 0.99)
    scenes, images = held_out(200, 0)

    def prepared(pictures: Tensor, drawn: list, tokens: None) -> dict[str, Tensor]:
        return {"images": pictures[..., :3], **{name: value.to(device) for name, value in labels(drawn).items()}}

    pool = None
    if args.workers:
        pool = Pool(Feeder(world.name, world.size, args.workers, args.seed + 3), args.pool or 16000, prepared, device)
        pool.fill(min(pool.capacity, 4 * args.batch))

    def batch(rng: random.Random) -> tuple[Tensor, dict[str, Tensor]]:
        if pool:
            pool.refresh()
            truth = pool.sample(args.batch)
            return truth.pop("images").permute(0, 3, 1, 2).float() / 127.5 - 1, truth
        drawn = [random_scene(rng) for _ in range(args.batch)]
        pictures = to_tensor([render(scene, rng.randrange(HELD_OUT_SEED)) for scene in drawn]).to(device)
        return pictures, {name: value.to(device) for name, value in labels(drawn).items()}

    def step_loss(rng: random.Random, _: float) -> tuple[Tensor, dict[str, float]]:
        pictures, truth = batch(rng)
        with autocast():
            logits = judge.train()(roughened(pictures).contiguous(memory_format=torch.channels_last))
        losses = []
        for name in ACTOR_FIELDS:
            value = functional.cross_entropy(
                logits[name].flatten(0, 1), truth[name].flatten(), ignore_index=UNKNOWN, reduction="mean"
            )
            losses.append(value * len(SPECIES) * (1.0 if name == "look" else 0.5))
        losses += [functional.cross_entropy(logits[name], truth[name]) for name in WHOLE_FIELDS]
        losses.append(functional.binary_cross_entropy_with_logits(logits["props"], truth["props"]) * 8)
        return torch.stack(losses).sum(), {}

    def measure() -> dict[str, float]:
        return accuracy(judge.eval(), scenes, images)

    def export() -> None:
        judge.save(args.output / "judge.safetensors")

    try:
        written = train(args, "judge", judge, optimizer, average, step_loss, every=100, measure=measure, export=export)
    finally:
        if pool:
            pool.feeder.close()
    if written:
        print(accuracy(judge.eval(), *held_out(300, 1)))
        export()
