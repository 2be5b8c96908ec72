"""Denoising in stretches: diffusers' own SDXL pipelines, on embeddings and latents in place of prompts and pictures.

One stretch is the usual case. A refiner makes it two, which share one schedule: the first ends where the second begins
(diffusers' "ensemble of expert denoisers"). A stretch that starts from a picture is shorter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..ip_adapter.image_prompt import looking
from .condition import Condition
from .finite import Watch, check_latents

if TYPE_CHECKING:
    from .decoder import DiffusionDecoder

Report = Callable[[int, Tensor], None]


class Stretch:
    """What one model denoises of a picture.

    Args:
        decoder: The model, on the device and in the type that it computes in.
        condition: What it paints [B, ...], for its own widths.
        steps: Denoising steps of the whole schedule.
        guidance: Classifier-free guidance scale.
        scheduler: Its settings are taken over, with the decoder's own prediction type; the decoder's own by default.
        strength: Which part of the schedule is denoised, counted from its end, if it starts from a picture.
        start, end: Where in the schedule it takes over from another one, and where it hands over; in 0..1.

    Raises ValueError for more steps than the scheduler can take.
    """

    def __init__(
        self,
        decoder: DiffusionDecoder,
        condition: Condition,
        *,
        steps: int,
        guidance: float,
        scheduler: Any = None,
        strength: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.device, self.dtype = decoder.unet.device, decoder.unet.dtype
        self._from_noise = strength is None and start is None
        self._painter = _painter(decoder, scheduler or decoder.pipeline.scheduler, from_noise=self._from_noise)
        self._condition = condition.even().to(self.device, self.dtype)
        self._prompts = decoder.image_prompts
        self._how = {"num_inference_steps": steps, "guidance_scale": guidance, "denoising_end": end}
        scheduler = self._painter.scheduler
        most = scheduler.config.get("original_inference_steps")
        if most and steps > most:
            raise ValueError(f"The scheduler lcm takes at most {most} steps, not {steps}.")
        scheduler.set_timesteps(steps, device=self.device)
        self.timesteps = scheduler.timesteps
        if not self._from_noise:
            self._how |= {"strength": strength or 1.0, "denoising_start": start}
            self.timesteps, _ = self._painter.get_timesteps(steps, strength, self.device, denoising_start=start)
        if end is not None:
            trained = scheduler.config.num_train_timesteps
            self.timesteps = self.timesteps[self.timesteps >= round(trained - end * trained)]

    @property
    def count(self) -> int:
        """How many times the model is asked; for most schedulers, the steps."""
        return len(self.timesteps)

    def noised(self, latents: Tensor, noise: Tensor) -> Tensor:
        """A picture's latents [B, C, h, w] with as much noise as the stretch starts from."""
        latents, noise = (each.to(self.device, self.dtype) for each in (latents, noise))
        return self._painter.scheduler.add_noise(latents, noise, self.timesteps[:1].repeat(len(latents)))

    def run(self, latents: Tensor, generators: list[torch.Generator], report: Report) -> Tensor:
        """Denoise latents [B, C, h, w]; `report(step, clean)` is called after each step, from 1, with the latest guess.

        The generators are for schedulers that draw noise of their own. Raises NotFinite where the model overflows.
        """
        clean, watch = remember_clean(self._painter.scheduler), Watch(self.dtype)

        factor = self._painter.vae_scale_factor
        if self._from_noise:
            place = {"height": latents.shape[-2] * factor, "width": latents.shape[-1] * factor}
        else:
            place = {"image": torch.zeros(1, 4, 1, 1)}  # it has to be there, and is not looked at beside latents
        unet = self._painter.unet
        guided = self._how["guidance_scale"] > 1 and unet.config.time_cond_proj_dim is None
        shape = {"batch": self._condition.batch, "guided": guided, "size": latents.shape[-2:]}
        with looking(unet, self._prompts, **shape) as (seen, at):

            def after(_: Any, step: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
                watch.see(state["latents"])
                report(step + 1, clean[-1] if clean else state["latents"])
                at(self.timesteps[min(step + 1, self.count - 1)])
                return state

            at(self.timesteps[0])
            latents = self._painter(
                prompt_embeds=self._condition.embeds,
                pooled_prompt_embeds=self._condition.pooled,
                negative_prompt_embeds=self._condition.negative_embeds,
                negative_pooled_prompt_embeds=self._condition.negative_pooled,
                latents=latents.to(self.device, self.dtype),
                generator=generators,
                output_type="latent",
                callback_on_step_end=after,
                **seen,
                **place,
                **self._how,
            ).images
        check_latents(latents, self.dtype)
        return latents


def _painter(decoder: DiffusionDecoder, scheduler: Any, *, from_noise: bool) -> Any:
    """A pipeline of UNet and VAE alone: where the text encoders are does not matter to it.

    Its scheduler is its own, since a scheduler counts the steps of one picture.
    """
    import diffusers

    kind = diffusers.StableDiffusionXLPipeline if from_noise else diffusers.StableDiffusionXLImg2ImgPipeline
    if not from_noise:
        kind = partial(kind, requires_aesthetics_score=decoder.is_refiner)
    predicts = {"prediction_type": decoder.pipeline.scheduler.config.prediction_type}
    painter = kind(
        vae=decoder.vae,
        unet=decoder.unet,
        scheduler=type(scheduler).from_config(scheduler.config, **predicts),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        add_watermarker=False,
    )
    painter.set_progress_bar_config(disable=True)
    return painter


def remember_clean(scheduler: Any) -> deque[Tensor]:
    """Where a scheduler's latest guess of the noiseless latents will be found; empty if it is of a kind without one."""
    clean: deque[Tensor] = deque(maxlen=1)
    original = scheduler.step

    @wraps(original)  # the pipeline reads the signature
    def step(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        out = original(*args, return_dict=True, **kwargs)
        if (guess := getattr(out, "pred_original_sample", None)) is not None:
            clean.append(guess)
        return out if return_dict else (out.prev_sample,)

    scheduler.step = step
    return clean
