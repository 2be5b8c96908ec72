"""Trains the starter's autoencoder (`AutoencoderKL`, factor 8) on renders of the storybook world."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..storybook.render import SIZE, render_with_figures
from ..storybook.world import random_scene
from .fast_norm import use_fast_norm
from .loop import Average, accelerator, add_options, autocast, begin, native_bfloat16, train
from .muon import Muon

WIDTHS = (32, 32, 64, 128)
FIGURE_WEIGHT, EDGE_WEIGHT = 3.0, 1.0
WHOLE_FROM = 0.5  # part of the training after which it sees whole pictures instead of crops


def build(latent_channels: int):
    """An untrained autoencoder in SDXL's layout, narrow: four levels, factor 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=["DownEncoderBlock2D"] * len(WIDTHS),
        up_block_types=["UpDecoderBlock2D"] * len(WIDTHS),
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=32,
        sample_size=SIZE,
    )


def pictures(rng: random.Random, count: int) -> tuple[Tensor, Tensor]:
    """Random renders [count, 3, 128, 128] in -1..1, and where their figures are [count, 1, 128, 128] (0 or 1)."""
    drawn = [render_with_figures(random_scene(rng), rng.randrange(2**31)) for _ in range(count)]
    figures = torch.from_numpy(np.stack([figure for _, figure in drawn]))
    return to_tensor([image for image, _ in drawn]), figures[:, None].float()


def to_tensor(renders: list[np.ndarray]) -> Tensor:
    """Renders [128, 128, 3] uint8 as one batch [count, 3, 128, 128] in -1..1."""
    return torch.from_numpy(np.stack(renders)).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(images: Tensor, figures: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """A quarter of each picture, around some point of a figure."""
    half = SIZE // 2
    parts = []
    for image, figure in zip(images, figures, strict=True):
        points = figure[0].nonzero()
        y, x = points[rng.randrange(len(points))].tolist()
        top, left = (min(max(0, middle - rng.randrange(16, half - 16)), SIZE - half) for middle in (y, x))
        parts.append(torch.cat([image, figure])[:, top : top + half, left : left + half])
    return torch.stack(parts).split((3, 1), dim=1)


def loss_of(out: Tensor, images: Tensor, figures: Tensor) -> Tensor:
    """Absolute and squared error, and that of the edges; figures weigh more than what is behind them."""
    error = out.float() - images
    weight = 1 + FIGURE_WEIGHT * figures
    across, down = error.diff(dim=3), error.diff(dim=2)
    edges = (across.abs() * weight[..., 1:]).mean() + (down.abs() * weight[..., 1:, :]).mean()
    return (weight * (error.abs() + 2 * error.pow(2))).mean() / weight.mean() + EDGE_WEIGHT * edges / weight.mean()


def reconstruct(model, images: Tensor) -> tuple[Tensor, Tensor]:
    """A sampled reconstruction of `images` and the KL divergence of the latents, per latent value."""
    mean, log_variance = model.quant_conv(model.encoder(images)).float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    divergence = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
    return model.decoder(model.post_quant_conv(latents)), divergence


@torch.no_grad()
def psnr(model, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions from the latent's mean; `images` in -1..1."""
    total = 0.0
    for part in images.split(8):
        part = part.contiguous(memory_format=torch.channels_last)
        out = model.decode(model.encode(part).latent_dist.mode()).sample.clamp(-1, 1)
        error = (out - part).pow(2).flatten(1).mean(1)
        total += float((10 * torch.log10(4 / error)).sum())
    return total / len(images)


def main(argv: list[str] | None = None) -> None:
    """`python -m m3adapter train autoencoder`: see `--help`."""
    parser = argparse.ArgumentParser(prog="m3adapter train autoencoder", description=__doc__)
    add_options(parser, steps=4000, batch=3, lr=1e-3)
    parser.add_argument("--latent-channels", type=int, default=8)
    parser.add_argument("--kl", type=float, default=1e-4, help="weight of the KL term per latent value")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder only: latents keep meaning")
    parser.add_argument("--init", type=Path, help="folder of an autoencoder to start from")
    args = parser.parse_args(argv)
    begin(args)
    if args.init:
        from diffusers import AutoencoderKL

        model = AutoencoderKL.from_pretrained(
            args.init, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    else:
        model = build(args.latent_channels)
    device = accelerator().device
    model.to(device)
    if native_bfloat16():
        use_fast_norm(model.to(memory_format=torch.channels_last))
    if args.freeze_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    optimizer = Muon(model.named_parameters(), lr=args.lr, weight_decay=0.0)
    average = Average(model)
    held_out = pictures(random.Random(10**6), 32)[0].to(device)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        whole = progress > WHOLE_FROM
        images, figures = pictures(rng, args.batch if whole else 4 * args.batch)
        if not whole:
            images, figures = crops(images, figures, rng)
        images, figures = images.to(device).contiguous(memory_format=torch.channels_last), figures.to(device)
        with autocast():
            out, divergence = reconstruct(model, images)
        loss = loss_of(out, images, figures)
        return loss if args.freeze_encoder else loss + args.kl * divergence, {}

    def measure() -> dict[str, float]:
        with average.applied():
            return {"psnr": psnr(model, held_out)}

    if not train(args, "autoencoder", model, optimizer, average, step_loss, every=200, measure=measure):
        return
    average.write()
    if not args.freeze_encoder:
        with torch.no_grad():
            latents = model.encode(pictures(random.Random(1), 64)[0].to(device)).latent_dist.mode()
        model.register_to_config(scaling_factor=1 / float(latents.std()))
    print(f"psnr {psnr(model, held_out):.2f} dB, scaling factor {model.config.scaling_factor:.4f}")
    model.save_pretrained(args.output / "vae")
