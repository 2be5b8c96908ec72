"""Opens any kind of SDXL model as a diffusion decoder, as transformers' Auto classes choose among their models."""

from __future__ import annotations

from pathlib import Path

import torch

from .decoder import DiffusionDecoder
from .loading import open_pipeline
from .preview import LatentRGB


def load_decoder(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    scheduler: str | None = None,
    tokenizer: str | Path | None = None,
    configs: str | Path | None = None,
    spacing: str | None = None,
    prediction: str | None = None,
    vae: str | Path | None = None,
    vae_dtype: torch.dtype | None = None,
    float8: bool = False,
) -> DiffusionDecoder:
    """Open a diffusers folder or a single file: SDXL base, refiner, or a model fine-tuned from one of them.

    Args:
        path: The folder or .safetensors file.
        dtype: Type of the weights; by default as stored, but float32 on the CPU, where half precision is slow.
        device: Where to put the weights.
        scheduler: One of `schedulers.SCHEDULERS`; by default the model's own.
        tokenizer: A folder with CLIP's tokenizer, for a model that has none. Without a tokenizer the decoder paints
            conditions, but `encode_text` raises.
        configs: For a single file, a folder with the configurations of its components in diffusers' layout, instead
            of SDXL's own.
        spacing: How timesteps are spaced, one of `schedulers.SPACINGS`; by default as the model's configuration says,
            or as its noise schedule requires (see `schedulers.choose_scheduler`).
        prediction: What the UNet predicts, one of `schedulers.PREDICTIONS`; by default as the model says.
        vae: A file or folder with a VAE that replaces the model's own (see `vae_loading.load_vae`).
        vae_dtype: Type of the VAE's weights; by default that of the others.
        float8: Keep weights of UNet and text encoders that are stored as float8 in float8, a quarter to half of the
            memory; each layer unpacks its own while it works, and pictures are the same to the bit.

    Raises:
        FileNotFoundError: There is no such file, or no diffusers model in the folder.
        ValueError: The model is of another kind, incomplete, or quantised in an unknown way; or the scheduler is
            unknown or does not support what is asked of it.
    """
    pipeline = open_pipeline(
        path,
        dtype=dtype,
        device=device,
        scheduler=scheduler,
        tokenizer=tokenizer,
        configs=configs,
        spacing=spacing,
        prediction=prediction,
        vae=vae,
        vae_dtype=vae_dtype,
        float8=float8,
    )
    return DiffusionDecoder(pipeline, latent_rgb=LatentRGB.load(Path(path), pipeline.unet.config.in_channels))
