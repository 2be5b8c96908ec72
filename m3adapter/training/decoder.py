"""Trains the starter's diffusion decoder, SDXL in miniature, on captioned renders.

The autoencoder and the text encoders are given and frozen; only the UNet is trained, by v-prediction. Pictures are
rendered and encoded once or, with `--workers`, all the time. Most steps in the storybook see windows of pictures, whose
place is given by SDXL's own crop condition: the windows show the characters, which are the hardest to learn, and cost
less than half of a whole picture. The decoder is frozen when M3FT begins, so it must already be able to paint whatever
the low-level path will ask for: its captions name the looks of the characters half of the time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..diffusion.decoder import DiffusionDecoder
from ..diffusion.preview import LatentRGB
from ..storybook.render import SIZE
from ..weights.tensors import save_half
from . import options
from .caches import CaptionEmbeddings
from .compiling import add_compile_option, compiled, use_norm
from .decoder_pictures import FromCache, FromPool, Pipeline, cached_pictures, embed, fresh_pictures
from .fast_norm import use_fast_norm
from .feeding import add_workers_option
from .loop import (
    Average,
    accelerator,
    add_cache_options,
    add_options,
    autocast,
    begin,
    cache_folder,
    make_folder,
    native_bfloat16,
    train,
)
from .muon import Muon
from .whitening import Whitening
from .worlds import World, add_world_option, open_world

EMBED_NOISE = 0.1  # deviation of the noise on prompt embeddings relative to their own: adapters only approximate them
DROPPED = 0.1  # part of the captions replaced by the empty condition
FIGURE_WEIGHT = 3.0  # additional weight of cells that characters and props cover
WINDOW = 12  # side of a window, in cells of the latents
EARLY = 0.6  # exponent that draws noisy times, at which shapes are decided, more often than nearly clean ones


def build(latent_channels: int, embed_width: int, pooled_width: int, world: World | None = None) -> Any:
    """Build an untrained UNet in SDXL's manner: three levels, the first without attention; text_time conditioning.

    At factor 16 a cell holds four times as much of the picture, so the finest level is as wide as the others.

    Args:
        latent_channels: Channels of the latents.
        embed_width: Width of the prompt embeddings.
        pooled_width: Width of the pooled embeddings.
        world: What is drawn; the storybook by default.
    """
    from diffusers import UNet2DConditionModel

    world = world or open_world("storybook")
    deep = world.cell > 8
    widths = (128, 128, 128) if deep else (64, 128, 192)  # multiples of the first, as stock samplers expect
    return UNet2DConditionModel(
        sample_size=world.size // world.cell,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 1) if deep else (1, 1, 1),
        attention_head_dim=tuple(width // 32 for width in widths),  # the number of heads, as in SDXL
        norm_num_groups=32,
        use_linear_projection=True,
        cross_attention_dim=embed_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + pooled_width,
    )


def scheduler() -> Any:
    """Return SDXL's noise schedule with v-prediction, as an `EulerDiscreteScheduler`."""
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


PREVIEWED = 24  # pictures that tell what latents look like

# What a UNet to start from must have in common with one for these text encoders and this autoencoder.
SAME = ("in_channels", "out_channels", "cross_attention_dim", "projection_class_embeddings_input_dim")


