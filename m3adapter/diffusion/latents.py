"""Encodes pictures to latents and decodes them, with the VAE of a model of SDXL's layout.

The VAE may be on another device and in another type than the UNet, because ComfyUI moves them independently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .finite import check_pixels


@torch.no_grad()
def to_pictures(vae: Any, latents: Tensor) -> Tensor:
    """Decode latents [B, C, h, w] to pictures [B, H, W, 3] in 0..1 on the CPU, as diffusers' pipelines do.

    Raises:
        NotFinite: The VAE overflows.
    """
    with _without_overflow(vae):
        latents = latents.to(vae.device, vae.dtype)
        statistics = _statistics(vae, latents)
        if statistics is None:
            latents = latents / vae.config.scaling_factor + _shift(vae)
        else:
            means, deviations = statistics
            latents = latents * deviations / vae.config.scaling_factor + means
        images = vae.decode(latents).sample
        check_pixels(images, images.dtype)
    return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()


@torch.no_grad()
def to_latents(vae: Any, picture: Tensor, height: int, width: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Encode a picture [H, W, 3] in 0..1, resized to `height` x `width`, to latents [B, C, h, w].

    The latents are sampled from the VAE's posterior as in diffusers' pipelines, once for each of B generators (on the
    CPU). A tiny autoencoder has no posterior, and gives the same latents B times.

    Raises:
        NotFinite: The VAE overflows.
    """
    image = picture.permute(2, 0, 1)[None]
    if image.shape[-2:] != (height, width):
        image = functional.interpolate(image, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    with _without_overflow(vae):
        encoded = vae.encode((image * 2 - 1).to(vae.device, vae.dtype))
        if hasattr(encoded, "latent_dist"):
            latents = torch.cat([encoded.latent_dist.sample(generator) for generator in generators])
        else:
            latents = encoded.latents.repeat(len(generators), 1, 1, 1)
        check_pixels(latents, latents.dtype)
    return _scaled(vae, latents)


@torch.no_grad()
def latent_means(vae: Any, images: Tensor) -> Tensor:
    """Encode images [B, 3, H, W] in -1..1 to the means [B, C, h, w] of the latents that the VAE would draw."""
    encoded = vae.encode(images.to(vae.device, vae.dtype))
    return _scaled(vae, encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents)


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    """Return latents in the scale that the diffusion model works in."""
    statistics = _statistics(vae, latents)
    if statistics is None:
        return (latents - _shift(vae)) * vae.config.scaling_factor
    means, deviations = statistics
    return (latents - means) * vae.config.scaling_factor / deviations


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation [C, 1, 1] of the latents' channels, or None if they are not normalised."""
    means, deviations = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if means is None or deviations is None:
        return None
    return latents.new_tensor(means)[:, None, None], latents.new_tensor(deviations)[:, None, None]


def _shift(vae: Any) -> float:
    """Return what a VAE says is taken from its latents before they are scaled; SDXL's says nothing."""
    return vae.config.get("shift_factor") or 0.0


@contextmanager
def _without_overflow(vae: Any) -> Iterator[None]:
    """Run a VAE in float32 inside the `with` block if, like SDXL's own, it overflows in float16 (a black picture)."""
    overflows = vae.dtype == torch.float16 and vae.config.force_upcast
    if overflows:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if overflows:
            vae.to(torch.float16)
