"""Trains the starter's autoencoder (`AutoencoderKL`, factor 8 or 16 as its world has it) on renders."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..weights.tensors import save_half
from . import options
from .compiling import add_compile_option, compiled, use_norm
from .feeding import Feeder, Pool, add_workers_option
from .loop import (
    Average,
    accelerator,
    add_options,
    autocast,
    begin,
    native_bfloat16,
    train,
)
from .muon import Muon
from .worlds import World, add_world_option, open_world

Autoencoder = Any  # an `AutoencoderKL`: type checkers only see the placeholder that diffusers has for it

WIDTHS = (32, 32, 64, 128)
DEEP_WIDTHS = (32, 64, 96, 128, 128)  # factor 16
CHANNELS, DEEP_CHANNELS = 8, 32  # a cell of factor 16 holds four times as much
FIGURE_WEIGHT, EDGE_WEIGHT = 3.0, 1.0
HELD_OUT = 24  # number of pictures that no training step sees
WHOLE_FROM = 0.5  # part of the training after which whole pictures replace crops


def build(latent_channels: int, world: World | None = None) -> Autoencoder:
    """Build an untrained, narrow autoencoder in SDXL's layout with a level for each halving of the size, plus one."""
    from diffusers import AutoencoderKL

    world = world or open_world("storybook")
    widths = WIDTHS if world.cell == 8 else DEEP_WIDTHS
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=32,
        sample_size=world.size,
    )


def pictures(rng: random.Random, count: int, world: World | None = None) -> tuple[Tensor, Tensor]:
    """Return random renders [count, 3, S, S] in -1..1 and the masks of their figures [count, 1, S, S] (0 or 1)."""
    world = world or open_world("storybook")
    drawn = [world.draw(world.random_scene(rng), rng.randrange(2**31)) for _ in range(count)]
    figures = torch.from_numpy(np.stack([figure for _, figure in drawn]))
    return to_tensor([image for image, _ in drawn]), figures[:, None].float()


def to_tensor(renders: list[np.ndarray]) -> Tensor:
    """Return renders [S, S, 3] uint8 as a batch [count, 3, S, S] in -1..1."""
    return torch.from_numpy(np.stack(renders)).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(images: Tensor, figures: Tensor, rng: random.Random, cell: int = 1) -> tuple[Tensor, Tensor]:
    """Cut a quarter of each picture around some point of a figure; the corners are multiples of `cell`."""
    size = images.shape[-1]
    half, margin = size // 2, size // 8
    parts = []
    for image, figure in zip(images, figures, strict=True):
        points = figure[0].nonzero()
        y, x = points[rng.randrange(len(points))].tolist()
        top, left = (min(max(0, middle - rng.randrange(margin, half - margin)), size - half) for middle in (y, x))
        top, left = top // cell * cell, left // cell * cell
        parts.append(torch.cat([image, figure])[:, top : top + half, left : left + half])
    cut_images, cut_figures = torch.stack(parts).split((3, 1), dim=1)
    return cut_images, cut_figures


