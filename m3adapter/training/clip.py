"""Trains the vision encoder and the decoder's two text encoders together, as CLIP does, on captioned renders.

Pictures and captions meet in a contrastive loss, once for each text encoder; the vision encoder also learns to say,
from its patches, which character stands in the picture and how it looks. Afterwards all three are frozen: the decoder
is trained on the text encoders, and the M³-Adapter learns to speak their language.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..storybook.world import (
    CAPTION_STYLES,
    LIGHTS,
    LOOKS,
    PLACES,
    PROPS,
    SPECIES,
    WEATHERS,
    Scene,
    caption,
    random_scene,
)
from ..weights.tensors import save_half
from . import options
from .autoencoder import to_tensor
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

MAX_LENGTH = 32
IGNORED = -100  # a label that nobody can tell
VISION_WIDTH, TEXT_WIDTH, TEXT_WIDTH_2 = 192, 128, 192
# What encoders to start from, or to keep, must share with new ones.
SAME = ("hidden_size", "projection_dim", "image_size", "patch_size", "vocab_size", "max_position_embeddings")


def build_tokenizer(directory: Path, texts: list[str], vocab_size: int = 1536, length: int = MAX_LENGTH) -> None:
    """Train a CLIP tokenizer (lower case, byte-level BPE, `</w>` word ends) and save it in `directory`."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=special[1]))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
    )
    bpe.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    vocab_path, _ = (Path(path) for path in bpe.model.save(str(directory)))
    vocab = json.loads(vocab_path.read_text("utf-8"))
    for byte in sorted(alphabet):  # any byte may end a word, also one that never did in the training texts
        vocab.setdefault(byte + "</w>", len(vocab))
    vocab_path.write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(
        directory,
        pad_token=special[1],
        unk_token=special[1],
        bos_token=special[0],
        eos_token=special[1],
        model_max_length=length,
        local_files_only=True,
    )
    tokenizer.save_pretrained(directory)


def captioned(rng: random.Random, scene: Scene | None = None) -> tuple[Scene, str]:
    """A scene (a random one by default) and one of its captions, which names looks about half of the time."""
    scene = scene or random_scene(rng)
    everyone = range(len(scene.characters))
    looks = [index for index in everyone if rng.random() < 0.5] if rng.random() < 0.3 else []
    if not looks and rng.random() < 0.5:
        looks = list(everyone)
    style = 0 if rng.random() < 0.5 else rng.randrange(len(CAPTION_STYLES))
    behind = [index for index in looks if rng.random() < 0.5]
    before = [index for index in looks if index not in behind]
    return scene, caption(scene, looks=before, asides=behind, style=style)


def roughened(images: Tensor) -> Tensor:
    """Some pictures [B, 3, H, W] blurred, some noisy, as generated pictures may be."""
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
    """Pictures [B, 3, H, W] at the size at which the vision encoder looks at them, as it resizes them itself."""
    return images if images.shape[-1] == side else functional.interpolate(images, side, mode="area")


class Towers(nn.Module):
    """Vision tower, both text towers, and the heads that only training needs."""

    def __init__(self, vocab_size: int, bos: int, eos: int, world: World | None = None) -> None:
        from transformers import (
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            CLIPVisionConfig,
            CLIPVisionModel,
        )

        super().__init__()
        self.world = world = world or open_world("storybook")
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
        common = {
            "vocab_size": vocab_size,
            "max_position_embeddings": world.tokens,
            "num_hidden_layers": 3,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": eos,
            "projection_dim": VISION_WIDTH,
            "hidden_act": "gelu",
        }
        self.text = CLIPTextModel(
            CLIPTextConfig(hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_attention_heads=4, **common)
        )
        self.text_2 = CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=TEXT_WIDTH_2, intermediate_size=4 * TEXT_WIDTH_2, num_attention_heads=6, **common
            )
        )
        self.image_head = nn.Linear(VISION_WIDTH, VISION_WIDTH)
        self.text_head = nn.Linear(TEXT_WIDTH, VISION_WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.actors = nn.Linear(VISION_WIDTH, len(world.species) * sum(size + 1 for size in world.actors.values()))
        self.places = nn.Linear(VISION_WIDTH, sum(world.wholes.values()) + sum(world.several.values()))

    def forward(self, images: Tensor, tokens: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of one batch: two contrastive ones and what can be read off the patches."""
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
            part = part - part[..., -1:]  # the last entry says: not in the picture
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


def labels(scenes: list[Scene]) -> dict[str, Tensor]:
    """Class indices of the scenes; `actors` [count, species] holds the look, or len(LOOKS) for an absent one."""
    actors = torch.full((len(scenes), len(SPECIES)), len(LOOKS))
    for row, scene in enumerate(scenes):
        for actor in scene.characters:
            actors[row, SPECIES.index(actor.species)] = LOOKS.index(actor.look)
    return {
        "actors": actors,
        "place": torch.tensor([PLACES.index(scene.place) for scene in scenes]),
        "prop": torch.tensor([PROPS.index(scene.prop) if scene.prop else len(PROPS) for scene in scenes]),
        "light": torch.tensor([LIGHTS.index(scene.light) for scene in scenes]),
        "weather": torch.tensor([WEATHERS.index(scene.weather) for scene in scenes]),
    }


def main(argv: list[str] | None = None) -> None:
    """`python -m m3adapter train clip`: see `--help`."""
    from transformers import CLIPTokenizer

    parser = options.parser("clip", __doc__)
    add_options(parser, steps=1500, batch=48, lr=1.2e-3)
    add_world_option(parser)
    add_workers_option(parser)
    parser.add_argument("--text", type=Path, help="folder of trained text encoders: they stay as they are")
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
            found = [world.caption(texts, world.random_scene(texts)) for _ in range(20000)]
            build_tokenizer(folder, found, length=world.tokens)
    with options.opened("text" if args.text else "output", folder):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    own = {"dtype": torch.float32, "attn_implementation": "sdpa", "local_files_only": True}
    device = accelerator().device
    towers = Towers(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, world).to(device)
    if args.text:
        with options.opened("text", args.text):
            for name in ("text", "text_2"):
                place = args.text / name.replace("text", "text_encoder")
                trained = type(getattr(towers, name)).from_pretrained(place, **own)
                options.check_same(trained.config, getattr(towers, name).config, *SAME)
                setattr(towers, name, trained)
        towers.text.to(device).requires_grad_(False)
        towers.text_2.to(device).requires_grad_(False)
    if args.vision:
        with options.opened("vision", args.vision):
            trained = type(towers.vision).from_pretrained(args.vision, **own)
            options.check_same(trained.config, towers.vision.config, *SAME)
            towers.vision = trained.to(device)
    optimizer = Muon(towers.named_parameters(), lr=args.lr, weight_decay=0.02)
    average = Average(towers, 0.998)

    def tokens_of(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def prepared(pictures: Tensor, scenes: list) -> dict[str, Tensor]:
        images = seen(pictures[..., :3].permute(0, 3, 1, 2).float(), world.seen).round().byte()
        return {"images": images, **{name: value.to(device) for name, value in world.labels(scenes).items()}}

    pool = None
    if args.workers:
        words = {"tokenizer": folder, "length": world.tokens}
        feeder = Feeder(world.name, world.size, args.workers, args.seed + 1, **words)
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
