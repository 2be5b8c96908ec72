"""What the decoder uses of diffusers' SDXL pipelines, whose own classes do not declare their components."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class SDXLPipeline(Protocol):
    """A `StableDiffusionXLPipeline`, or the `StableDiffusionXLImg2ImgPipeline` of a refiner.

    Attributes:
        unet: The denoiser, a `UNet2DConditionModel`.
        vae: The autoencoder, an `AutoencoderKL` or `AutoencoderTiny`.
        scheduler: The model's own scheduler.
        text_encoder: The first text encoder, a `CLIPTextModel`; None in a refiner.
        text_encoder_2: The second text encoder, a `CLIPTextModelWithProjection`.
        tokenizer: The tokenizer of the first text encoder, or None.
        tokenizer_2: The tokenizer of the second text encoder, or None.
        config: Settings of the pipeline.
        vae_scale_factor: Pixels per side of a latent.
    """

    unet: Any
    vae: Any
    scheduler: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    config: Any
    vae_scale_factor: int

    @property
    def components(self) -> dict[str, Any]:
        """All components by name."""

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Configure the progress bar."""

    def encode_prompt(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return prompt embeddings, their negatives, pooled embeddings and their negatives."""

    def save_pretrained(self, save_directory: str | Path, *, safe_serialization: bool = True) -> None:
        """Write a diffusers folder."""


def is_refiner(pipeline: SDXLPipeline) -> bool:
    """Return whether a pipeline's UNet is conditioned on an aesthetic score instead of a size, as SDXL's refiner is."""
    return bool(pipeline.config.get("requires_aesthetics_score"))
