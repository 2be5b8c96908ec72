"""Trains a small edit model of FLUX's class for the starter's world, which reads a reference beside the picture.

The autoencoder and the text encoders of the starter's decoder are frozen; the transformer is trained from nothing, by
flow matching. Pictures come in groups that share a hero, each of which is a reference for the others, in looks that the
caption does not name. The first part of the time is without references, and most steps are on windows, which costs
less. Captions are sometimes dropped, to allow guidance. Compositions of held-out stories are left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..diffusion import edit_model
from ..diffusion.decoder import DiffusionDecoder
from ..storybook.stories import composition_split
from ..storybook.world import CAPTION_STYLES, LOOKS, SPECIES, Character, Scene, caption, random_scene
from ..weights.starter import STARTER
from . import options
from .caches import CaptionEmbeddings
from .decoder import DROPPED, EARLY, FIGURE_WEIGHT, WINDOW, window
from .decoder_pictures import embed, encode_scenes, figure_shares
from .fast_norm import use_fast_norm
from .kept import digest, kept, world_digest
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

FOLDER = "edit_model"
GROUP = 4  # pictures that share a hero
COMPANY = 0.25  # part of the pictures with a second character
OTHERS = 0.1  # part of the references that show other characters
ALONE = 0.2  # part of the steps without references, once there are any
WINDOWS = 0.6  # part of the steps on windows of pictures and references
PLAIN = ("norm", "embed", "proj_out.weight")  # for Adam; Muon's matrices are those of attentions and MLPs


@dataclass(frozen=True)
class Groups:
    """Pictures to learn from; GROUP at a time share a hero.

    Attributes:
        scenes: What the pictures show.
        latents: Their scaled latents [count, C, h, w].
        figures: Their `figure_shares`.
    """

    scenes: list[Scene]
    latents: Tensor
    figures: Tensor

    def reference_of(self, index: int, rng: random.Random) -> int:
        """Return another picture of the same group, or sometimes one of another."""
        if rng.random() < OTHERS:
            return rng.randrange(len(self.scenes))
        first = index - index % GROUP
        return rng.choice([each for each in range(first, first + GROUP) if each != index])


def in_training(scene: Scene) -> bool:
    """Return whether no composition of a scene belongs to held-out stories."""
    return all(composition_split(each.species, scene.place, scene.prop) == "train" for each in scene.characters)


def group(rng: random.Random) -> list[Scene]:
    """Return scenes with the same hero, in some of which somebody else is."""
    hero, friend = (Character(species, rng.choice(LOOKS)) for species in rng.sample(SPECIES, 2))
    scenes: list[Scene] = []
    while len(scenes) < GROUP:
        scene, cast = random_scene(rng, characters=1), [hero]
        if rng.random() < COMPANY:
            stranger = scene.characters[0]
            cast.append(stranger if rng.random() < 0.5 and stranger.species != hero.species else friend)
            rng.shuffle(cast)
        made = Scene(tuple(cast), scene.prop, scene.place, scene.light, scene.weather)
        if in_training(made):
            scenes.append(made)
    return scenes


@torch.no_grad()
def groups(decoder: DiffusionDecoder, count: int, seed: int, path: Path | None = None) -> Groups:
    """Render and encode `count` pictures, unless an earlier run kept them in the file `path`."""
    rng = random.Random(f"edit groups {seed}")
    scenes = [scene for _ in range(0, count, GROUP) for scene in group(rng)]
    seeds = [rng.randrange(2**31) for _ in scenes]

    def make() -> dict[str, Tensor]:
        latents = encode_scenes(decoder.pipeline, scenes, seeds)
        return {"latents": latents, "figures": figure_shares(scenes, seeds)}

    key = digest(world_digest("storybook"), len(scenes), seed, decoder.vae) if path else ""
    return Groups(scenes, **kept(path, key, make))


def begin_softly(model: edit_model.Transformer) -> None:
    """Begin with blocks that are the same at all times and for all texts, and with velocities of zero."""
    for name, module in model.named_modules():
        if "norm" in name and name.endswith("linear"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
            parts = module.bias.data.view(-1, model.inner_dim)
            for place in (2, 5):  # of shift, scale and gate, twice in blocks of two streams
                if place < len(parts):
                    parts[place] = 0.5
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)


@torch.no_grad()
def fold(whitening: Whitening, model: edit_model.Transformer) -> None:
    """Change a model that was trained on whitened embeddings, in place, so that it takes plain ones."""
    for layer, matrix in (
        (model.context_embedder, whitening.embeds),
        (model.time_text_embed.text_embedder.linear_1, whitening.pooled),
    ):
        layer.weight.copy_(layer.weight @ matrix)


def flow_loss(
    model: edit_model.Transformer,
    latents: Tensor,
    embeds: Tensor,
    pooled: Tensor,
    references: Tensor | None = None,
    corner: tuple[int, int] = (0, 0),
    weight: Tensor | None = None,
) -> Tensor:
    """Return the mean squared error [B] of the predicted velocities at random times (Lipman et al., 2023).

    Args:
        model: The edit model.
        latents: Scaled latents [B, C, H, W] of pictures, or of windows of them.
        embeds: Prompt embeddings [B, N, D].
        pooled: Pooled embeddings [B, P].
        references: Scaled latents of references.
        corner: Row and column of the windows' top left place.
        weight: Weight of each place [B, 1, H, W]; all are equal by default.
    """
    batch, device = len(latents), latents.device
    strata = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
    times = strata[torch.randperm(batch, device=device)] ** EARLY
    noise = torch.randn_like(latents)
    part = times.view(-1, 1, 1, 1)
    with autocast():
        noisy = (1 - part) * latents + part * noise
        found = edit_model.velocity(model, noisy, times, embeds, pooled, references, corner=corner)
    error = functional.mse_loss(found.float(), noise - latents, reduction="none")
    return (error if weight is None else error * weight / weight.mean()).flatten(1).mean(1)


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train edit`; see `--help`."""
    parser = options.parser("edit", __doc__)
    add_options(parser, steps=2000, batch=32, lr=3e-3)
    add_cache_options(parser)
    share, size = options.number(0, 1), options.whole(1, 64)
    parser.add_argument("--decoder", type=Path, default=STARTER / "decoder", help="folder of the decoder")
    parser.add_argument(
        "--pictures", type=options.whole(2, 10**7), default=6000, help="number of pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--alone", type=share, default=0.35, help="part of the run without references (default: %(default)s)"
    )
    parser.add_argument("--width", type=size, default=4, help="heads of 64 channels each (default: %(default)s)")
    parser.add_argument("--double", type=size, default=2, help="blocks of two streams (default: %(default)s)")
    parser.add_argument("--single", type=size, default=4, help="blocks of one stream (default: %(default)s)")
    args = parser.parse_args(argv)
    options.check_folders(args, "decoder")
    begin(args, "edit", FOLDER)
    device = accelerator().device
    with options.opened("decoder", args.decoder):
        decoder = DiffusionDecoder.from_pretrained(args.decoder, device=device)
    if native_bfloat16():
        use_fast_norm(decoder.vae.to(memory_format=torch.channels_last))
    make_folder(args)
    with accelerator().main_process_first():
        data = groups(decoder, args.pictures, args.seed, cache_folder(args) / "groups.safetensors")
    texts = random.Random(args.seed)
    measured = [caption(random_scene(texts), style=texts.randrange(len(CAPTION_STYLES))) for _ in range(1000)]
    embeds, pooled = embed(decoder.pipeline, measured)
    whitening = Whitening.measure(embeds[:, : edit_model.WORDS], pooled)
    embeddings = CaptionEmbeddings(decoder.pipeline, args.cache_mb)
    model = edit_model.build(
        data.latents.shape[1],
        embeds.shape[-1],
        pooled.shape[-1],
        width=args.width * edit_model.HEAD,
        double=args.double,
        single=args.single,
    )
    begin_softly(model)
    model.to(device).train()
    optimizer = Muon(model.named_parameters(), lr=args.lr, weight_decay=0.01, plain=PLAIN)
    average = Average(model, 0.998)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)

    def step_loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        chosen = [rng.randrange(len(data.scenes)) for _ in range(args.batch)]
        captions = [caption(data.scenes[index], style=rng.randrange(len(CAPTION_STYLES))) for index in chosen]
        embeds, pooled = embeddings(captions)
        kept = (torch.rand(args.batch, 1, device=device) >= DROPPED).float()
        embeds, pooled = whitening(embeds[:, : edit_model.WORDS] * kept[..., None], pooled * kept)
        latents, figures = data.latents[chosen].to(device).float(), data.figures[chosen].to(device).float()
        references = None
        if progress >= args.alone and rng.random() >= ALONE:
            shown = [data.reference_of(index, rng) for index in chosen]
            references = data.latents[shown].to(device).float()
        corner = (0, 0)
        if rng.random() < WINDOWS:
            row, column = (place // edit_model.PATCH * edit_model.PATCH for place in window(rng))  # whole tokens
            corner, part = (row, column), (..., slice(row, row + WINDOW), slice(column, column + WINDOW))
            latents, figures = latents[part], figures[part]
            references = references if references is None else references[part]
        weight = 1 + FIGURE_WEIGHT * figures
        return flow_loss(model, latents, embeds, pooled, references, corner, weight).mean(), {}

    def export() -> None:
        fold(whitening, model)
        model.save_pretrained(args.output / FOLDER)

    if not train(args, "edit", model, optimizer, average, step_loss, warmup=50, save_every=100, export=export):
        return
    average.write()
    export()