def corners(images: Tensor, figures: Tensor, rng: random.Random, cell: int) -> tuple[Tensor, Tensor]:
    """Cut the same quarter of all pictures on the grid of cells, low enough to show the ground, where figures stand."""
    size = images.shape[-1]
    half = size // 2
    top = rng.randrange(half // 2 // cell, half // cell + 1) * cell
    left = rng.randrange(half // cell + 1) * cell
    return images[..., top : top + half, left : left + half], figures[..., top : top + half, left : left + half]


def loss_of(out: Tensor, images: Tensor, figures: Tensor) -> Tensor:
    """Return the absolute and squared error and the error of the edges; figures weigh more than the background."""
    error = out.float() - images
    weight = 1 + FIGURE_WEIGHT * figures
    across, down = error.diff(dim=3), error.diff(dim=2)
    edges = (across.abs() * weight[..., 1:]).mean() + (down.abs() * weight[..., 1:, :]).mean()
    return (weight * (error.abs() + 2 * error.pow(2))).mean() / weight.mean() + EDGE_WEIGHT * edges / weight.mean()


def reconstruct(model: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return a sampled reconstruction of `images` and the KL divergence of the latents, per latent value."""
    mean, log_variance = model.quant_conv(model.encoder(images)).float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    divergence = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
    return model.decoder(model.post_quant_conv(latents)), divergence


@torch.no_grad()
def psnr(model: Autoencoder, images: Tensor, figures: Tensor | None = None) -> float:
    """Return the mean peak signal-to-noise ratio in dB of reconstructions from the mean of the latents.

    Args:
        model: The autoencoder.
        images: Pictures [B, 3, H, W] in -1..1.
        figures: A mask [B, 1, H, W] (0 or 1) of the pixels that count; all by default.
    """
    total = 0.0
    masks = torch.ones_like(images[:, :1]) if figures is None else figures
    for part, mask in zip(images.split(8), masks.split(8), strict=True):
        part = part.contiguous(memory_format=torch.channels_last)
        out = model.decode(model.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        squares = ((out - part).pow(2).mean(1, keepdim=True) * mask).flatten(1).sum(1)
        error = squares / mask.flatten(1).sum(1).clamp(min=1)
        total += float((10 * torch.log10(4 / error.clamp(min=1e-8))).sum())
    return total / len(images)


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train autoencoder`; see `--help`."""
    parser = options.parser("autoencoder", __doc__)
    add_options(parser, steps=4000, batch=3, lr=1e-3)
    add_world_option(parser)
    add_workers_option(parser)
    add_compile_option(parser)
    parser.add_argument(
        "--latent-channels", type=options.whole(1, 1024), help=f"default: {CHANNELS}, or {DEEP_CHANNELS} at factor 16"
    )
    parser.add_argument("--kl", type=options.number(0), default=1e-4, help="weight of the KL term per latent value")
    parser.add_argument(
        "--freeze-encoder", action="store_true", help="train the decoder only: latents keep their meaning"
    )
    parser.add_argument("--init", type=Path, help="folder of an autoencoder to start from")
    args = parser.parse_args(argv)
    options.check_folders(args, "init")
    begin(args, "autoencoder", "vae")
    world = open_world(args.world)
    if args.init:
        from diffusers import AutoencoderKL

        with options.opened("init", args.init):
            model = AutoencoderKL.from_pretrained(
                args.init, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
    else:
        model = build(args.latent_channels or (CHANNELS if world.cell == 8 else DEEP_CHANNELS), world)
    device = accelerator().device
    model.to(device)
    if native_bfloat16():
        use_norm(model.to(memory_format=torch.channels_last), args)
    if args.freeze_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    optimizer = Muon(model.named_parameters(), lr=args.lr, weight_decay=0.0)
    average = Average(model)
    held_out, held_figures = (part.to(device) for part in pictures(random.Random(10**6), HELD_OUT, world))
    pool = _pool(args, world, device) if args.workers else None

    def batch(rng: random.Random, count: int, whole: bool) -> tuple[Tensor, Tensor]:
        if pool is None:
            images, figures = pictures(rng, count if whole else 4 * count, world)
            if not whole:
                images, figures = crops(images, figures, rng, world.cell)
            return images.to(device), figures.to(device)
        pool.refresh()
        drawn = pool.sample(count if whole else 4 * count)["pictures"].permute(0, 3, 1, 2)
        images, figures = drawn[:, :3].float() / 127.5 - 1, drawn[:, 3:].float()
        return (images, figures) if whole else corners(images, figures, rng, world.cell)

    def errors(images: Tensor, figures: Tensor) -> tuple[Tensor, Tensor]:
        out, divergence = reconstruct(model, images)
        return loss_of(out, images, figures), divergence

    losses = compiled(errors, args)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        images, figures = batch(rng, args.batch, progress > WHOLE_FROM)
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast():
            loss, divergence = losses(images, figures)
        return loss if args.freeze_encoder else loss + args.kl * divergence, {}

    def measure() -> dict[str, float]:
        figures = {"psnr": psnr(model, held_out[:8]), "figure_psnr": psnr(model, held_out[:8], held_figures[:8])}
        return {**figures, "drawn": pool.drawn} if pool else figures

    def measure_average() -> dict[str, float]:
        with average.applied():
            return measure()

    def scale() -> None:
        """Set the factor by which latents are multiplied to have unit deviation."""
        if not args.freeze_encoder:
            with torch.no_grad():
                latents = torch.cat([model.encode(part).latent_dist.mode() for part in held_out.split(8)])
            model.register_to_config(scaling_factor=1 / float(latents.std()))

    def export() -> None:
        scale()
        model.save_config(args.output / "vae_so_far")
        save_half(model.state_dict(), args.output / "vae_so_far" / "diffusion_pytorch_model.safetensors")

    try:
        written = train(
            args, "autoencoder", model, optimizer, average, step_loss, every=200, measure=measure_average, export=export
        )
    finally:
        if pool:
            pool.feeder.close()
    if not written:
        return
    average.write()
    scale()
    whole, figures = psnr(model, held_out), psnr(model, held_out, held_figures)
    print(f"psnr {whole:.2f} dB, of figures {figures:.2f} dB, scaling factor {model.config.scaling_factor:.4f}")
    model.save_pretrained(args.output / "vae")


def _pool(args: argparse.Namespace, world: World, device: torch.device) -> Pool:
    feeder = Feeder(world.name, world.size, args.workers, args.seed)
    pool = Pool(feeder, args.pool or 16000, lambda pictures, scenes, tokens: {"pictures": pictures}, device)
    pool.fill(min(pool.capacity, 16 * args.batch))
    return pool