def assemble(vae_folder: Path, clip_folder: Path, world: World | None = None) -> Pipeline:
    """Return the decoder as a `StableDiffusionXLPipeline` with an untrained UNet.

    Raises:
        UserError: A part cannot be read.
    """
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    with options.opened("vae", vae_folder):
        vae = AutoencoderKL.from_pretrained(
            vae_folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    with options.opened("clip", clip_folder):
        text = CLIPTextModel.from_pretrained(
            clip_folder / "text_encoder", dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        )
        text_2 = CLIPTextModelWithProjection.from_pretrained(
            clip_folder / "text_encoder_2", dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        )
        tokenizers = [CLIPTokenizer.from_pretrained(clip_folder / "tokenizer", local_files_only=True) for _ in range(2)]
    width = text.config.hidden_size + text_2.config.hidden_size
    return StableDiffusionXLPipeline(
        vae=vae.eval().requires_grad_(False),
        text_encoder=text.eval().requires_grad_(False),
        text_encoder_2=text_2.eval().requires_grad_(False),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=build(vae.config.latent_channels, width, text_2.text_projection.out_features, world),
        scheduler=scheduler(),
        add_watermarker=False,
    )


def schedule_terms() -> tuple[Tensor, Tensor]:
    """Return the signal and noise factors [1000] of the diffusion process."""
    alphas = scheduler().alphas_cumprod
    return alphas.sqrt(), (1 - alphas).sqrt()


def v_loss(
    unet: Callable[..., Any],
    latents: Tensor,
    embeds: Tensor,
    pooled: Tensor,
    signal: Tensor,
    noise_part: Tensor,
    corner: tuple[int, int] = (0, 0),
    weight: Tensor | None = None,
    size: int = SIZE,
    cell: int = 8,
) -> Tensor:
    """Return the mean squared error [B] of the v-prediction at random times (Salimans and Ho, 2022).

    Args:
        unet: The UNet, or a function with its signature.
        latents: Scaled latents [B, C, H, W] of pictures, or of a window of them.
        embeds: Prompt embeddings [B, N, D].
        pooled: Pooled embeddings [B, P].
        signal: Signal factors of `schedule_terms`.
        noise_part: Noise factors of `schedule_terms`.
        corner: Row and column of the top left cell of the window.
        weight: Weight of each cell [B, 1, H, W]; all are equal by default.
        size: Side of a whole picture in pixels.
        cell: Side of a cell in pixels.
    """
    batch = len(latents)
    # One time from each of `batch` equal strata makes the loss less noisy than independent times.
    device = latents.device
    strata = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
    times = (strata**EARLY * len(signal)).long()[torch.randperm(batch, device=device)]
    times = times.clamp(max=len(signal) - 1)  # float32 may round the last stratum up to its end
    a, s = (terms.to(device)[times].view(-1, 1, 1, 1) for terms in (signal, noise_part))
    noise = torch.randn_like(latents)
    extent = [cell * side for side in latents.shape[2:]]
    time_ids = latents.new_tensor([size, size, *(cell * place for place in corner), *extent]).expand(batch, -1)
    with autocast():
        noisy = a * latents + s * noise
        added = {"text_embeds": pooled, "time_ids": time_ids}
        out = unet(noisy, times, embeds, added_cond_kwargs=added).sample
    error = functional.mse_loss(out.float(), a * noise - s * latents, reduction="none")
    return (error if weight is None else error * weight / weight.mean()).flatten(1).mean(1)


def window(rng: random.Random) -> tuple[int, int]:
    """Draw the top left cell of a window: anywhere from left to right, and low enough to show the ground."""
    spare = SIZE // 8 - WINDOW
    return rng.randrange(spare - 1, spare + 1), rng.randrange(spare + 1)


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train decoder`; see `--help`."""
    parser = options.parser("decoder", __doc__)
    add_options(parser, steps=12000, batch=32, lr=1.2e-3)
    add_world_option(parser)
    add_workers_option(parser)
    add_cache_options(parser)
    add_compile_option(parser)
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder")
    parser.add_argument("--clip", type=Path, required=True, help="folder that `train clip` wrote")
    parser.add_argument("--init", type=Path, help="folder of a UNet to start from")
    parser.add_argument(
        "--pictures",
        type=options.whole(1, 10**7),
        default=20000,
        help="number of different pictures (default: %(default)s)",
    )
    share = options.number(0, 1)
    parser.add_argument("--pairs", type=share, help="part of them with two characters (default: as the world has them)")
    parser.add_argument("--windows", type=share, help="part of the run on windows (default: 0.7, or 0 at factor 16)")
    args = parser.parse_args(argv)
    options.check_folders(args, "vae", "clip", "init")
    begin(args, "decoder", "decoder")
    world = open_world(args.world)
    windows = args.windows if args.windows is not None else 0.7 if world.cell == 8 else 0.0
    device = accelerator().device
    pipeline = assemble(args.vae, args.clip, world).to(device)
    if args.init:
        with options.opened("init", args.init):
            unet = type(pipeline.unet).from_pretrained(args.init, torch_dtype=torch.float32, local_files_only=True)
            options.check_same(unet.config, pipeline.unet.config, *SAME)
        pipeline.unet = unet.to(device)
    texts = random.Random(args.seed)
    measured = [world.caption(texts, world.random_scene(texts)) for _ in range(1000)]
    whitening = Whitening.measure(*embed(pipeline, measured))
    if args.init:
        whitening.unfold(pipeline.unet)
    unet = pipeline.unet.train()
    if native_bfloat16():
        use_norm(unet.to(memory_format=torch.channels_last), args)
        use_fast_norm(pipeline.vae.to(memory_format=torch.channels_last))
    optimizer = Muon(unet.named_parameters(), lr=args.lr, weight_decay=0.01)
    average = Average(unet, 0.9995 if args.batch < 512 else 0.998)  # large batches take fewer steps
    signal, noise_part = (terms.to(device) for terms in schedule_terms())
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} M parameters", flush=True)
    fast = compiled(unet, args)
    draw: FromPool | FromCache
    if args.workers:
        draw = FromPool(fresh_pictures(pipeline, args, world), args.batch)
    else:
        make_folder(args)
        with accelerator().main_process_first():
            pairs = 0.25 if args.pairs is None else args.pairs
            path = cache_folder(args) / "pictures.safetensors"
            pictures = cached_pictures(pipeline, path, args.pictures, args.seed + 1, pairs, world)
        embeddings = CaptionEmbeddings(pipeline, args.cache_mb)
        draw = FromCache(embeddings, pictures, args.batch, world, seed=args.seed, device=device)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        latents, figures, embeds, pooled, printed = draw(rng)
        amount = EMBED_NOISE * torch.rand(args.batch, 1, 1, device=device)
        embeds = embeds + amount * embeds.std() * torch.randn_like(embeds)
        kept = (torch.rand(args.batch, 1, device=device) >= DROPPED).float()
        embeds, pooled = whitening(embeds * kept[..., None], pooled * kept)
        corner = (0, 0)
        if progress < windows:
            corner = window(rng)
            rows, columns = (slice(start, start + WINDOW) for start in corner)
            latents, figures = latents[:, :, rows, columns], figures[:, :, rows, columns]
        weight = 1 + FIGURE_WEIGHT * figures
        losses = v_loss(fast, latents, embeds, pooled, signal, noise_part, corner, weight, world.size, world.cell)
        return losses.mean(), printed

    def export() -> None:
        whitening.fold(unet)
        unet.save_config(args.output / "unet_so_far")
        save_half(unet.state_dict(), args.output / "unet_so_far" / "diffusion_pytorch_model.safetensors")

    try:
        save_every = 500 if args.workers else 100
        written = train(args, "decoder", unet, optimizer, average, step_loss, save_every=save_every, export=export)
    finally:
        draw.close()
    if not written:
        return
    average.write()
    whitening.fold(unet)
    drawn = (world.draw(world.random_scene(texts), number)[0] for number in range(PREVIEWED))
    examples = torch.stack([torch.from_numpy(picture) for picture in drawn]) / 255
    decoder = DiffusionDecoder(pipeline, latent_rgb=LatentRGB.fit(pipeline.vae, examples))
    decoder.save_pretrained(args.output / "decoder")
