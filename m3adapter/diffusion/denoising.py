"""Denoising in stages: diffusers' own SDXL pipelines, fed embeddings and latents instead of prompts and images.

A picture usually takes one stage. A refiner adds a second one on the same schedule: the first stage ends where the
second begins (diffusers' "ensemble of expert denoisers"). A stage that starts from a picture covers only the last part
of the schedule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from ..ip_adapter.image_attention import attend_to_images
from ..ip_adapter.image_prompt import ImagePrompt
from .condition import Condition
from .finite import FiniteWatch, check_latents
from .pipelines import SDXLPipeline, is_refiner

StepCallback = Callable[[int, Tensor], None]


class DenoisingStage:
    """The part of a picture's denoising that one model carries out.

    Args:
        pipeline: The model in the dtype it computes in: an SDXL base or refiner pipeline of diffusers. Only its UNet
            works, which has to be on its device when `run` is called; nothing of it is changed.
        condition: What to paint [B, ...], in the widths of this model.
        image_prompts: Image prompts that the UNet attends to through IP-Adapters.
        steps: Number of denoising steps in the whole schedule.
        guidance: Classifier-free guidance scale.
        scheduler: A scheduler whose configuration replaces the pipeline's own, except for the prediction type.
        strength: When starting from a picture, the fraction of the schedule to run, counted from its end.
        start: Where in the schedule this stage takes over from another one, in 0..1.
        end: Where in the schedule this stage hands over to another one, in 0..1.

    Raises:
        ValueError: The scheduler does not support that many steps.
    """

    def __init__(
        self,
        pipeline: SDXLPipeline,
        condition: Condition,
        image_prompts: Sequence[ImagePrompt] = (),
        *,
        steps: int,
        guidance: float,
        scheduler: Any = None,
        strength: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.dtype = pipeline.unet.dtype
        self._from_noise = strength is None and start is None
        self._denoiser = _latent_pipeline(pipeline, scheduler or pipeline.scheduler, from_noise=self._from_noise)
        self._condition = condition
        self._image_prompts = tuple(image_prompts)
        self._guidance = guidance
        self._settings: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "denoising_end": end,
        }
        scheduler = self._denoiser.scheduler
        max_steps = scheduler.config.get("original_inference_steps")
        if max_steps and steps > max_steps:
            raise ValueError(f"The scheduler lcm takes at most {max_steps} steps, not {steps}.")
        scheduler.set_timesteps(steps)
        self.timesteps: Tensor = scheduler.timesteps
        if not self._from_noise:
            self._settings |= {"strength": strength or 1.0, "denoising_start": start}
            self.timesteps, _ = self._denoiser.get_timesteps(steps, strength, "cpu", denoising_start=start)
        if end is not None:
            train_steps = scheduler.config.num_train_timesteps
            self.timesteps = self.timesteps[self.timesteps >= round(train_steps - end * train_steps)]

    @property
    def num_evaluations(self) -> int:
        """How often the model is evaluated: once per step for most schedulers."""
        return len(self.timesteps)

    def add_noise(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Return a picture's latents [B, C, h, w] with the amount of noise that this stage starts from."""
        latents = latents.to(self.dtype)
        first = self.timesteps[:1].repeat(len(latents)).to(latents.device)
        return self._denoiser.scheduler.add_noise(latents, noise.to(latents), first)

    def run(self, latents: Tensor, generators: list[torch.Generator], on_step: StepCallback) -> Tensor:
        """Denoise latents [B, C, h, w].

        Args:
            latents: Noise, or what `add_noise` or the stage before returned.
            generators: One for each picture, for schedulers that draw noise of their own.
            on_step: Called as `on_step(step, clean)` after each step, counted from 1, with the latest estimate of the
                noiseless latents.

        Returns:
            Latents [B, C, h, w].

        Raises:
            NotFinite: The model overflows.
        """
        estimates, watch = record_estimates(self._denoiser.scheduler), FiniteWatch(self.dtype)

        factor = self._denoiser.vae_scale_factor
        start: dict[str, Any]
        if self._from_noise:
            start = {"height": latents.shape[-2] * factor, "width": latents.shape[-1] * factor}
        else:
            start = {"image": torch.zeros(1, 4, 1, 1)}  # required by the pipeline, which ignores it beside latents
        unet = self._denoiser.unet
        device = next(unet.parameters()).device  # diffusers' `unet.device` looks at every module first
        condition = self._condition.even().to(device, self.dtype)
        guided = self._guidance > 1 and unet.config.time_cond_proj_dim is None
        size = (latents.shape[-2], latents.shape[-1])
        with attend_to_images(unet, self._image_prompts, batch=condition.batch, guided=guided, size=size) as (
            image_arguments,
            set_timestep,
        ):

            def after_step(_: Any, step: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
                watch.check(state["latents"])
                on_step(step + 1, estimates[-1] if estimates else state["latents"])
                set_timestep(float(self.timesteps[min(step + 1, self.num_evaluations - 1)]))
                return state

            set_timestep(float(self.timesteps[0]))
            latents = self._denoiser(
                prompt_embeds=condition.embeds,
                pooled_prompt_embeds=condition.pooled,
                negative_prompt_embeds=condition.negative_embeds,
                negative_pooled_prompt_embeds=condition.negative_pooled,
                latents=latents.to(device, self.dtype),
                generator=generators,
                output_type="latent",
                callback_on_step_end=after_step,
                **image_arguments,
                **start,
                **self._settings,
            ).images
        check_latents(latents, self.dtype)
        return latents


def _latent_pipeline(pipeline: SDXLPipeline, scheduler: Any, *, from_noise: bool) -> Any:
    """Return a pipeline that works where the UNet is, wherever text encoders and VAE may be at the moment.

    It gets a scheduler of its own, because a scheduler keeps count of the steps of one picture.
    """
    import diffusers

    prediction_type = pipeline.scheduler.config.prediction_type
    components: dict[str, Any] = {
        "vae": pipeline.vae,
        "unet": pipeline.unet,
        "scheduler": type(scheduler).from_config(scheduler.config, prediction_type=prediction_type),
        "text_encoder": None,
        "text_encoder_2": None,
        "tokenizer": None,
        "tokenizer_2": None,
        "add_watermarker": False,
    }
    latent_pipeline: Any
    if from_noise:
        latent_pipeline = _at_the_unet(diffusers.StableDiffusionXLPipeline)(**components)
    else:
        latent_pipeline = _at_the_unet(diffusers.StableDiffusionXLImg2ImgPipeline)(
            **components, requires_aesthetics_score=is_refiner(pipeline)
        )
    latent_pipeline.set_progress_bar_config(disable=True)
    return latent_pipeline


@cache
def _at_the_unet(pipeline_class: Any) -> Any:
    """Return a pipeline class that works on the UNet's device; diffusers' own look at the VAE's first."""
    device = property(lambda pipeline: next(pipeline.unet.parameters()).device)
    return type(pipeline_class.__name__, (pipeline_class,), {"_execution_device": device})


def record_estimates(scheduler: Any) -> deque[Tensor]:
    """Return a queue that holds a scheduler's latest estimate of the noiseless latents.

    It stays empty for schedulers that do not make one.
    """
    estimates: deque[Tensor] = deque(maxlen=1)
    original = scheduler.step

    @wraps(original)  # the pipeline inspects the signature
    def step(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        output = original(*args, return_dict=True, **kwargs)
        if (estimate := getattr(output, "pred_original_sample", None)) is not None:
            estimates.append(estimate)
        return output if return_dict else (output.prev_sample,)

    scheduler.step = step
    return estimates
