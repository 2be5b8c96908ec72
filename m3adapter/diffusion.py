"""Diffusion decoder: paints a condition with a model of SDXL's layout.

The denoising loop is diffusers' own `StableDiffusionXLPipeline`, run on embeddings instead of prompts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .condition import Condition

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from PIL.Image import Image

OnStep = Callable[[int, int, "Callable[[], Image]"], None]


class DiffusionDecoder:
    """An SDXL-shaped decoder: UNet, VAE, scheduler, and the text encoders of its own prompts.

    Args:
        pipeline: A `StableDiffusionXLPipeline`; its models are frozen.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        self.pipeline = pipeline
        self.pipeline.set_progress_bar_config(disable=True)
        for part in (self.unet, self.vae, self.text_encoder, self.text_encoder_2):
            part.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> DiffusionDecoder:
        """The decoder in a local folder of diffusers' layout. Raises FileNotFoundError where there is none."""
        from diffusers import StableDiffusionXLPipeline

        directory = Path(directory)
        if not (directory / "model_index.json").is_file():
            raise FileNotFoundError(f"There is no diffusion decoder in {directory}: model_index.json is missing.")
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            directory, torch_dtype=dtype or torch.float32, local_files_only=True, add_watermarker=False
        )
        return cls(pipeline.to(device))

    @property
    def unet(self) -> Any:
        """The denoiser, a `UNet2DConditionModel`."""
        return self.pipeline.unet

    @property
    def vae(self) -> Any:
        """The autoencoder, an `AutoencoderKL`."""
        return self.pipeline.vae

    @property
    def text_encoder(self) -> Any:
        """The first text encoder, a `CLIPTextModel`."""
        return self.pipeline.text_encoder

    @property
    def text_encoder_2(self) -> Any:
        """The second text encoder, a `CLIPTextModelWithProjection`."""
        return self.pipeline.text_encoder_2

    @property
    def native_size(self) -> int:
        """Side in pixels of the pictures that the decoder was trained on."""
        return self.unet.config.sample_size * self.pipeline.vae_scale_factor

    @property
    def tokens(self) -> int:
        """How many tokens its text encoders make of a prompt."""
        return self.text_encoder.config.max_position_embeddings

    @property
    def embed_width(self) -> int:
        """Width of the prompt embeddings."""
        return self.unet.config.cross_attention_dim

    @property
    def pooled_width(self) -> int:
        """Width of the pooled embedding."""
        config = self.unet.config
        return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Condition:
        """The decoder's own condition of plain prompts: baseline, and target of the adapter's text alignment."""
        parts = self.pipeline.encode_prompt(
            list(prompts), device=self.text_encoder.device, do_classifier_free_guidance=True
        )
        embeds, negative_embeds, pooled, negative_pooled = parts
        return Condition(embeds, pooled, negative_embeds, negative_pooled, captions=tuple(prompts))

    @torch.no_grad()
    def decode(
        self,
        condition: Condition,
        *,
        seed: int | Sequence[int],
        steps: int = 20,
        guidance: float = 3.0,
        width: int | None = None,
        height: int | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Paint a batch of conditions.

        Args:
            condition: Batch of B.
            seed: One seed for all pictures, or one each; the noise is drawn on the CPU, so that a seed means the same
                picture on every device.
            steps: Denoising steps.
            guidance: Classifier-free guidance scale; 1 or less switches it off.
            width, height: In pixels, multiples of the VAE's factor; the native size by default.
            on_step: Called as on_step(step, total, preview) after every step, from 1; `preview()` draws (for PIL) what
                the picture is going to be as far as it is known. What it raises ends the painting.

        Returns:
            float32 [B, H, W, 3] in 0..1 on the CPU.

        Raises:
            ValueError: The condition is of other widths than the decoder's, or the seeds do not match the batch.
        """
        self._check(condition)
        height, width = height or self.native_size, width or self.native_size
        factor = self.pipeline.vae_scale_factor
        seeds = [seed] * condition.batch if isinstance(seed, int) else list(seed)
        if len(seeds) != condition.batch:
            raise ValueError(f"{condition.batch} pictures need as many seeds, not {len(seeds)}.")
        channels = self.unet.config.in_channels
        noise = torch.cat(
            [
                torch.randn(
                    1, channels, height // factor, width // factor, generator=torch.Generator().manual_seed(one)
                )
                for one in seeds
            ]
        )
        device, dtype = self.unet.device, self.unet.dtype
        condition = condition.to(device, dtype)

        painter = self._painter()
        clean = remember_clean(painter.scheduler)

        def report(_: Any, step: int, __: Any, state: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, steps, partial(self._preview, clean[-1] if clean else state["latents"]))
            return state

        latents = painter(
            prompt_embeds=condition.embeds,
            pooled_prompt_embeds=condition.pooled,
            negative_prompt_embeds=condition.negative_embeds,
            negative_pooled_prompt_embeds=condition.negative_pooled,
            latents=noise.to(device, dtype),
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=height,
            width=width,
            output_type="latent",
            callback_on_step_end=report,
        ).images
        return self._pixels(latents)

    def _painter(self) -> StableDiffusionXLPipeline:
        """A pipeline of UNet and VAE alone: where the text encoders are does not matter to it.

        Its scheduler is its own, since a scheduler counts the steps of one picture.
        """
        from diffusers import StableDiffusionXLPipeline

        painter = StableDiffusionXLPipeline(
            vae=self.vae,
            unet=self.unet,
            scheduler=type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config),
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            add_watermarker=False,
        )
        painter.set_progress_bar_config(disable=True)
        return painter

    def _preview(self, latents: Tensor) -> Image:
        from PIL import Image

        return Image.fromarray((self._pixels(latents[:1])[0] * 255).byte().numpy())

    @torch.no_grad()
    def _pixels(self, latents: Tensor) -> Tensor:
        """Latents as pictures [B, H, W, 3] in 0..1 on the CPU, as the pipeline decodes them.

        The VAE may be on another device and in another type than the UNet: ComfyUI moves each as it likes.
        """
        vae, config = self.vae, self.vae.config
        overflows = vae.dtype == torch.float16 and config.force_upcast  # SDXL's own VAE does, and paints black
        if overflows:
            vae.to(torch.float32)
        latents = latents.to(vae.device, vae.dtype)
        means, deviations = (config.get(name) for name in ("latents_mean", "latents_std"))
        if means is not None and deviations is not None:
            means, deviations = (latents.new_tensor(values)[:, None, None] for values in (means, deviations))
            latents = latents * deviations / config.scaling_factor + means
        else:
            latents = latents / config.scaling_factor
        images = vae.decode(latents).sample
        if overflows:
            vae.to(torch.float16)
        return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()

    def _check(self, condition: Condition) -> None:
        for name, found, wanted in (
            ("prompt", condition.embeds.shape[-1], self.embed_width),
            ("pooled", condition.pooled.shape[-1], self.pooled_width),
        ):
            if found != wanted:
                raise ValueError(
                    f"The decoder takes {name} embeddings of width {wanted}, and the condition has {found}: "
                    "use the adapter that was trained for this decoder."
                )


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
