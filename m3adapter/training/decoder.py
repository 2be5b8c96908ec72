"""Trains the starter's diffusion decoder, SDXL in miniature, on captioned renders.

Autoencoder and text encoders are given and frozen; only the UNet is trained, by v-prediction. The pictures are
rendered and encoded once. Most steps see windows of pictures, told where they lie by SDXL's own crop condition: what is
hard to learn, the characters, stands there, and a window costs less than half of a picture. The decoder is frozen when
M3FT begins, so it must already be able to paint whatever the low-level path will ask for: its captions name the looks
of the characters half of the time.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..storybook.render import SIZE, render_with_figures
from ..storybook.world import Scene, random_scene
from .autoencoder import to_tensor
from .clip import captioned
from .fast_norm import use_fast_norm
from .loop import Average, accelerator, add_options, autocast, begin, native_bfloat16, train
from .muon import Muon
from .whitening import Whitening

EMBED_NOISE = 0.1  # deviation of the noise on prompt embeddings, as a part of theirs: adapters do not hit them exactly
DROPPED = 0.1  # part of the captions replaced by the empty condition
FIGURE_WEIGHT = 3.0  # how much more a cell counts that characters and props cover
WINDOW = 12  # side of a window, in cells of the latents
EARLY = 0.6  # exponent that draws more of the noisy times, when shapes are decided, than of the nearly clean ones


def build(latent_channels: int, embed_width: int, pooled_width: int):
    """An untrained UNet that keeps SDXL's conventions: three levels, the first without attention; text_time."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128, 192),  # whole multiples of the first, as stock samplers know them
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 6),  # as SDXL has it: heads, in spite of the name, and 32 channels to each
        norm_num_groups=32,
        use_linear_projection=True,
        cross_attention_dim=embed_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + pooled_width,
    )


