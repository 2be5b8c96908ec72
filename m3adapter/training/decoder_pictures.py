"""What the decoder is trained on: pictures as latents, cached or drawn all the time, and captions as embeddings."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import kept
from .autoencoder import to_tensor
from .feeding import CAPTIONS, Feeder, Pool
from .loop import autocast
from .worlds import World, open_world

Pipeline = Any  # a StableDiffusionXLPipeline: type checkers only see the placeholder that diffusers has for it

# Latents, figures' shares, prompt embeddings, pooled ones, and figures to print.
Drawn = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, float]]


@torch.no_grad()
def embed(pipeline: Pipeline, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Encode captions as the pipeline does.

    Returns:
        Prompt embeddings [B, N, D] and pooled ones [B, P].
    """
    device = pipeline.text_encoder_2.device  # where the other models are does not matter
    embeds, _, pooled, _ = pipeline.encode_prompt(captions, device=device, do_classifier_free_guidance=False)
    return embeds, pooled


@torch.no_grad()
def embed_tokens(pipeline: Pipeline, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Encode captions like `embed`, given their tokens [B, N]."""
    first = pipeline.text_encoder(tokens, output_hidden_states=True)
    second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds


@torch.no_grad()
def encode_pictures(pipeline: Pipeline, images: Tensor, together: int = 32) -> Tensor:
    """Encode pictures with the autoencoder.

    Args:
        pipeline: The decoder.
        images: Pictures [B, 3, H, W] in -1..1.
        together: How many are encoded at a time.

    Returns:
        Scaled latents [B, C, h, w] in bfloat16 on the autoencoder's device.
    """
    parts = []
    for part in images.split(together):
        part = part.to(pipeline.vae.device).contiguous(memory_format=torch.channels_last)
        with autocast():
            latents = pipeline.vae.encode(part).latent_dist.mode()
        parts.append((latents.float() * pipeline.vae.config.scaling_factor).bfloat16())
    return torch.cat(parts).contiguous()  # as they come back from a file: noise like them is drawn in their layout


def encode_scenes(pipeline: Pipeline, scenes: list, seeds: list[int], world: World | None = None) -> Tensor:
    """Render scenes and return their scaled latents [count, C, h, w] in bfloat16 on the CPU."""
    world = world or open_world("storybook")
    parts = []
    for start in range(0, len(scenes), 32):
        pairs = zip(scenes[start : start + 32], seeds[start : start + 32], strict=True)
        parts.append(encode_pictures(pipeline, to_tensor([world.draw(*pair)[0] for pair in pairs])).cpu())
    return torch.cat(parts)


def figure_shares(scenes: list, seeds: list[int], world: World | None = None) -> Tensor:
    """Return which part of each latent cell is covered by characters or props, in bfloat16 [count, 1, h, w]."""
    world = world or open_world("storybook")
    masks = [torch.from_numpy(world.draw(*pair)[1])[None] for pair in zip(scenes, seeds, strict=True)]
    return functional.avg_pool2d(torch.stack(masks).float(), world.cell).bfloat16()


@dataclass(frozen=True)
class Pictures:
    """What the UNet learns from.

    Attributes:
        scenes: What the pictures show.
        latents: Their scaled latents [count, C, 16, 16].
        figures: Their `figure_shares`.
    """

    scenes: list
    latents: Tensor
    figures: Tensor


def cached_pictures(
    pipeline: Pipeline, path: Path, count: int, seed: int, pairs: float = 0.25, world: World | None = None
) -> Pictures:
    """Encode pictures of random scenes, or read those that an earlier run kept.

    Args:
        pipeline: The decoder.
        path: The file in which they are kept.
        count: How many.
        seed: Chooses the scenes.
        pairs: Part of them with two characters.
        world: What is drawn.
    """
    world = world or open_world("storybook")
    rng = random.Random(seed)
    key = kept.digest(kept.world_digest(world.name), pipeline.vae, count, seed, pairs)
    scenes = [world.random_scene(rng, characters=2 if rng.random() < pairs else 1) for _ in range(count)]
    seeds = [rng.randrange(2**31) for _ in range(count)]

    def make() -> dict[str, Tensor]:
        began = time.time()
        made = {
            "latents": encode_scenes(pipeline, scenes, seeds, world),
            "figures": figure_shares(scenes, seeds, world),
        }
        print(f"encoded {count} pictures in {time.time() - began:.0f} s", flush=True)
        return made

    return Pictures(scenes, **kept.kept(path, key, make))


def fresh_pictures(pipeline: Pipeline, args: argparse.Namespace, world: World) -> Pool:
    """Return a pool of latents, figures' shares and captions' embeddings that drawing processes keep refreshing."""
    device = pipeline.vae.device

    def prepared(pictures: Tensor, scenes: list, tokens: Tensor) -> dict[str, Tensor]:
        planes = pictures.permute(0, 3, 1, 2)
        embeds, pooled = embed_tokens(pipeline, tokens.flatten(0, 1).long())
        return {
            "latents": encode_pictures(pipeline, planes[:, :3].float() / 127.5 - 1, 128),
            "figures": functional.avg_pool2d(planes[:, 3:].float(), world.cell).bfloat16(),
            "embeds": embeds.unflatten(0, tokens.shape[:2]).bfloat16(),
            "pooled": pooled.unflatten(0, tokens.shape[:2]),
        }

    feeder = Feeder(
        world.name,
        world.size,
        args.workers,
        args.seed + 2,
        pairs=args.pairs,
        tokenizer=args.clip / "tokenizer",
        length=world.tokens,
    )
    pool = Pool(feeder, args.pool or 200000, prepared, device)
    pool.fill(2 * args.batch)
    return pool


class FromCache:
    """Draws the samples of a step from pictures that were encoded beforehand, each with CAPTIONS captions.

    Args:
        embeddings: Encodes captions.
        pictures: The pictures, which are kept on the decoder's device.
        batch: The number of samples in a step.
        world: What the pictures are of.
        seed: Chooses the captions.
    """

    def __init__(
        self,
        embeddings: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
        pictures: Pictures,
        batch: int,
        world: World,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.embeddings, self.scenes, self.batch, self.world, self.seed = (
            embeddings, pictures.scenes, batch, world, seed,
        )  # fmt: skip
        self.latents, self.figures = pictures.latents.to(device), pictures.figures.to(device)
        self._captions: dict[int, list[str]] = {}

    def __call__(self, rng: random.Random) -> Drawn:
        """Draw the samples of a step."""
        chosen = rng.choices(range(len(self.scenes)), k=self.batch)
        texts = [self._captions_of(index)[rng.randrange(CAPTIONS)] for index in chosen]
        embeds, pooled = self.embeddings(texts)
        rows = torch.tensor(chosen, device=self.latents.device)
        return self.latents[rows].float(), self.figures[rows].float(), embeds, pooled, {}

    def _captions_of(self, index: int) -> list[str]:
        if index not in self._captions:
            rng = random.Random(f"captions {self.seed} {index}")
            self._captions[index] = [self.world.caption(rng, self.scenes[index]) for _ in range(CAPTIONS)]
        return self._captions[index]

    def close(self) -> None:
        """Do nothing: there are no processes."""


class FromPool:
    """Draws the samples of a step from a pool that is refreshed all the time."""

    def __init__(self, pool: Pool, batch: int) -> None:
        """Take the pool and the number of samples in a step."""
        self.pool, self.batch = pool, batch
        self.rows = torch.arange(batch, device=pool.device)

    def __call__(self, rng: random.Random) -> Drawn:
        """Draw the samples of a step."""
        self.pool.refresh(most=4)
        drawn = self.pool.sample(self.batch)
        own = torch.randint(CAPTIONS, (self.batch,), device=self.rows.device)
        embeds, pooled = (drawn[name][self.rows, own].float() for name in ("embeds", "pooled"))
        return drawn["latents"].float(), drawn["figures"].float(), embeds, pooled, {"drawn": self.pool.drawn}

    def close(self) -> None:
        """End the drawing processes."""
        self.pool.feeder.close()
