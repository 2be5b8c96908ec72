"""The loss with which a decoder itself was trained: what its UNet predicts, on its own noise schedule.

    x_t = a_t x + s_t n          a_t^2 = alphas_cumprod[t],  s_t^2 = 1 - a_t^2
    epsilon       n              predict the noise
    v_prediction  a_t n - s_t x  predict the velocity (Salimans and Ho, 2022)
    sample        x              predict the picture

Everything comes from the decoder's own configuration: prediction, schedule, and whether it ends in pure noise (zero
terminal signal-to-noise ratio). Min-SNR weights (Hang et al., 2023) bound by gamma how much nearly clean times count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from ..values import shown

if TYPE_CHECKING:
    from ..diffusion.decoder import DiffusionDecoder

PREDICTIONS = ("epsilon", "v_prediction", "sample")
AESTHETIC_SCORE = 6.0  # what refiners are told instead of a target size, as in diffusers' pipelines
Context = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Framing:
    """SDXL's micro-conditioning of B pictures, in pixels, each [B, 2] as height and width, or top and left.

    Attributes:
        original: The size of the pictures before they were resized.
        crop: The corner of what was cut out of them after resizing.
        target: The size of what was cut out.
    """

    original: Tensor
    crop: Tensor
    target: Tensor

    @classmethod
    def whole(cls, count: int, height: int, width: int) -> Framing:
        """Return the framing of pictures of a size that were not cropped."""
        size = torch.tensor([[height, width]]).expand(count, 2)
        return cls(size, torch.zeros_like(size), size)

    def time_ids(self, *, refiner: bool = False) -> Tensor:
        """Return what the UNet is told [B, 6], or [B, 5] for a refiner."""
        last = torch.full((len(self.crop), 1), AESTHETIC_SCORE) if refiner else self.target
        return torch.cat([self.original, self.crop, last], 1)


@dataclass(frozen=True)
class Draws:
    """What is random in the loss of B pictures: times [B] and noise [B, C, h, w] like their latents."""

    times: Tensor
    noise: Tensor


class DiffusionLoss:
    """The denoising loss of a decoder.

    Args:
        decoder: Its UNet predicts; its scheduler's configuration says what, and under which noise.
        min_snr: Gamma of the min-SNR weights; None weighs all times alike.
        early: Exponent of the times that are drawn: 1 draws all alike, less draws noisy ones more often.
        context: Makes the context in which the UNet computes, such as an autocast.

    Raises:
        ValueError: The decoder predicts something else, or has another kind of noise schedule.
    """

    def __init__(
        self,
        decoder: DiffusionDecoder,
        *,
        min_snr: float | None = None,
        early: float = 1.0,
        context: Context = nullcontext,
    ) -> None:
        self.decoder, self.min_snr, self.early, self.context = decoder, min_snr, early, context
        config = decoder.pipeline.scheduler.config
        self.prediction: str = config.get("prediction_type", "epsilon")
        if self.prediction not in PREDICTIONS:
            raise ValueError(
                f"The decoder's UNet predicts {shown(self.prediction)}, but trainings know {', '.join(PREDICTIONS)}."
            )
        alphas = cumulative_alphas(config)
        self.signal, self.noise_part = alphas.sqrt(), (1 - alphas).sqrt()
        self.weights = min_snr_weights(alphas, self.prediction, min_snr)

    def draw(self, latents: Tensor) -> Draws:
        """Draw times and noise for latents [B, C, h, w] from torch's random numbers, on the device of the latents.

        One time from each of B equal strata makes the loss less noisy than independent times.
        """
        batch, device = len(latents), latents.device
        strata = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
        times = (strata**self.early * len(self.signal)).long()[torch.randperm(batch, device=device)]
        times = times.clamp(max=len(self.signal) - 1)  # float32 may round the last stratum up to its end
        return Draws(times, torch.randn_like(latents))

    def draw_each(self, shapes: Sequence[tuple[int, ...]], device: torch.device | str) -> tuple[Tensor, list[Tensor]]:
        """Draw times [B] and a noise for each of B latents [C, h, w], as `draw` does for those of one shape."""
        alike = len(set(shapes)) == 1
        whole = self.draw(torch.zeros(len(shapes), *(shapes[0] if alike else ()), device=device))
        if alike:
            return whole.times, list(whole.noise)
        return whole.times, [torch.randn(shape, device=device) for shape in shapes]

    def noisy(self, latents: Tensor, draws: Draws) -> Tensor:
        """Return the noisy latents x_t."""
        signal, noise = self._terms(latents, draws.times)
        return signal * latents + noise * draws.noise

    def target(self, latents: Tensor, draws: Draws) -> Tensor:
        """Return what the UNet should predict."""
        if self.prediction == "epsilon":
            return draws.noise
        if self.prediction == "sample":
            return latents
        signal, noise = self._terms(latents, draws.times)
        return signal * draws.noise - noise * latents

    def __call__(
        self,
        latents: Tensor,
        embeds: Tensor,
        pooled: Tensor,
        framing: Framing | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """Return the loss [B] of pictures under their conditions.

        Args:
            latents: Scaled latents [B, C, h, w].
            embeds: Prompt embeddings [B, N, D].
            pooled: Pooled embeddings [B, P].
            framing: Of the pictures; by default they were neither resized nor cropped.
            draws: Times and noise; by default those of `draw`.
        """
        draws = draws or self.draw(latents)
        unet = self.decoder.unet
        height, width = (side * self.decoder.pipeline.vae_scale_factor for side in latents.shape[2:])
        added: dict[str, Any] = {}
        if getattr(unet.config, "addition_embed_type", None) == "text_time":
            framing = framing or Framing.whole(len(latents), height, width)
            ids = framing.time_ids(refiner=self.decoder.is_refiner).to(latents)
            added = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        with self.context():
            out = unet(self.noisy(latents, draws), draws.times, embeds, **added).sample
        error = functional.mse_loss(out.float(), self.target(latents, draws), reduction="none").flatten(1).mean(1)
        return error if self.weights is None else error * self.weights.to(error.device)[draws.times]

    def _terms(self, latents: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (latents.dim() - 1))
        signal, noise = (terms.to(latents.device)[times].view(shape) for terms in (self.signal, self.noise_part))
        return signal, noise


def cumulative_alphas(config: Any) -> Tensor:
    """Return alphas_cumprod [times] of a scheduler's configuration, for training: it may end in exactly 0.

    Samplers of a schedule that ends in pure noise replace its last value by a small one, so it is computed by the one
    scheduler of diffusers that does not.

    Raises:
        ValueError: The configuration is not that of a process from picture to noise in discrete times.
    """
    from diffusers import DDPMScheduler

    name = config.get("_class_name") or "its scheduler"
    if "beta_schedule" not in config and not config.get("trained_betas") or config.get("sigma_data") is not None:
        raise ValueError(
            f"The decoder's noise schedule is that of {name}, for which trainings have no loss: choose a decoder "
            "with a schedule of betas, such as SDXL."
        )
    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    chosen = {name: config[name] for name in names if config.get(name) is not None}
    try:
        scheduler: Any = DDPMScheduler(**chosen)
        return scheduler.alphas_cumprod
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"The decoder's noise schedule cannot be read from {name} ({error}).") from error


def min_snr_weights(alphas: Tensor, prediction: str, gamma: float | None) -> Tensor | None:
    """Return the min-SNR weight of each time [times] for a prediction; None if there is no gamma.

    With SNR = alpha / (1 - alpha), errors of `sample` weigh min(SNR, gamma), those of `epsilon` that over SNR, and
    those of `v_prediction` that over SNR + 1. Where there is no signal left at all, these are the limits 0, 1 and 0.
    """
    if gamma is None:
        return None
    snr = alphas / (1 - alphas)
    bounded = snr.clamp(max=gamma)
    if prediction == "sample":
        return bounded
    if prediction == "epsilon":
        return torch.where(snr > 0, bounded / snr, torch.ones_like(snr))
    return bounded / (snr + 1)