def scheduler():
    """SDXL's noise schedule, with v-prediction."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def assemble(vae_folder: Path, clip_folder: Path):
    """The decoder as a `StableDiffusionXLPipeline` with an untrained UNet."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    local = {"local_files_only": True}
    vae = AutoencoderKL.from_pretrained(
        vae_folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    own = {"dtype": torch.float32, "attn_implementation": "sdpa", **local}
    text = CLIPTextModel.from_pretrained(clip_folder / "text_encoder", **own)
    text_2 = CLIPTextModelWithProjection.from_pretrained(clip_folder / "text_encoder_2", **own)
    width = text.config.hidden_size + text_2.config.hidden_size
    return StableDiffusionXLPipeline(
        vae=vae.eval().requires_grad_(False),
        text_encoder=text.eval().requires_grad_(False),
        text_encoder_2=text_2.eval().requires_grad_(False),
        tokenizer=CLIPTokenizer.from_pretrained(clip_folder / "tokenizer", **local),
        tokenizer_2=CLIPTokenizer.from_pretrained(clip_folder / "tokenizer", **local),
        unet=build(vae.config.latent_channels, width, text_2.config.projection_dim),
        scheduler=scheduler(),
        add_watermarker=False,
    )


@torch.no_grad()
def embed(pipeline, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Prompt embeddings [B, N, D] and pooled ones [B, P] of captions, as the pipeline makes them."""
    embeds, _, pooled, _ = pipeline.encode_prompt(captions, device=pipeline.device, do_classifier_free_guidance=False)
    return embeds, pooled


@torch.no_grad()
def encode_scenes(pipeline, scenes: list[Scene], seeds: list[int]) -> Tensor:
    """Scaled latents [count, C, 16, 16] of renders, in bfloat16."""
    from ..storybook.render import render

    parts = []
    for start in range(0, len(scenes), 32):
        pairs = zip(scenes[start : start + 32], seeds[start : start + 32], strict=True)
        images = to_tensor([render(scene, seed) for scene, seed in pairs]).to(pipeline.vae.device)
        with autocast():
            latents = pipeline.vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        parts.append((latents.float() * pipeline.vae.config.scaling_factor).to("cpu", torch.bfloat16))
    return torch.cat(parts)


def figure_shares(scenes: list[Scene], seeds: list[int]) -> Tensor:
    """How much of each latent cell a character or prop covers, in bfloat16 [count, 1, 16, 16]."""
    masks = [torch.from_numpy(render_with_figures(*pair)[1])[None] for pair in zip(scenes, seeds, strict=True)]
    return functional.avg_pool2d(torch.stack(masks).float(), 8).bfloat16()


@dataclass(frozen=True)
class Pictures:
    """What the UNet learns from.

    Attributes:
        scenes: What the pictures show.
        latents: Their scaled latents [count, C, 16, 16].
        figures: Their `figure_shares`.
    """

    scenes: list[Scene]
    latents: Tensor
    figures: Tensor


def cached_pictures(pipeline, path: Path, count: int, seed: int, pairs: float = 0.25) -> Pictures:
    """`count` pictures of random scenes, that part of them with two characters; kept in `path` for the next run."""
    rng = random.Random(seed)
    scenes = [random_scene(rng, characters=2 if rng.random() < pairs else 1) for _ in range(count)]
    seeds = [rng.randrange(2**31) for _ in range(count)]
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        # they may be of another seed or another autoencoder; the size of a batch changes them a little
        first = encode_scenes(pipeline, scenes[:1], seeds[:1])
        if len(kept["latents"]) == count and float((kept["latents"][:1] - first).float().abs().mean()) < 0.1:
            return Pictures(scenes, **kept)
    began = time.time()
    made = {"latents": encode_scenes(pipeline, scenes, seeds), "figures": figure_shares(scenes, seeds)}
    torch.save(made, path)
    print(f"encoded {count} pictures in {time.time() - began:.0f} s", flush=True)
    return Pictures(scenes, **made)


def schedule_terms() -> tuple[Tensor, Tensor]:
    """Signal and noise factors [1000] of the diffusion process."""
    alphas = scheduler().alphas_cumprod
    return alphas.sqrt(), (1 - alphas).sqrt()


def v_loss(
    unet,
    latents: Tensor,
    embeds: Tensor,
    pooled: Tensor,
    signal: Tensor,
    noise_part: Tensor,
    corner: tuple[int, int] = (0, 0),
    weight: Tensor | None = None,
) -> Tensor:
    """Mean squared error [B] of the v-prediction at random times (Salimans and Ho, 2022).

    `latents` [B, C, H, W] may be a window of the pictures whose top left `corner` (row, column), in cells, is given.
    `weight` [B, 1, H, W] says how much each cell counts.
    """
    batch = len(latents)
    # one time from each of `batch` equal strata: less noise in the loss than independent ones
    strata = (torch.arange(batch) + torch.rand(batch)) / batch
    times = (strata**EARLY * len(signal)).long()[torch.randperm(batch)]
    times = times.clamp(max=len(signal) - 1)  # float32 may round the last stratum up to its end
    a, s = (terms[times].view(-1, 1, 1, 1).to(latents.device) for terms in (signal, noise_part))
    noise = torch.randn_like(latents)
    shown = [8 * size for size in latents.shape[2:]]
    time_ids = latents.new_tensor([SIZE, SIZE, *(8 * cell for cell in corner), *shown]).expand(batch, -1)
    with autocast():
        noisy = a * latents + s * noise
        added = {"text_embeds": pooled, "time_ids": time_ids}
        out = unet(noisy, times.to(latents.device), embeds, added_cond_kwargs=added).sample
    error = functional.mse_loss(out.float(), a * noise - s * latents, reduction="none")
    return (error if weight is None else error * weight / weight.mean()).flatten(1).mean(1)


def window(rng: random.Random) -> tuple[int, int]:
    """Top left cell of a window: it reaches the ground, where the characters stand, at any place from left to right."""
    spare = SIZE // 8 - WINDOW
    return rng.randrange(spare - 1, spare + 1), rng.randrange(spare + 1)


def main(argv: list[str] | None = None) -> None:
    """`python -m m3adapter train decoder`: see `--help`."""
    parser = argparse.ArgumentParser(prog="m3adapter train decoder", description=__doc__)
    add_options(parser, steps=12000, batch=32, lr=1.2e-3)
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder")
    parser.add_argument("--clip", type=Path, required=True, help="folder that `train clip` wrote")
    parser.add_argument("--init", type=Path, help="folder of a UNet to start from")
    parser.add_argument("--pictures", type=int, default=20000, help="how many different ones (default: %(default)s)")
    parser.add_argument("--pairs", type=float, default=0.25, help="part of them with two characters")
    parser.add_argument("--windows", type=float, default=0.7, help="part of the run on windows (default: %(default)s)")
    args = parser.parse_args(argv)
    begin(args)
    device = accelerator().device
    pipeline = assemble(args.vae, args.clip).to(device)
    with accelerator().main_process_first():
        pictures = cached_pictures(pipeline, args.output / "pictures.pt", args.pictures, args.seed + 1, args.pairs)
    if args.init:
        own = {"torch_dtype": torch.float32, "local_files_only": True}
        pipeline.unet = type(pipeline.unet).from_pretrained(args.init, **own).to(device)
    texts = random.Random(args.seed)
    whitening = Whitening.measure(*embed(pipeline, [captioned(texts)[1] for _ in range(1000)]))
    if args.init:
        whitening.unfold(pipeline.unet)
    unet = pipeline.unet.train()
    if native_bfloat16():
        unet = use_fast_norm(unet.to(memory_format=torch.channels_last))
    optimizer = Muon(unet.named_parameters(), lr=args.lr, weight_decay=0.01)
    average = Average(unet, 0.9995)
    signal, noise_part = schedule_terms()
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} M parameters", flush=True)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        chosen = [rng.randrange(args.pictures) for _ in range(args.batch)]
        embeds, pooled = embed(pipeline, [captioned(rng, pictures.scenes[index])[1] for index in chosen])
        amount = EMBED_NOISE * torch.rand(args.batch, 1, 1).to(device)
        embeds = embeds + amount * embeds.std() * torch.randn_like(embeds)
        kept = (torch.rand(args.batch, 1) >= DROPPED).float().to(device)
        latents, figures = (part[chosen].float().to(device) for part in (pictures.latents, pictures.figures))
        embeds, pooled = whitening(embeds * kept[..., None], pooled * kept)
        corner = (0, 0)
        if progress < args.windows:
            corner = window(rng)
            rows, columns = (slice(start, start + WINDOW) for start in corner)
            latents, figures = latents[:, :, rows, columns], figures[:, :, rows, columns]
        weight = 1 + FIGURE_WEIGHT * figures
        return v_loss(unet, latents, embeds, pooled, signal, noise_part, corner, weight).mean(), {}

    if not train(args, "decoder", unet, optimizer, average, step_loss, warmup=100, save_every=100):
        return
    average.write()
    whitening.fold(unet)
    if (args.output / "decoder").exists():
        shutil.rmtree(args.output / "decoder")
    pipeline.save_pretrained(args.output / "decoder")
