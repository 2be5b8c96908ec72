"""Trains the starter's autoencoder (`AutoencoderKL`, factor 8) on renders of the storybook world."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..storybook.render import SIZE, render_with_figures
from ..storybook.world import random_scene
from .fast_norm import use_fast_norm
from .loop import Average, cosine, resume, save_state
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
    parser.add_argument("--output", type=Path, required=True, help="folder for the model (`vae/`) and checkpoints")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long (the schedule follows the clock)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--latent-channels", type=int, default=8)
    parser.add_argument("--kl", type=float, default=1e-4, help="weight of the KL term per latent value")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder only: latents keep meaning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--init", type=Path, help="folder of an autoencoder to start from")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    if args.init:
        from diffusers import AutoencoderKL

        model = AutoencoderKL.from_pretrained(args.init, torch_dtype=torch.float32)
    else:
        model = build(args.latent_channels)
    use_fast_norm(model.to(memory_format=torch.channels_last))
    if args.freeze_encoder:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = Muon(model.named_parameters(), lr=args.lr, weight_decay=0.0)
    average = Average(model)
    args.output.mkdir(parents=True, exist_ok=True)
    start = resume(args.output / "autoencoder.pt", model, optimizer, average)
    rng.seed(args.seed + start)
    held_out, _ = pictures(random.Random(10**6), 32)
    began = time.time()
    done = start
    for step in range(start, args.steps):
        progress = (time.time() - began) / (60 * args.minutes) if args.minutes else step / args.steps
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cosine(step, progress, warmup=100)
        whole = progress > WHOLE_FROM
        images, figures = pictures(rng, args.batch if whole else 4 * args.batch)
        if not whole:
            images, figures = crops(images, figures, rng)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            out, divergence = reconstruct(model, images)
        loss = loss_of(out, images, figures)
        if not args.freeze_encoder:
            loss = loss + args.kl * divergence
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(step)
        done = step + 1
        if step % 200 == 199:
            with average.applied():
                print(f"step {step + 1} loss {loss.item():.4f} psnr {psnr(model, held_out):.2f} dB "
                      f"{(time.time() - began) / 60:.1f} min", flush=True)  # fmt: skip
        if step % 1000 == 999:
            save_state(args.output / "autoencoder.pt", model, optimizer, average, done)
    save_state(args.output / "autoencoder.pt", model, optimizer, average, done)
    with average.applied():
        if not args.freeze_encoder:
            with torch.no_grad():
                latents = model.encode(pictures(random.Random(1), 64)[0]).latent_dist.mode()
            model.register_to_config(scaling_factor=1 / float(latents.std()))
        print(f"psnr {psnr(model, held_out):.2f} dB, scaling factor {model.config.scaling_factor:.4f}")
        model.save_pretrained(args.output / "vae")
