"""The diffusion decoder: paints a condition with a model of SDXL's layout.

`auto.py` opens such models from any kind of file, `denoising.py` holds the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conversation.pictures import normalised
from ..ip_adapter.image_prompt import ImagePrompt, place_of
from ..ip_adapter.ip_adapter import cross_attentions
from ..values import check_denoise, check_side, check_switch
from .attention import Attend, ChosenAttention
from .condition import Condition
from .denoising import DenoisingStage
from .finite import check_condition
from .float8 import unpacked
from .latents import to_latents, to_pictures
from .pipelines import SDXLPipeline, is_refiner
from .preview import LatentRGB, Preview
from .text_encoding import encode_prompts, is_too_long
from .work_size import decoding_work, encoding_work, unet_work

OnStep = Callable[[int, int, Preview], None]
PrepareWork = Callable[[str, int], None]


def already_there(part: str, work: int) -> None:
    """Do nothing: the weights of every part are where they work, and there is room for the work."""


class DiffusionDecoder:
    """A decoder of SDXL's layout: UNet, VAE, scheduler, and the text encoders for its own prompts.

    Args:
        pipeline: A `StableDiffusionXLPipeline`, or the `StableDiffusionXLImg2ImgPipeline` of a refiner, which has only
            the second text encoder. Its models are frozen.
        image_prompts: Image prompts that every picture attends to through an IP-Adapter.
        latent_rgb: What its latents roughly look like, for previews. None where that is unknown.

    Attributes:
        prepare: Called just before a part works, with its name ("unet" or "vae") and the bytes that the work takes
            beside its weights. Nothing else has to be on the device meanwhile.
    """

    def __init__(
        self,
        pipeline: SDXLPipeline,
        image_prompts: Sequence[ImagePrompt] = (),
        latent_rgb: LatentRGB | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.image_prompts = tuple(image_prompts)
        self.latent_rgb = latent_rgb
        self.prepare: PrepareWork = already_there
        self.pipeline.set_progress_bar_config(disable=True)
        for model in (self.unet, self.vae, self.text_encoder, self.text_encoder_2):
            if model is not None:
                model.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> DiffusionDecoder:
        """Open a diffusers folder, of a base model or a refiner.

        `auto.load_decoder` also opens single files, and lets the caller choose scheduler and VAE.

        Args:
            directory: The folder, as `save_pretrained` writes it.
            dtype: Type of the weights; float32 by default.
            device: Where to put them.

        Raises:
            FileNotFoundError: The folder holds no diffusers model.
            ValueError: It holds another kind of model, or an incomplete one.
        """
        from .loading import open_pipeline

        directory = Path(directory)
        if directory.is_file():
            raise ValueError(f"{directory.name} is a file and not a diffusers folder: open it with load_decoder.")
        pipeline = open_pipeline(directory, dtype=dtype or torch.float32, device=device)
        return cls(pipeline, latent_rgb=LatentRGB.load(directory, pipeline.unet.config.in_channels))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a diffusers folder that `from_pretrained` opens.

        Raises:
            ValueError: The decoder has image prompts, which have no place in such a folder.
        """
        if self.image_prompts:
            raise ValueError("A decoder with image prompts cannot be saved: save the one without, then add them again.")
        with unpacked(*filter(None, (self.unet, self.text_encoder, self.text_encoder_2))):
            self.pipeline.save_pretrained(directory, safe_serialization=True)
        if self.latent_rgb is not None:
            self.latent_rgb.save(Path(directory))

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
    def num_tokens(self) -> int:
        """Number of tokens that the text encoders make of a prompt."""
        return self.text_encoder_2.config.max_position_embeddings

    @property
    def embed_width(self) -> int:
        """Width of the prompt embeddings."""
        return self.unet.config.cross_attention_dim

    @property
    def pooled_width(self) -> int:
        """Width of the pooled embedding."""
        config = self.unet.config
        num_values = 5 if self.is_refiner else 6  # size, crop, and an aesthetic score or the target size
        return config.projection_class_embeddings_input_dim - num_values * config.addition_time_embed_dim

    @property
    def is_refiner(self) -> bool:
        """Whether the UNet is conditioned on an aesthetic score instead of a size, as SDXL's refiner is."""
        return is_refiner(self.pipeline)

    def with_image_prompt(self, prompt: ImagePrompt) -> DiffusionDecoder:
        """Return a decoder of the same models with one more image prompt.

        Raises:
            ValueError: The decoder is a refiner, or the IP-Adapter does not fit it.
        """
        if self.is_refiner:
            raise ValueError(
                "The decoder is an SDXL refiner, for which there are no IP-Adapters: apply it to the base model."
            )
        names = cross_attentions(self.unet)
        for reference in prompt.references:
            reference.adapter.check_layers(list(names.values()), self.embed_width)
        prompt.gate.weights([place_of(name) for name in names])
        prompted = DiffusionDecoder(self.pipeline, (*self.image_prompts, prompt), self.latent_rgb)
        prompted.prepare = self.prepare
        return prompted

    def split_vae(self, *, tiling: bool = False, slicing: bool = False) -> None:
        """Make the VAE process large pictures in tiles (less memory, faint seams), and batches one by one."""
        for name, enabled in (("tiling", tiling), ("slicing", slicing)):
            getattr(self.vae, f"{'enable' if enabled else 'disable'}_{name}")()

    def use_attention(self, attend: Attend | None) -> None:
        """Let the UNet attend by `attend` (see `ChosenAttention`), or with None by torch's function.

        Cross-attentions that an IP-Adapter takes part in keep torch's.
        """
        from diffusers.models.attention_processor import AttnProcessor2_0

        self.unet.set_attn_processor(AttnProcessor2_0() if attend is None else ChosenAttention(attend))

    def use_channels_last(self) -> None:
        """Lay out the UNet's convolutions with channels last: faster on some devices, with other roundings."""
        self.unet.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str], negative: str = "") -> Condition:
        """Encode prompts with the decoder's own text encoders.

        This is the baseline, and the target of the adapter's text alignment.

        Args:
            prompts: B prompts. One that is longer than the encoders' context gets a multiple of their tokens.
            negative: What guidance leads away from, instead of an empty prompt.

        Returns:
            Condition of batch B.

        Raises:
            ValueError: The decoder has no tokenizer, or a prompt is out of proportion (`takes`).
        """
        if self.pipeline.tokenizer_2 is None:
            raise ValueError(
                "The diffusion model came without a tokenizer, so it cannot read text: "
                "load it with `tokenizer`, a folder that holds CLIP's vocab.json and merges.txt."
            )
        return Condition(*encode_prompts(self.pipeline, prompts, negative), captions=tuple(prompts))

    def takes(self, prompt: str) -> bool:
        """Return whether a prompt is short enough for `encode_text`; thousands of words are not."""
        return self.pipeline.tokenizer_2 is None or not is_too_long(self.pipeline, prompt)

    def encode_captions(self, condition: Condition) -> Condition:
        """Encode the captions of another decoder's condition, as a refiner needs it.

        Raises:
            ValueError: The condition has no captions.
        """
        if len(condition.captions) != condition.batch:
            raise ValueError("The refiner needs captions, and the condition has none: leave out the refiner.")
        return self.encode_text(condition.captions)

    @torch.no_grad()
    def decode(
        self,
        condition: Condition,
        *,
        seed: int | Sequence[int],
        steps: int = 20,
        guidance: float = 2.0,
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
            seed: One seed for all pictures, or one each. Noise is drawn on the CPU, so a seed means the same picture
                on every device.
            steps: Number of denoising steps.
            guidance: Classifier-free guidance scale; 1 or less disables guidance.
            width: In pixels, a multiple of the VAE's scale factor. By default that of `image`, rounded down to such a
                multiple, or the native size.
            height: Likewise.
            image: A picture [H, W, 3] in 0..1 to start from, shared by the batch.
            denoise: With `image`, the fraction of the schedule to run, 0..1: the lower, the more of the image remains
                and the fewer steps are taken. At 1 the start is pure noise and only the image's size is used.
            refiner: A decoder that takes over for the last part of the schedule, on the same latents and with the
                scheduler of this one.
            refiner_condition: What the refiner paints; by default its own `encode_captions` of the condition.
            switch_at: Where in the schedule the refiner takes over, 0..1.
            on_step: Called as `on_step(step, total, preview)` after every step, counted from 1. `preview()` returns a
                small PIL image of the first picture as far as it is known, or None where there is nothing to show (see
                `Preview`). An exception raised here ends the painting.

        Returns:
            float32 [B, H, W, 3] in 0..1 on the CPU.

        Raises:
            ValueError: The condition does not fit the decoder, the seeds do not match the batch, or another argument
                is out of range.
            NotFinite: A model overflows (a ValueError).
        """
        check_denoise(denoise)
        check_switch(switch_at)
        picture = None if image is None else normalised(image)
        height, width = self._size(picture, height, width)
        if denoise == 1:
            picture = None
        if picture is None and self.is_refiner:
            raise ValueError("A refiner cannot start a picture: use it as the refiner of a base model, or on an image.")
        self._check_condition(condition)
        seeds = [seed] * condition.batch if isinstance(seed, int) else list(seed)
        if len(seeds) != condition.batch:
            raise ValueError(f"{condition.batch} pictures need as many seeds, not {len(seeds)}.")

        stages = [
            DenoisingStage(
                self.pipeline,
                condition,
                self.image_prompts,
                steps=steps,
                guidance=guidance,
                strength=None if picture is None else denoise,
                end=switch_at if refiner else None,
            )
        ]
        if refiner is not None:
            self._check_refiner(refiner)
            refiner_condition = refiner_condition or refiner.encode_captions(condition)
            refiner._check_condition(refiner_condition)
            stages.append(
                DenoisingStage(
                    refiner.pipeline,
                    refiner_condition,
                    refiner.image_prompts,
                    steps=steps,
                    guidance=guidance,
                    scheduler=self.pipeline.scheduler,
                    start=switch_at,
                )
            )
        if not all(stage.num_evaluations for stage in stages):
            cause = f"a denoise of {denoise:g}" if refiner is None else f"a switch at {switch_at:g}"
            raise ValueError(
                f"{steps} steps are too few for {cause}: a model would be left without a step, so raise one of the two."
            )
        generators = [torch.Generator().manual_seed(picture_seed) for picture_seed in seeds]
        latents = self._initial_latents(picture, height, width, generators, stages[0])
        done, total = 0, sum(stage.num_evaluations for stage in stages)

        def report(step: int, clean: Tensor) -> None:
            if on_step is not None:
                on_step(done + step, total, Preview(clean, self.latent_rgb, self.vae.config))

        rows = condition.batch * (2 if guidance > 1 else 1)
        for stage, painter in zip(stages, (self, refiner), strict=False):
            assert painter is not None  # there is no second stage without a refiner
            painter.prepare("unet", unet_work(painter.unet, rows, latents.shape[-2], latents.shape[-1]))
            latents = stage.run(latents, generators, report)
            done += stage.num_evaluations
        self.prepare("vae", decoding_work(self.vae, condition.batch, height, width))
        return to_pictures(self.vae, latents)

    def _initial_latents(
        self,
        picture: Tensor | None,
        height: int,
        width: int,
        generators: list[torch.Generator],
        stage: DenoisingStage,
    ) -> Tensor:
        """Return noise, or a picture's latents with noise; drawn one by one, so the same in a batch of any size."""
        clean = None
        if picture is not None:
            self.prepare("vae", encoding_work(self.vae, height, width))
            clean = to_latents(self.vae, picture, height, width, generators)
        factor = self.pipeline.vae_scale_factor
        shape = (1, self.unet.config.in_channels, height // factor, width // factor)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise if clean is None else stage.add_noise(clean, noise)

    def _size(self, image: Tensor | None, height: int | None, width: int | None) -> tuple[int, int]:
        """Return the height and width to paint at."""
        factor = self.pipeline.vae_scale_factor
        native = (self.native_size, self.native_size) if image is None else (image.shape[0], image.shape[1])
        sizes = [
            given or max(factor, side - side % factor) for given, side in zip((height, width), native, strict=True)
        ]
        self.check_size(sizes[1], sizes[0])
        return sizes[0], sizes[1]

    def check_size(self, width: int, height: int) -> None:
        """Check a size in pixels; 0 stands for the native one.

        Raises:
            ValueError: The decoder cannot paint at that size.
        """
        check_side("width", width)
        check_side("height", height)
        factor = self.pipeline.vae_scale_factor
        for name, side in (("width", width), ("height", height)):
            if side % factor:
                raise ValueError(f"{name} is {side}: give a multiple of {factor}, or 0 for the native size.")

    def _check_refiner(self, refiner: DiffusionDecoder) -> None:
        if getattr(self.pipeline.scheduler, "order", 1) > 1:
            raise ValueError(
                "A scheduler that evaluates the model twice per step, such as heun, cannot be split: "
                "choose another one."
            )
        channels, refiner_channels = self.unet.config.in_channels, refiner.unet.config.in_channels
        if channels != refiner_channels:
            raise ValueError(
                f"The refiner works on latents of {refiner_channels} channels, and the decoder on {channels}."
            )

    def _check_condition(self, condition: Condition) -> None:
        for name, width, expected in (
            ("prompt", condition.embeds.shape[-1], self.embed_width),
            ("pooled", condition.pooled.shape[-1], self.pooled_width),
        ):
            if width != expected:
                raise ValueError(
                    f"The decoder takes {name} embeddings of width {expected}, and the condition has {width}: "
                    "use the adapter that was trained for this decoder."
                )
        check_condition(condition)
