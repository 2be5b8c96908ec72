"""What evaluations are tested with: a toy CLIP, a few stories on the disk, and a painter that is no model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch

import toys
from m3adapter.conversation.pictures import png_bytes

WORDS = ("rosa", "on", "the", "beach", "with", "a", "kite", "boat")
SIDE = 32


def picture(seed: int, side: int = SIDE) -> torch.Tensor:
    """A picture of a few large patches [side, side, 3]."""
    small = torch.rand(1, 3, 4, 4, generator=toys.generator(seed))
    whole = torch.nn.functional.interpolate(small, (side, side), mode="bilinear")[0].permute(1, 2, 0)
    return (whole * 255).round() / 255


def save_preprocessor(folder: Path) -> None:
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.2] * 3
    ).save_pretrained(folder)


def save_clip(folder: Path) -> Path:
    """Write a toy CLIP to a folder, and return the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    inner = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 32, "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**inner, **text}, vision_config={**inner, "image_size": 16, "patch_size": 4}, projection_dim=8
    )
    CLIPModel(config).save_pretrained(folder)
    names = ("<s>", "</s>", "<unk>", *WORDS)
    words = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    save_preprocessor(folder)
    return folder


def save_stories(folder: Path) -> Path:
    """Write two stories of three pictures, and a picture alone, to a folder, and return the folder."""
    folder.mkdir()
    lines = []
    for story in range(2):
        content = []
        for part in range(3):
            name = f"{story}{part}.png"
            folder.joinpath(name).write_bytes(png_bytes(picture(10 * story + part)))
            content.append({"type": "text", "text": f"Part {part}."})
            content.append({"type": "image", "path": name, "caption": f"{WORDS[part]} on the {WORDS[part + 3]}"})
        lines.append(
            {"messages": [{"role": "user", "content": f"Tale {story}"}, {"role": "assistant", "content": content}]}
        )
    folder.joinpath("alone.png").write_bytes(png_bytes(picture(99)))
    alone = [{"type": "image", "path": "alone.png", "caption": "a boat"}]
    lines.append({"messages": [{"role": "user", "content": "A boat"}, {"role": "assistant", "content": alone}]})
    folder.joinpath("tales.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return folder


class Painter:
    """In place of a model: paints the first reference mixed with noise of the seed, by the gate."""

    vision_encoder = None
    decoder = SimpleNamespace(takes=lambda prompt: len(prompt) < 1000)
    language_model = SimpleNamespace(sees="projection")

    def __init__(self) -> None:
        self.seeds: dict[float, list[int]] = {}

    def fuse(self, sample, gate: float):
        return sample, gate

    def paint_all(self, conditions, seeds, **settings):
        for (sample, gate), seed in zip(conditions, seeds, strict=True):
            self.seeds.setdefault(gate, []).append(seed)
            noise = picture(seed % 2**31)
            shown = sample.references[0].picture.pixels if sample.references else noise
            yield noise.lerp(shown, min(gate, 1.0))
