"""Diffusion decoder: paints a condition with a model of SDXL's layout.

`diffusion_loading.py` opens such models, `denoising.py` holds the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..conversation.pictures import normalised
from ..events import NotFinite
from ..ip_adapter.image_prompt import ImagePrompt, place_of
from ..ip_adapter.ip_adapter import cross_attentions
from ..limits import check_denoise, check_side, check_switch
from .condition import Condition
from .denoising import Stretch
from .finite import check_condition, is_finite
from .latents import to_latents, to_pictures
from .text_encoding import encode_long, is_long, of_one_length

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from PIL.Image import Image

OnStep = Callable[[int, int, "Callable[[], Image | None]"], None]


class DiffusionDecoder:
    """An SDXL-shaped decoder: UNet, VAE, scheduler, and the text encoders of its own prompts.

    Args:
        pipeline: A `StableDiffusionXLPipeline`, or a refiner's `StableDiffusionXLImg2ImgPipeline`; its models are
            frozen. A refiner has the second text encoder only.
        image_prompts: References that every picture looks at through an IP-Adapter.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline, image_prompts: Sequence[ImagePrompt] = ()) -> None:
        self.pipeline = pipeline
        self.image_prompts = tuple(image_prompts)
        self.pipeline.set_progress_bar_config(disable=True)
        for part in (self.unet, self.vae, self.text_encoder, self.text_encoder_2):
            if part is not None:
                part.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> DiffusionDecoder:
        """As `load_decoder` opens it, in float32 unless told otherwise."""
        from .loading import load_decoder

        return load_decoder(directory, dtype=dtype or torch.float32, device=device)

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
        """The first text encoder, a `CLIPTextModel`; None in a refiner."""
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
        return self.text_encoder_2.config.max_position_embeddings

    @property
    def embed_width(self) -> int:
        """Width of the prompt embeddings."""
        return self.unet.config.cross_attention_dim

    @property
    def pooled_width(self) -> int:
        """Width of the pooled embedding."""
        config = self.unet.config
        numbers = 5 if self.is_refiner else 6  # that say size and crop, and an aesthetic score or the size again
        return config.projection_class_embeddings_input_dim - numbers * config.addition_time_embed_dim

    @property
    def is_refiner(self) -> bool:
        """Whether it is told an aesthetic score in place of a size, as SDXL's refiner is."""
        return bool(self.pipeline.config.get("requires_aesthetics_score"))

    def looking_at(self, prompt: ImagePrompt) -> DiffusionDecoder:
        """The same decoder with one more image prompt.

        Raises ValueError, one sentence: it is a refiner, or the IP-Adapter was not made for it.
        """
        if self.is_refiner:
            raise ValueError("The decoder is an SDXL refiner, which no IP-Adapter knows: apply it to the base model.")
        names = cross_attentions(self.unet)
        for one in prompt.references:
            one.adapter.check_layers(list(names.values()), self.embed_width)
        prompt.gate.weights([place_of(name) for name in names])
        return DiffusionDecoder(self.pipeline, (*self.image_prompts, prompt))

    def split_vae(self, *, tiling: bool = False, slicing: bool = False) -> None:
        """Have the autoencoder take large pictures in tiles (less memory, faint seams), and batches one by one."""
        for name, wanted in (("tiling", tiling), ("slicing", slicing)):
            getattr(self.vae, f"{'enable' if wanted else 'disable'}_{name}")()

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str], negative: str = "") -> Condition:
        """The decoder's own condition of plain prompts: baseline, and target of the adapter's text alignment.

        `negative` is what guidance leads away from, in place of an empty prompt. What is longer than the text encoders
        read at once gets as many times their number of tokens. Raises ValueError for a decoder without a tokenizer.
        """
        if self.pipeline.tokenizer_2 is None:
            raise ValueError(
                "The diffusion model came without a tokenizer, so it cannot read text: "
                "load it with `tokenizer`, a folder that holds CLIP's vocab.json and merges.txt."
            )
        long = [is_long(self.pipeline, text) for text in (*prompts, negative)]
        embeds, negative_embeds, pooled, negative_pooled = self.pipeline.encode_prompt(
            ["" if too_long else prompt for prompt, too_long in zip(prompts, long, strict=False)],
            device=self.text_encoder_2.device,
            do_classifier_free_guidance=True,
            negative_prompt=None if long[-1] else negative.strip() or None,
        )
        if any(long[:-1]):
            each = [
                encode_long(self.pipeline, prompt) if too_long else (embeds[row : row + 1], pooled[row : row + 1])
                for row, (prompt, too_long) in enumerate(zip(prompts, long, strict=False))
            ]
            embeds = torch.cat(of_one_length([one.to(embeds) for one, _ in each]))
            pooled = torch.cat([one.to(pooled) for _, one in each])
        if long[-1]:
            one, one_pooled = encode_long(self.pipeline, negative)
            negative_embeds = one.to(negative_embeds).expand(len(prompts), -1, -1)
            negative_pooled = one_pooled.to(negative_pooled).expand(len(prompts), -1)
        return Condition(embeds, pooled, negative_embeds, negative_pooled, captions=tuple(prompts))

    def encode_captions(self, condition: Condition) -> Condition:
        """The decoder's own condition of the captions of another one, as a refiner needs it.

        Raises ValueError where there are none.
        """
        if len(condition.captions) != condition.batch:
            raise ValueError("The refiner reads captions, and the condition names none: leave out the refiner.")
        return self.encode_text(condition.captions)

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
        image: Tensor | None = None,
        denoise: float = 0.6,
        refiner: DiffusionDecoder | None = None,
        refiner_condition: Condition | None = None,
        switch_at: float = 0.8,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Paint a batch of conditions.

        Args:
            condition: Batch of B.
            seed: One seed for all pictures, or one each; the noise is drawn on the CPU, so that a seed means the same
                picture on every device.
            steps: Denoising steps.
            guidance: Classifier-free guidance scale; 1 or less switches it off.
            width, height: In pixels, multiples of the VAE's factor; by default the image's, cut to such multiples, or
                the native size.
            image: A picture [H, W, 3] in 0..1 to start from, for all of the batch.
            denoise: How much of the schedule is denoised if there is an image, 0..1: the lower, the more of it stays,
                and the fewer steps are taken. At 1 the start is pure noise, and the image gives its size alone.
            refiner: A decoder that takes over for the last part, on the same latents; it follows the scheduler of this
                one.
            refiner_condition: What the refiner paints; by default its own `encode_captions` of the condition.
            switch_at: Where in the schedule, 0..1.
            on_step: Called as on_step(step, total, preview) after every step, from 1; `preview()` draws (for PIL) what
                the picture is going to be as far as it is known, or gives None where that are no numbers. What
                `on_step` raises ends the painting.

        Returns:
            float32 [B, H, W, 3] in 0..1 on the CPU.

        Raises:
            ValueError: The condition is of other widths than the decoder's, the seeds do not match the batch, or
                another argument is not possible; one sentence each. NotFinite, which is one, where a model overflows.
        """
        check_denoise(denoise)
        check_switch(switch_at)
        picture = None if image is None else normalised(image)
        height, width = self._size(picture, height, width)
        if denoise == 1:
            picture = None
        if picture is None and self.is_refiner:
            raise ValueError(
                "A refiner does not begin a picture: use it as the refiner of a base model, or on an image."
            )
        self._check(condition)
        seeds = [seed] * condition.batch if isinstance(seed, int) else list(seed)
        if len(seeds) != condition.batch:
            raise ValueError(f"{condition.batch} pictures need as many seeds, not {len(seeds)}.")

        strength = None if picture is None else denoise
        how = {"steps": steps, "guidance": guidance}
        stretches = [Stretch(self, condition, **how, strength=strength, end=switch_at if refiner else None)]
        if refiner is not None:
            stretches.append(
                self._refining(refiner, refiner_condition or refiner.encode_captions(condition), switch_at, how)
            )
        if not all(stretch.count for stretch in stretches):
            cause = f"a denoise of {denoise:g}" if refiner is None else f"a switch at {switch_at:g}"
            raise ValueError(
                f"{steps} steps are too few for {cause}: a model would be left without a step, so raise one of the two."
            )
        generators = [torch.Generator().manual_seed(one) for one in seeds]
        latents = self._start(picture, height, width, generators, stretches[0])
        done, total = 0, sum(stretch.count for stretch in stretches)

        def report(step: int, clean: Tensor) -> None:
            if on_step is not None:
                on_step(done + step, total, partial(self._preview, clean))

        for stretch in stretches:
            latents = stretch.run(latents, generators, report)
            done += stretch.count
        return to_pictures(self.vae, latents)

    def _start(
        self, picture: Tensor | None, height: int, width: int, generators: list[torch.Generator], first: Stretch
    ) -> Tensor:
        """Latents of noise, or of a picture under noise. All of it is drawn one by one, the same in every batch."""
        kept = None if picture is None else to_latents(self.vae, picture, height, width, generators)
        factor = self.pipeline.vae_scale_factor
        shape = (1, self.unet.config.in_channels, height // factor, width // factor)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise if kept is None else first.noised(kept, noise)

    def _size(self, image: Tensor | None, height: int | None, width: int | None) -> tuple[int, int]:
        """Height and width to paint at."""
        factor = self.pipeline.vae_scale_factor
        native = (self.native_size, self.native_size) if image is None else image.shape[:2]
        sizes = [
            given or max(factor, side - side % factor) for given, side in zip((height, width), native, strict=True)
        ]
        self.check_size(sizes[1], sizes[0])
        return sizes[0], sizes[1]

    def check_size(self, width: int, height: int) -> None:
        """Raises ValueError, one sentence, unless it can paint so many pixels across and down; 0 is its own."""
        check_side("width", width)
        check_side("height", height)
        factor = self.pipeline.vae_scale_factor
        if width % factor or height % factor:
            raise ValueError(f"Width and height must be multiples of {factor}, not {width} and {height}.")

    def _refining(
        self, refiner: DiffusionDecoder, condition: Condition, switch_at: float, how: dict[str, Any]
    ) -> Stretch:
        """The rest of the schedule, by a refiner."""
        scheduler = self.pipeline.scheduler
        if getattr(scheduler, "order", 1) > 1:
            raise ValueError(
                "A scheduler that asks the model twice a step, as heun, cannot be cut: choose another one."
            )
        channels, theirs = self.unet.config.in_channels, refiner.unet.config.in_channels
        if channels != theirs:
            raise ValueError(f"The refiner works on latents of {theirs} channels, and the decoder on {channels}.")
        refiner._check(condition)
        return Stretch(refiner, condition, scheduler=scheduler, start=switch_at, **how)

    def _preview(self, latents: Tensor) -> Image | None:
        from PIL import Image

        if not is_finite(latents[:1]):
            return None
        try:
            picture = to_pictures(self.vae, latents[:1])[0]
        except NotFinite:  # the finished picture may fare better, and is checked again
            return None
        return Image.fromarray((picture * 255).byte().numpy())

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
        check_condition(condition)
