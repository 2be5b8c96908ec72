"""Numbers that are none: where a model overflows, painting ends with the cure, and not with a black picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..events import NotFinite
from .condition import Condition


def is_finite(values: Tensor) -> bool:
    """Whether all values are numbers. Asking an accelerator waits for it."""
    return bool(values.isfinite().all())


def check_condition(condition: Condition) -> None:
    """Raises NotFinite for a condition that no picture can come of."""
    for name in ("embeds", "pooled", "negative_embeds", "negative_pooled"):
        if not is_finite(getattr(condition, name)):
            raise NotFinite(
                "The condition holds NaN or infinite numbers: load the model that made it (language model, M3-Adapter "
                "or text encoders) with dtype fp32."
            )


def check_latents(latents: Tensor, dtype: torch.dtype) -> None:
    """Raises NotFinite where a diffusion model that computes in `dtype` gave up."""
    _check_flag(latents.isfinite().all(), dtype)


def _check_flag(finite: Tensor, dtype: torch.dtype) -> None:
    if not finite:
        raise NotFinite(
            f"The diffusion model computed NaN or infinite numbers in {_name(dtype)}: "
            f"{_cure(dtype, 'load it with dtype bf16 or fp32 in Load SDXL Decoder')}."
        )


def check_pixels(images: Tensor, dtype: torch.dtype) -> None:
    """Raises NotFinite where a VAE that computes in `dtype` gave up, on its way to pixels or from them."""
    if not is_finite(images):
        raise NotFinite(
            f"The VAE computed NaN or infinite numbers in {_name(dtype)}, which would be a black picture: "
            f"{_cure(dtype, 'set vae_dtype of Load SDXL Decoder to fp32')}."
        )


class Watch:
    """Asks after each denoising step whether the one before it gave numbers.

    One step late: an accelerator has begun the next step by then, and does not wait for the question.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._before: Tensor | None = None

    def see(self, latents: Tensor) -> None:
        """Raises NotFinite as `check_latents` does, for the latents that it was given the time before."""
        if self._before is not None:
            _check_flag(self._before, self._dtype)
        self._before = latents.isfinite().all()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _cure(dtype: torch.dtype, half: str) -> str:
    return "its file may be damaged, so get it again" if dtype == torch.float32 else half
