"""Trains an IP-Adapter of the kind base for the starter's decoder, in the layout of the published files.

The decoder with its text encoders and the vision encoder are frozen; the projection of the image embedding and the keys
and values of its tokens are trained. Every picture has a reference, mostly of the same characters elsewhere, in looks
that the caption does not name. Captions and references are sometimes dropped, as in the release, to allow guidance.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter.vision_encoder import VisionEncoder
from ..diffusion.decoder import DiffusionDecoder
from ..ip_adapter.image_attention import attached, ip_processors
from ..ip_adapter.ip_adapter import IPAdapter, cross_attentions, new_base
from ..storybook.pool import picture
from ..storybook.world import CAPTION_STYLES, Scene, caption, random_scene
from ..weights.starter import STARTER
from . import options
from .caches import CaptionEmbeddings, near
from .decoder import (
    FIGURE_WEIGHT,
    WINDOW,
    schedule_terms,
    v_loss,
    window,
)
from .decoder_pictures import encode_scenes, figure_shares
from .fast_norm import use_fast_norm
from .kept import digest, kept, world_digest
from .loop import (
    Average,
    accelerator,
    add_cache_options,
    add_options,
    begin,
    cache_folder,
    make_folder,
    native_bfloat16,
    train,
)
from .muon import Muon

FILE = "ip_adapter.safetensors"
OTHERS = 0.1  # part of the references that show other characters
DROPPED = 0.1  # part of the samples without a caption, and part of those without a reference


@dataclass(frozen=True)
class Pairs:
    """Pictures to learn from, with their references.

    Attributes:
        scenes: What the pictures show.
        latents: Their scaled latents [count, C, h, w].
        figures: Their `figure_shares`.
        seen: Image embeddings of their references [count, D].
    """

    scenes: list[Scene]
    latents: Tensor
    figures: Tensor
    seen: Tensor


def fresh(decoder: DiffusionDecoder, width: int) -> IPAdapter:
    """Return an untrained IP-Adapter, which adds nothing because its values are zero."""
    adapter = new_base(width, decoder.embed_width, list(cross_attentions(decoder.unet).values()))
    for layer in adapter.to_v:
        torch.nn.init.zeros_(layer.get_parameter("weight"))
    return adapter


def reference_of(scene: Scene, rng: random.Random) -> Scene:
    """Return another scene with characters of this one, or sometimes with others."""
    other = random_scene(rng)
    if rng.random() < OTHERS:
        return other
    actors = rng.sample(scene.characters, rng.randint(1, len(scene.characters)))
    return replace(other, characters=tuple(actors))


@torch.no_grad()
def pairs(decoder: DiffusionDecoder, encoder: VisionEncoder, count: int, seed: int, path: Path | None = None) -> Pairs:
    """Render and encode `count` pictures and their references, unless an earlier run kept them in the file `path`."""
    rng = random.Random(f"ip pairs {seed}")
    scenes = [random_scene(rng) for _ in range(count)]
    seeds = [rng.randrange(2**31) for _ in range(count)]

    def make() -> dict[str, Tensor]:
        began, seen = time.time(), []
        for start in range(0, count, 64):
            references = [picture(reference_of(scene, rng), rng) for scene in scenes[start : start + 64]]
            seen.append(encoder.embed(references).float().cpu())
        latents = encode_scenes(decoder.pipeline, scenes, seeds)
        print(f"encoded {count} pairs in {time.time() - began:.0f} s", flush=True)
        return {"latents": latents, "figures": figure_shares(scenes, seeds), "seen": torch.cat(seen)}

    key = digest(world_digest("storybook"), count, seed, decoder.vae, encoder.model) if path else ""
    return Pairs(scenes, **kept(path, key, make))


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train ip`; see `--help`."""
    parser = options.parser("ip", __doc__)
    add_options(parser, steps=1500, batch=24, lr=6e-3)
    add_cache_options(parser)
    parser.add_argument("--decoder", type=Path, default=STARTER / "decoder", help="folder of the decoder")
    parser.add_argument("--vision", type=Path, default=STARTER / "vision_encoder", help="folder of the vision encoder")
    parser.add_argument(
        "--pictures", type=options.whole(1, 10**7), default=4000, help="number of pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--windows", type=options.number(0, 1), default=0.7, help="part of the steps on windows (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    options.check_folders(args, "decoder", "vision")
    begin(args, "ip", FILE)
    device = accelerator().device
    with options.opened("decoder", args.decoder):
        decoder = DiffusionDecoder.from_pretrained(args.decoder, device=device)
    with options.opened("vision", args.vision):
        encoder = VisionEncoder.from_pretrained(args.vision, device=device)
    if native_bfloat16():
        decoder.pipeline.unet = use_fast_norm(decoder.unet.to(memory_format=torch.channels_last))
    make_folder(args)
    with accelerator().main_process_first():
        data = pairs(decoder, encoder, args.pictures, args.seed, cache_folder(args) / "pairs.safetensors")
    embeddings = CaptionEmbeddings(decoder.pipeline, args.cache_mb)
    kept_near = [near(part, device, args.cache_mb) for part in (data.latents, data.figures, data.seen)]
    adapter = fresh(decoder, data.seen.shape[1]).to(device).train()
    optimizer = Muon(adapter.named_parameters(), lr=args.lr, weight_decay=0.01)
    average = Average(adapter, 0.998)
    signal, noise_part = schedule_terms()
    print(f"{sum(p.numel() for p in adapter.parameters()) / 1e6:.2f} M parameters", flush=True)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        chosen = [rng.randrange(args.pictures) for _ in range(args.batch)]
        texts = [caption(data.scenes[index], style=rng.randrange(len(CAPTION_STYLES))) for index in chosen]
        embeds, pooled = embeddings(texts)
        index = torch.tensor(chosen)
        with_text, with_reference = ((torch.rand(2, args.batch, 1) >= DROPPED).float().to(device)).unbind()
        latents, figures, seen = (part[index.to(part.device)].to(device, torch.float32) for part in kept_near)
        tokens = adapter.encode(seen * with_reference)
        corner = (0, 0)
        if rng.random() < args.windows:
            corner = window(rng)
            down, across = (slice(start, start + WINDOW) for start in corner)
            latents, figures = latents[:, :, down, across], figures[:, :, down, across]

        def unet(noisy: Tensor, times: Tensor, text: Tensor, added_cond_kwargs: dict[str, Any]) -> Any:
            added = {**added_cond_kwargs, "image_embeds": [tokens[:, None]]}
            return decoder.unet(noisy, times, text, added_cond_kwargs=added)

        weight = 1 + FIGURE_WEIGHT * figures
        return v_loss(
            unet, latents, embeds * with_text[..., None], pooled * with_text, signal, noise_part, corner, weight
        ).mean(), {}

    with attached(decoder.unet, ip_processors([adapter], decoder.unet)):
        if not train(args, "ip", adapter, optimizer, average, step_loss, warmup=30, save_every=100):
            return
    average.write()
    save(adapter, args.output / FILE)


def save(adapter: IPAdapter, path: Path) -> None:
    """Write an IP-Adapter in float16 with the names of the release; an existing file is replaced at the end."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    weights = {name: value.to("cpu", torch.float16).contiguous() for name, value in adapter.published().items()}
    save_file(weights, part, metadata={"format": "pt"})
    part.replace(path)
