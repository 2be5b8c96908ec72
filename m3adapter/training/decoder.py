"""Trains the starter's diffusion decoder, SDXL in miniature, on captioned renders.

Autoencoder and text encoders are given and frozen; only the UNet is trained, by v-prediction. The pictures are
rendered and encoded once, or, with `--workers`, all the time. Most steps in the storybook see windows of pictures, told
where they lie by SDXL's own crop condition: what is hard to learn, the characters, stands there, and a window costs
less than half of a picture. The decoder is frozen when M3FT begins, so it must already be able to paint whatever the
low-level path will ask for: its captions name the looks of the characters half of the time.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..storybook.render import SIZE
from ..weights.tensors import save_half
from . import options
from .autoencoder import to_tensor
from .fast_norm import use_fast_norm
from .feeding import CAPTIONS, Feeder, Pool, add_workers_option
from .loop import (
    Average,
    accelerator,
    add_options,
    autocast,
    begin,
    make_folder,
    native_bfloat16,
    train,
)
from .muon import Muon
from .whitening import Whitening
from .worlds import World, add_world_option, open_world

EMBED_NOISE = 0.1  # deviation of the noise on prompt embeddings, as a part of theirs: adapters do not hit them exactly
DROPPED = 0.1  # part of the captions replaced by the empty condition
FIGURE_WEIGHT = 3.0  # how much more a cell counts that characters and props cover
WINDOW = 12  # side of a window, in cells of the latents
EARLY = 0.6  # exponent that draws more of the noisy times, when shapes are decided, than of the nearly clean ones


def build(latent_channels: int, embed_width: int, pooled_width: int, world: World | None = None):
    """An untrained UNet that keeps SDXL's conventions: three levels, the first without attention; text_time.

    At factor 16 a cell holds four times as much of the picture, so that the finest level is as wide as the others.
    """
    from diffusers import UNet2DConditionModel

    world = world or open_world("storybook")
    deep = world.cell > 8
    widths = (128, 128, 128) if deep else (64, 128, 192)  # whole multiples of the first, as stock samplers know them
    return UNet2DConditionModel(
        sample_size=world.size // world.cell,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 1) if deep else (1, 1, 1),
        attention_head_dim=tuple(width // 32 for width in widths),  # as SDXL has it: heads, in spite of the name
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


# What a UNet to start from must share with the one that fits the text encoders and the autoencoder.
SAME = ("in_channels", "out_channels", "cross_attention_dim", "projection_class_embeddings_input_dim")


def assemble(vae_folder: Path, clip_folder: Path, world: World | None = None):
    """The decoder as a `StableDiffusionXLPipeline` with an untrained UNet."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    local = {"local_files_only": True}
    with options.opened("vae", vae_folder):
        vae = AutoencoderKL.from_pretrained(
            vae_folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    own = {"dtype": torch.float32, "attn_implementation": "sdpa", **local}
    with options.opened("clip", clip_folder):
        text = CLIPTextModel.from_pretrained(clip_folder / "text_encoder", **own)
        text_2 = CLIPTextModelWithProjection.from_pretrained(clip_folder / "text_encoder_2", **own)
        tokenizers = [CLIPTokenizer.from_pretrained(clip_folder / "tokenizer", **local) for _ in range(2)]
    width = text.config.hidden_size + text_2.config.hidden_size
    return StableDiffusionXLPipeline(
        vae=vae.eval().requires_grad_(False),
        text_encoder=text.eval().requires_grad_(False),
        text_encoder_2=text_2.eval().requires_grad_(False),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=build(vae.config.latent_channels, width, text_2.config.projection_dim, world),
        scheduler=scheduler(),
        add_watermarker=False,
    )


@torch.no_grad()
def embed(pipeline, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Prompt embeddings [B, N, D] and pooled ones [B, P] of captions, as the pipeline makes them."""
    embeds, _, pooled, _ = pipeline.encode_prompt(captions, device=pipeline.device, do_classifier_free_guidance=False)
    return embeds, pooled


@torch.no_grad()
def embed_tokens(pipeline, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """`embed` of captions that are tokens already [B, N]."""
    first = pipeline.text_encoder(tokens, output_hidden_states=True)
    second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds


@torch.no_grad()
def encode_pictures(pipeline, images: Tensor, together: int = 32) -> Tensor:
    """Scaled latents [B, C, h, w], in bfloat16 on the autoencoder's device, of pictures [B, 3, H, W] in -1..1."""
    parts = []
    for part in images.split(together):
        part = part.to(pipeline.vae.device).contiguous(memory_format=torch.channels_last)
        with autocast():
            latents = pipeline.vae.encode(part).latent_dist.mode()
        parts.append((latents.float() * pipeline.vae.config.scaling_factor).bfloat16())
    return torch.cat(parts)


def encode_scenes(pipeline, scenes: list, seeds: list[int], world: World | None = None) -> Tensor:
    """Scaled latents [count, C, h, w] of renders, in bfloat16 on the CPU."""
    world = world or open_world("storybook")
    parts = []
    for start in range(0, len(scenes), 32):
        pairs = zip(scenes[start : start + 32], seeds[start : start + 32], strict=True)
        parts.append(encode_pictures(pipeline, to_tensor([world.draw(*pair)[0] for pair in pairs])).cpu())
    return torch.cat(parts)


def figure_shares(scenes: list, seeds: list[int], world: World | None = None) -> Tensor:
    """How much of each latent cell a character or prop covers, in bfloat16 [count, 1, h, w]."""
    world = world or open_world("storybook")
    masks = [torch.from_numpy(world.draw(*pair)[1])[None] for pair in zip(scenes, seeds, strict=True)]
    return functional.avg_pool2d(torch.stack(masks).float(), world.cell).bfloat16()


@dataclass(frozen=True)
class Pictures:
    """What the UNet learns from.

    Attributes:
        scenes: What the pictures show.
        latents: Their scaled latents [count, C, 16, 16].
        figures: Their `figure_shares`.
    """

    scenes: list
    latents: Tensor
    figures: Tensor


def cached_pictures(
    pipeline, path: Path, count: int, seed: int, pairs: float = 0.25, world: World | None = None
) -> Pictures:
    """`count` pictures of random scenes, that part of them with two characters; kept in `path` for the next run."""
    world = world or open_world("storybook")
    rng = random.Random(seed)
    scenes = [world.random_scene(rng, characters=2 if rng.random() < pairs else 1) for _ in range(count)]
    seeds = [rng.randrange(2**31) for _ in range(count)]
    if path.is_file():
        with options.opened("output", path):
            kept = torch.load(path, weights_only=True)
        # they may be of another seed or another autoencoder; the size of a batch changes them a little
        first = encode_scenes(pipeline, scenes[:1], seeds[:1], world)
        if len(kept["latents"]) == count and float((kept["latents"][:1] - first).float().abs().mean()) < 0.1:
            return Pictures(scenes, **kept)
    began = time.time()
    made = {
        "latents": encode_scenes(pipeline, scenes, seeds, world),
        "figures": figure_shares(scenes, seeds, world),
    }
    torch.save(made, path)
    print(f"encoded {count} pictures in {time.time() - began:.0f} s", flush=True)
    return Pictures(scenes, **made)


def fresh_pictures(pipeline, args: argparse.Namespace, world: World) -> Pool:
    """A pool of latents, figures' shares and tokens of captions that processes keep refreshing."""
    device = pipeline.vae.device

    def prepared(pictures: Tensor, scenes: list) -> dict[str, Tensor]:
        planes = pictures.permute(0, 3, 1, 2)
        return {
            "latents": encode_pictures(pipeline, planes[:, :3].float() / 127.5 - 1, 128),
            "figures": functional.avg_pool2d(planes[:, 3:].float(), world.cell).bfloat16(),
        }

    words = {"tokenizer": args.clip / "tokenizer", "length": world.tokens}
    feeder = Feeder(world.name, world.size, args.workers, args.seed + 2, pairs=args.pairs, **words)
    pool = Pool(feeder, args.pool or 200000, prepared, device)
    pool.fill(2 * args.batch)
    return pool


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
    size: int = SIZE,
    cell: int = 8,
) -> Tensor:
    """Mean squared error [B] of the v-prediction at random times (Salimans and Ho, 2022).

    `latents` [B, C, H, W] may be a window of the pictures whose top left `corner` (row, column), in cells, is given.
    `weight` [B, 1, H, W] says how much each cell counts. `size` and `cell` are a whole picture's and a cell's sides in
    pixels.
    """
    batch = len(latents)
    # one time from each of `batch` equal strata: less noise in the loss than independent ones
    device = latents.device
    strata = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
    times = (strata**EARLY * len(signal)).long()[torch.randperm(batch, device=device)]
    times = times.clamp(max=len(signal) - 1)  # float32 may round the last stratum up to its end
    a, s = (terms.to(device)[times].view(-1, 1, 1, 1) for terms in (signal, noise_part))
    noise = torch.randn_like(latents)
    shown = [cell * side for side in latents.shape[2:]]
    time_ids = latents.new_tensor([size, size, *(cell * place for place in corner), *shown]).expand(batch, -1)
    with autocast():
        noisy = a * latents + s * noise
        added = {"text_embeds": pooled, "time_ids": time_ids}
        out = unet(noisy, times, embeds, added_cond_kwargs=added).sample
    error = functional.mse_loss(out.float(), a * noise - s * latents, reduction="none")
    return (error if weight is None else error * weight / weight.mean()).flatten(1).mean(1)


def window(rng: random.Random) -> tuple[int, int]:
    """Top left cell of a window: it reaches the ground, where the characters stand, at any place from left to right."""
    spare = SIZE // 8 - WINDOW
    return rng.randrange(spare - 1, spare + 1), rng.randrange(spare + 1)


def main(argv: list[str] | None = None) -> None:
    """`python -m m3adapter train decoder`: see `--help`."""
    parser = options.parser("decoder", __doc__)
    add_options(parser, steps=12000, batch=32, lr=1.2e-3)
    add_world_option(parser)
    add_workers_option(parser)
    parser.add_argument("--vae", type=Path, required=True, help="the trained autoencoder")
    parser.add_argument("--clip", type=Path, required=True, help="folder that `train clip` wrote")
    parser.add_argument("--init", type=Path, help="folder of a UNet to start from")
    parser.add_argument(
        "--pictures", type=options.whole(1, 10**7), default=20000, help="how many different ones (default: %(default)s)"
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
        own = {"torch_dtype": torch.float32, "local_files_only": True}
        with options.opened("init", args.init):
            unet = type(pipeline.unet).from_pretrained(args.init, **own)
            options.check_same(unet.config, pipeline.unet.config, *SAME)
        pipeline.unet = unet.to(device)
    texts = random.Random(args.seed)
    measured = [world.caption(texts, world.random_scene(texts)) for _ in range(1000)]
    whitening = Whitening.measure(*embed(pipeline, measured))
    if args.init:
        whitening.unfold(pipeline.unet)
    unet = pipeline.unet.train()
    if native_bfloat16():
        unet = use_fast_norm(unet.to(memory_format=torch.channels_last))
        use_fast_norm(pipeline.vae.to(memory_format=torch.channels_last))
    optimizer = Muon(unet.named_parameters(), lr=args.lr, weight_decay=0.01)
    average = Average(unet, 0.9995 if args.batch < 512 else 0.998)  # large batches take fewer steps
    signal, noise_part = (terms.to(device) for terms in schedule_terms())
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} M parameters", flush=True)
    if args.workers:
        draw = _FromPool(pipeline, fresh_pictures(pipeline, args, world), args.batch)
    else:
        make_folder(args)
        with accelerator().main_process_first():
            pairs = 0.25 if args.pairs is None else args.pairs
            path = args.output / "pictures.pt"
            pictures = cached_pictures(pipeline, path, args.pictures, args.seed + 1, pairs, world)
        draw = _FromCache(pipeline, pictures, args.batch, world)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        latents, figures, embeds, pooled, shown = draw(rng)
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
        terms = (latents, embeds, pooled, signal, noise_part, corner, weight, world.size, world.cell)
        return v_loss(unet, *terms).mean(), shown

    def export() -> None:
        whitening.fold(unet)
        unet.save_config(args.output / "unet_so_far")
        save_half(unet.state_dict(), args.output / "unet_so_far" / "diffusion_pytorch_model.safetensors")

    try:
        pace = {"warmup": 100, "save_every": 500 if args.workers else 100, "export": export}
        written = train(args, "decoder", unet, optimizer, average, step_loss, **pace)
    finally:
        draw.close()
    if not written:
        return
    average.write()
    whitening.fold(unet)
    pipeline.save_pretrained(args.output / "decoder")


class _FromCache:
    """Draws a step's samples from pictures that were encoded beforehand."""

    def __init__(self, pipeline, pictures: Pictures, batch: int, world: World) -> None:
        self.pipeline, self.pictures, self.batch, self.world = pipeline, pictures, batch, world

    def __call__(self, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, float]]:
        chosen = [rng.randrange(len(self.pictures.scenes)) for _ in range(self.batch)]
        texts = [self.world.caption(rng, self.pictures.scenes[index]) for index in chosen]
        embeds, pooled = embed(self.pipeline, texts)
        device = embeds.device
        latents, figures = (part[chosen].float().to(device) for part in (self.pictures.latents, self.pictures.figures))
        return latents, figures, embeds, pooled, {}

    def close(self) -> None:
        """Nothing is to be ended."""


class _FromPool:
    """Draws a step's samples from what is drawn all the time."""

    def __init__(self, pipeline, pool: Pool, batch: int) -> None:
        self.pipeline, self.pool, self.batch = pipeline, pool, batch
        self.rows = torch.arange(batch, device=pipeline.vae.device)

    def __call__(self, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, float]]:
        self.pool.refresh(most=4)
        drawn = self.pool.sample(self.batch)
        own = torch.randint(CAPTIONS, (self.batch,), device=self.rows.device)
        embeds, pooled = embed_tokens(self.pipeline, drawn["tokens"][self.rows, own].long())
        return drawn["latents"].float(), drawn["figures"].float(), embeds, pooled, {"drawn": self.pool.drawn}

    def close(self) -> None:
        """End the drawing processes."""
        self.pool.feeder.close()
