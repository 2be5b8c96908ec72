"""Checks for NaN and infinity: when a model overflows, painting ends with the cure instead of a black picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ..events import NotFinite
from .condition import Condition


def is_finite(values: Tensor) -> bool:
    """Return whether all values are finite. On an accelerator this waits for the result."""
    return bool(values.isfinite().all())


def check_condition(condition: Condition) -> None:
    """Raise NotFinite for a condition that holds NaN or infinity."""
    for name in ("embeds", "pooled", "negative_embeds", "negative_pooled"):
        if not is_finite(getattr(condition, name)):
            raise NotFinite(
                "The condition holds NaN or infinite numbers: load the model that made it (language model, M3-Adapter "
                "or text encoders) with dtype fp32."
            )


def check_latents(latents: Tensor, dtype: torch.dtype) -> None:
    """Raise NotFinite if a diffusion model that computes in `dtype` has overflowed."""
    _check_flag(latents.isfinite().all(), dtype)


def _check_flag(finite: Tensor, dtype: torch.dtype) -> None:
    if not finite:
        raise NotFinite(
            f"The diffusion model computed NaN or infinite numbers in {_name(dtype)}: "
            f"{_cure(dtype, 'load it with dtype bf16 or fp32 in Load SDXL Decoder')}."
        )


def check_pixels(images: Tensor, dtype: torch.dtype) -> None:
    """Raise NotFinite if a VAE that computes in `dtype` has overflowed while encoding or decoding."""
    if not is_finite(images):
        raise NotFinite(
            f"The VAE computed NaN or infinite numbers in {_name(dtype)}, which would be a black picture: "
            f"{_cure(dtype, 'set vae_dtype of Load SDXL Decoder to fp32')}."
        )


class FiniteWatch:
    """Checks after each denoising step whether the latents of the step before were finite.

    The delay of one step keeps an accelerator busy: it has started on the next step by the time the result is needed.
    On CUDA the result is copied as soon as it is there, and only that copy is waited for: to ask a tensor on the device
    would wait for all work that has been queued since, hence for the next step.

    Args:
        dtype: The type that the diffusion model computes in.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._last_finite: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def check(self, latents: Tensor) -> None:
        """Take the latents of a step, and raise NotFinite if those of the last call were not finite."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._last_finite is not None:
            _check_flag(self._last_finite, self._dtype)
        self._last_finite = latents.isfinite().all()
        if latents.is_cuda:
            self._last_finite = self._last_finite.to("cpu", non_blocking=True)  # into pinned memory
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(latents.device))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _cure(dtype: torch.dtype, cure_of_half_precision: str) -> str:
    return "its file may be damaged, so get it again" if dtype == torch.float32 else cure_of_half_precision
