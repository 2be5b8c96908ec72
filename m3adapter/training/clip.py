"""Trains the vision encoder and the decoder's two text encoders together, as CLIP does, on captioned renders.

Pictures and captions are compared by a contrastive loss for each text encoder. The vision encoder also learns to tell
from its patches which characters are in the picture and how they look. Afterwards all three are frozen: the decoder is
trained on the text encoders, and the M³-Adapter learns to produce their embeddings.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..weights.tensors import save_half
from . import options
from .autoencoder import to_tensor
from .clip_tokenizer import build_tokenizer
from .feeding import CAPTIONS, Feeder, Pool, add_workers_option
from .loop import (
    Average,
    accelerator,
    add_options,
    autocast,
    begin,
    make_folder,
    train,
)
from .muon import Muon
from .worlds import World, add_world_option, open_world

IGNORED = -100  # the label of what cannot be seen
VISION_WIDTH, TEXT_WIDTH, TEXT_WIDTH_2 = 192, 128, 192
# What encoders to start from, or to keep, must have in common with new ones.
SAME = ("hidden_size", "projection_dim", "image_size", "patch_size", "vocab_size", "max_position_embeddings")


def roughened(images: Tensor) -> Tensor:
    """Blur some pictures [B, 3, H, W] in -1..1 and add noise to some, as in generated pictures."""
    batch = len(images)

    def chance() -> Tensor:
        return torch.rand(batch, 1, 1, 1).to(images.device)

    soft = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)
    amount = (chance() * 1.4).clamp(max=1) * (chance() < 0.6)
    images = images + amount * (soft - images)
    images = images * (1 + 0.1 * torch.randn_like(images[:, :1, :1, :1]))
    images = images + 0.05 * torch.randn_like(images[..., :1, :1])
    return (images + 0.08 * chance() * torch.randn_like(images)).clamp(-1, 1)


def seen(images: Tensor, side: int) -> Tensor:
    """Resize pictures [B, 3, H, W] as the vision encoder does, to its own size."""
    return images if images.shape[-1] == side else functional.interpolate(images, side, mode="area")


class Towers(nn.Module):
    """The vision encoder, both text encoders, and the heads that only training needs.

    Args:
        vocab_size: Number of tokens of the tokenizer.
        bos: Id of the first token of a caption.
        eos: Id of the token that ends and pads a caption.
        world: What is drawn; the storybook by default.
    """

    def __init__(self, vocab_size: int, bos: int, eos: int, world: World | None = None) -> None:
        """Build everything with random weights."""
        from transformers import (
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            CLIPVisionConfig,
            CLIPVisionModel,
        )

        super().__init__()
        world = world or open_world("storybook")
        self.world = world
        self.vision = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=VISION_WIDTH,
                intermediate_size=4 * VISION_WIDTH,
                num_hidden_layers=4,
                num_attention_heads=6,
                image_size=world.seen,
                patch_size=16,
                projection_dim=VISION_WIDTH,
            )
        )

        def text_config(width: int, heads: int) -> CLIPTextConfig:
            return CLIPTextConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_attention_heads=heads,
                vocab_size=vocab_size,
                max_position_embeddings=world.tokens,
                num_hidden_layers=3,
                bos_token_id=bos,
                eos_token_id=eos,
                pad_token_id=eos,
                projection_dim=VISION_WIDTH,
                hidden_act="gelu",
            )

        self.text = CLIPTextModel(text_config(TEXT_WIDTH, 4))
        self.text_2 = CLIPTextModelWithProjection(text_config(TEXT_WIDTH_2, 6))
        self.image_head = nn.Linear(VISION_WIDTH, VISION_WIDTH)
        self.text_head = nn.Linear(TEXT_WIDTH, VISION_WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.actors = nn.Linear(VISION_WIDTH, len(world.species) * sum(size + 1 for size in world.actors.values()))
        self.places = nn.Linear(VISION_WIDTH, sum(world.wholes.values()) + sum(world.several.values()))

    def forward(self, images: Tensor, tokens: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch by name: a contrastive one for each text encoder, and those of the labels.

        Args:
            images: Pictures [B, 3, H, W] in -1..1 at the size of the vision encoder.
            tokens: Captions [B, N].
            targets: Labels as the world makes them.
        """
        encoded = self.vision(pixel_values=images)
        patches = encoded.last_hidden_state[:, 1:]
        image = functional.normalize(self.image_head(encoded.pooler_output), dim=-1)
        text = functional.normalize(self.text_head(self.text(tokens).pooler_output), dim=-1)
        text_2 = functional.normalize(self.text_2(tokens).text_embeds, dim=-1)
        own = torch.arange(len(image), device=image.device)
        losses = {}
        for name, words in (("clip", text), ("clip_2", text_2)):
            logits = self.scale.clamp(max=4.6).exp() * image.float() @ words.float().T
            losses[name] = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        count = len(self.world.species)
        actors = self.actors(patches).float().logsumexp(1).view(len(image), count, -1)
        for name, part in zip(
            self.world.actors, actors.split([size + 1 for size in self.world.actors.values()], dim=2), strict=True
        ):
            part = part - part[..., -1:]  # the last class is: not in the picture
            named = functional.cross_entropy(part.flatten(0, 1), targets[name].flatten(), ignore_index=IGNORED)
            losses[name] = named * count / 2 / len(self.world.actors) ** 0.5
        places = self.places(encoded.pooler_output).float()
        sizes = {**self.world.wholes, **self.world.several}
        for part, name in zip(places.split(list(sizes.values()), dim=1), sizes, strict=True):
            if name in self.world.several:
                losses[name] = functional.binary_cross_entropy_with_logits(part, targets[name]) * sizes[name] * 0.2
            else:
                losses[name] = functional.cross_entropy(part, targets[name]) * 0.5
        return losses


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train clip`; see `--help`."""
    from transformers import CLIPTokenizer

    parser = options.parser("clip", __doc__)
    add_options(parser, steps=1500, batch=48, lr=1.2e-3)
    add_world_option(parser)
    add_workers_option(parser)
    parser.add_argument("--text", type=Path, help="folder of trained text encoders to keep unchanged")
    parser.add_argument("--vision", type=Path, help="folder of a vision encoder to start from")
    args = parser.parse_args(argv)
    options.check_folders(args, "text", "vision")
    begin(args, "clip", "vision_encoder", "text_encoder", "text_encoder_2")
    world = open_world(args.world)
    folder = (args.text or args.output) / "tokenizer"
    with accelerator().main_process_first():
        if not folder.is_dir() and not args.text:
            make_folder(args)
            texts = random.Random(args.seed)
            captions = [world.caption(texts, world.random_scene(texts)) for _ in range(20000)]
            build_tokenizer(folder, captions, length=world.tokens)
    with options.opened("text" if args.text else "output", folder):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    device = accelerator().device
    towers = Towers(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, world).to(device)
    if args.text:
        with options.opened("text", args.text):
            for name in ("text", "text_2"):
                place = args.text / name.replace("text", "text_encoder")
                trained = type(getattr(towers, name)).from_pretrained(
                    place, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
                )
                options.check_same(trained.config, getattr(towers, name).config, *SAME)
                setattr(towers, name, trained)
        towers.text.to(device).requires_grad_(False)
        towers.text_2.to(device).requires_grad_(False)
    if args.vision:
        with options.opened("vision", args.vision):
            trained = type(towers.vision).from_pretrained(
                args.vision, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
            options.check_same(trained.config, towers.vision.config, *SAME)
            towers.vision = trained.to(device)
    optimizer = Muon(towers.named_parameters(), lr=args.lr, weight_decay=0.02)
    average = Average(towers, 0.998)

    def tokens_of(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def prepared(pictures: Tensor, scenes: list, tokens: Tensor) -> dict[str, Tensor]:
        images = seen(pictures[..., :3].permute(0, 3, 1, 2).float(), world.seen).round().byte()
        truth = {name: value.to(device) for name, value in world.labels(scenes).items()}
        return {"images": images, "tokens": tokens, **truth}

    pool = None
    if args.workers:
        feeder = Feeder(world.name, world.size, args.workers, args.seed + 1, tokenizer=folder, length=world.tokens)
        pool = Pool(feeder, args.pool or 40000, prepared, device)
        pool.fill(min(pool.capacity, 2 * args.batch))

    def batch(rng: random.Random) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if pool:
            pool.refresh()
            drawn = pool.sample(args.batch)
            own = torch.randint(CAPTIONS, (args.batch,), device=device)
            tokens = drawn.pop("tokens")[torch.arange(args.batch, device=device), own].long()
            return drawn.pop("images").float() / 127.5 - 1, tokens, drawn
        scenes = [world.random_scene(rng) for _ in range(args.batch)]
        texts = [world.caption(rng, scene) for scene in scenes]
        images = to_tensor([world.draw(scene, rng.randrange(2**31))[0] for scene in scenes]).to(device)
        truth = {name: value.to(device) for name, value in world.labels(scenes).items()}
        return seen(images, world.seen), tokens_of(texts).to(device), truth

    def step_loss(rng: random.Random, _: float) -> tuple[Tensor, dict[str, float]]:
        images, tokens, truth = batch(rng)
        with autocast():
            losses = towers(roughened(images), tokens, truth)
        return torch.stack(list(losses.values())).sum(), {name: value.detach() for name, value in losses.items()}

    def export() -> None:
        for name, part in (
            ("vision_encoder", towers.vision),
            ("text_encoder", towers.text),
            ("text_encoder_2", towers.text_2),
        ):
            target = args.output / "clip_so_far" / name
            target.mkdir(parents=True, exist_ok=True)
            part.config.save_pretrained(target)
            save_half(part.state_dict(), target / "model.safetensors")

    try:
        written = train(args, "clip", towers, optimizer, average, step_loss, warmup=150, export=export)
    finally:
        if pool:
            pool.feeder.close()
    if not written:
        return
    average.write()
    towers.vision.save_pretrained(args.output / "vision_encoder")
    towers.text.save_pretrained(args.output / "text_encoder")
    towers.text_2.save_pretrained(args.output / "text_encoder_2")
