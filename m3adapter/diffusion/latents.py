"""Pictures to latents and back, through the autoencoder of a model of SDXL's layout.

The VAE may be on another device and in another type than the UNet: ComfyUI moves each as it likes.
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
    """Latents [B, C, h, w] as pictures [B, H, W, 3] in 0..1 on the CPU, as diffusers' pipelines decode them.

    Raises NotFinite where the VAE overflows.
    """
    with _without_overflow(vae):
        latents = latents.to(vae.device, vae.dtype)
        shift = _statistics(vae, latents)
        if shift is None:
            latents = latents / vae.config.scaling_factor
        else:
            means, deviations = shift
            latents = latents * deviations / vae.config.scaling_factor + means
        images = vae.decode(latents).sample
        check_pixels(images, images.dtype)
    return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()


@torch.no_grad()
def to_latents(vae: Any, picture: Tensor, height: int, width: int, generators: Sequence[torch.Generator]) -> Tensor:
    """A picture [H, W, 3] in 0..1, resized, as latents [B, C, h, w]: one draw for each generator (of the CPU).

    The autoencoder says of each value how sure it is of it, and the draw is from that, as in diffusers' pipelines; a
    tiny one is always sure. Raises NotFinite where the VAE overflows.
    """
    image = picture.permute(2, 0, 1)[None]
    if image.shape[-2:] != (height, width):
        image = functional.interpolate(image, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    with _without_overflow(vae):
        found = vae.encode((image * 2 - 1).to(vae.device, vae.dtype))
        if hasattr(found, "latent_dist"):
            latents = torch.cat([found.latent_dist.sample(generator) for generator in generators])
        else:
            latents = found.latents.repeat(len(generators), 1, 1, 1)
        check_pixels(latents, latents.dtype)
    shift = _statistics(vae, latents)
    if shift is None:
        return latents * vae.config.scaling_factor
    means, deviations = shift
    return (latents - means) * vae.config.scaling_factor / deviations


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation [C, 1, 1] of each channel of the latents, if the model was trained on normalised ones."""
    both = [vae.config.get(name) for name in ("latents_mean", "latents_std")]
    if None in both:
        return None
    means, deviations = (latents.new_tensor(values)[:, None, None] for values in both)
    return means, deviations


@contextmanager
def _without_overflow(vae: Any) -> Iterator[None]:
    """SDXL's own VAE overflows in float16 and paints black, so it works in float32 for the time being."""
    overflows = vae.dtype == torch.float16 and vae.config.force_upcast
    if overflows:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if overflows:
            vae.to(torch.float16)
