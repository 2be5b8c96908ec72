"""Trains the vision encoder and the decoder's two text encoders together, as CLIP does, on captioned renders.

Pictures and captions meet in a contrastive loss, once for each text encoder; the vision encoder also learns to say,
from its patches, which character stands in the picture and how it looks. Afterwards all three are frozen: the decoder
is trained on the text encoders, and the M³-Adapter learns to speak their language.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..storybook.render import SIZE, render
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
from .autoencoder import to_tensor
from .loop import Average, accelerator, add_options, autocast, begin, train
from .muon import Muon

MAX_LENGTH = 32
VISION_WIDTH, TEXT_WIDTH, TEXT_WIDTH_2 = 192, 128, 192


def build_tokenizer(directory: Path, texts: list[str], vocab_size: int = 1536) -> None:
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
        model_max_length=MAX_LENGTH,
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


def pixels(scenes: list[Scene], seeds: list[int]) -> Tensor:
    """Renders as [count, 3, 128, 128], normalised as the vision encoder wants them (mean 0.5, deviation 0.5)."""
    return to_tensor([render(scene, seed) for scene, seed in zip(scenes, seeds, strict=True)])


class Towers(nn.Module):
    """Vision tower, both text towers, and the heads that only training needs."""

    def __init__(self, vocab_size: int, bos: int, eos: int) -> None:
        from transformers import (
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            CLIPVisionConfig,
            CLIPVisionModel,
        )

        super().__init__()
        self.vision = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=VISION_WIDTH,
                intermediate_size=4 * VISION_WIDTH,
                num_hidden_layers=4,
                num_attention_heads=6,
                image_size=SIZE,
                patch_size=16,
                projection_dim=VISION_WIDTH,
            )
        )
        common = {
            "vocab_size": vocab_size,
            "max_position_embeddings": MAX_LENGTH,
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
        self.actors = nn.Linear(VISION_WIDTH, len(SPECIES) * (len(LOOKS) + 1))
        self.places = nn.Linear(VISION_WIDTH, len(PLACES) + len(PROPS) + 1 + len(LIGHTS) + len(WEATHERS))

    def forward(self, images: Tensor, tokens: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of one batch: two contrastive ones and what can be read off the patches."""
        seen = self.vision(pixel_values=images)
        patches = seen.last_hidden_state[:, 1:]
        image = functional.normalize(self.image_head(seen.pooler_output), dim=-1)
        text = functional.normalize(self.text_head(self.text(tokens).pooler_output), dim=-1)
        text_2 = functional.normalize(self.text_2(tokens).text_embeds, dim=-1)
        own = torch.arange(len(image), device=image.device)
        losses = {}
        for name, words in (("clip", text), ("clip_2", text_2)):
            logits = self.scale.clamp(max=4.6).exp() * image.float() @ words.float().T
            losses[name] = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        actors = self.actors(patches).float().logsumexp(1).view(len(image), len(SPECIES), len(LOOKS) + 1)
        actors = actors - actors[..., -1:]  # the last entry says: not in the picture
        named = functional.cross_entropy(actors.flatten(0, 1), targets["actors"].flatten())
        losses["actors"] = named * len(SPECIES) / 2
        place = self.places(seen.pooler_output).float()
        parts = place.split((len(PLACES), len(PROPS) + 1, len(LIGHTS), len(WEATHERS)), dim=1)
        for part, name in zip(parts, ("place", "prop", "light", "weather"), strict=True):
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

    parser = argparse.ArgumentParser(prog="m3adapter train clip", description=__doc__)
    add_options(parser, steps=1500, batch=48, lr=1.2e-3)
    parser.add_argument("--text", type=Path, help="folder of trained text encoders: they stay as they are")
    parser.add_argument("--vision", type=Path, help="folder of a vision encoder to start from")
    args = parser.parse_args(argv)
    begin(args)
    folder = (args.text or args.output) / "tokenizer"
    with accelerator().main_process_first():
        if not folder.is_dir():
            texts = random.Random(args.seed)
            build_tokenizer(folder, [captioned(texts)[1] for _ in range(20000)])
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    own = {"dtype": torch.float32, "attn_implementation": "sdpa", "local_files_only": True}
    device = accelerator().device
    towers = Towers(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id).to(device)
    if args.text:
        towers.text = type(towers.text).from_pretrained(args.text / "text_encoder", **own)
        towers.text_2 = type(towers.text_2).from_pretrained(args.text / "text_encoder_2", **own)
        towers.text.to(device).requires_grad_(False)
        towers.text_2.to(device).requires_grad_(False)
    if args.vision:
        towers.vision = type(towers.vision).from_pretrained(args.vision, **own).to(device)
    optimizer = Muon(towers.named_parameters(), lr=args.lr, weight_decay=0.02)
    average = Average(towers, 0.998)

    def step_loss(rng: random.Random, _: float) -> tuple[Tensor, dict[str, float]]:
        scenes, texts = zip(*(captioned(rng) for _ in range(args.batch)), strict=True)
        images = pixels(list(scenes), [rng.randrange(2**31) for _ in scenes]).to(device)
        images = roughened(images)
        tokens = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        truth = {name: value.to(device) for name, value in labels(list(scenes)).items()}
        with autocast():
            losses = towers(images, tokens, truth)
        return torch.stack(list(losses.values())).sum(), {name: value.item() for name, value in losses.items()}

    if not train(args, "clip", towers, optimizer, average, step_loss, warmup=150):
        return
    average.write()
    towers.vision.save_pretrained(args.output / "vision_encoder")
    towers.text.save_pretrained(args.output / "text_encoder")
    towers.text_2.save_pretrained(args.output / "text_encoder_2")
