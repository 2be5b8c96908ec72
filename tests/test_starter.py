"""The shipped starter: complete, safe to load, opened by diffusers unmodified, and it paints what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from m3adapter.pipeline import STARTER, M2Chat
from m3adapter.storybook.judge import Judge
from m3adapter.storybook.world import Character, Scene, caption

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def model() -> M2Chat:
    return M2Chat.from_starter()


def test_files_are_small_and_hold_no_pickle() -> None:
    files = [path for path in STARTER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 64 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".jinja"}


def test_diffusers_opens_the_decoder_unmodified_and_paints_a_caption() -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(STARTER / "decoder", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a blue cat with a ball on the beach", num_inference_steps=12, generator=torch.Generator().manual_seed(1)
    ).images[0]
    assert image.size == (128, 128)
    verdict = Judge.load().judge(
        [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(128, 128, 3) / 255]
    )
    assert verdict.species(0, 1) == {"cat"}
    assert verdict.look(0, "cat") == "blue"


def test_it_paints_the_scenes_it_is_told(model: M2Chat) -> None:
    scenes = [
        Scene((Character("owl", "red"),), None, "forest"),
        Scene((Character("turtle", "purple"),), "balloon", "beach"),
        Scene((Character("lion", "green"),), "gift", "city", "night"),
        Scene((Character("pig", "pink"),), "drum", "castle", "sunset"),
        Scene((Character("elephant", "blue"),), "cake", "village", "day", "snow"),
        Scene((Character("penguin", "orange"),), "ball", "volcano"),
        Scene((Character("snail", "yellow"),), "key", "mountains"),
        Scene((Character("sheep", "grey"),), "kite", "meadow"),
    ]
    condition = model.decoder.encode_text([caption(scene, looks=[0]) for scene in scenes])
    verdict = Judge.load().judge(list(model.decoder.decode(condition, seed=list(range(8)), steps=16)))
    species = sum(verdict.species(row, 1) == {scene.characters[0].species} for row, scene in enumerate(scenes))
    looks = sum(verdict.look(row, s.characters[0].species) == s.characters[0].look for row, s in enumerate(scenes))
    assert species >= 7
    assert looks >= 7


def test_a_story_is_the_same_for_the_same_seed_and_keeps_its_hero(model: M2Chat) -> None:
    from m3adapter.events import TurnDone

    def told(seed: int) -> list:
        events = model.story("A fox finds a kite on the beach.", 2, seed=seed, steps=8)
        return [event.conversation for event in events if isinstance(event, TurnDone)]

    first, again = told(7)[-1], told(7)[-1]
    assert first == again
    slots = first.pictures()
    assert len(slots) == 2
    captions = [first.at(slot).caption for slot in slots]
    assert all("fox" in text for text in captions), captions
    verdict = Judge.load().judge([first.at(slot).image for slot in slots])
    assert verdict.look(0, "fox") == verdict.look(1, "fox")


def test_configuration_of_the_decoder_keeps_sdxls_conventions() -> None:
    unet = json.loads((STARTER / "decoder" / "unet" / "config.json").read_text("utf-8"))
    assert all(channels % 32 == 0 for channels in unet["block_out_channels"])
    assert unet["norm_num_groups"] == 32 and unet["use_linear_projection"]
    assert unet["addition_embed_type"] == "text_time" and unet["addition_time_embed_dim"] == 256
    heads = unet["attention_head_dim"]
    assert len({c // h for c, h in zip(unet["block_out_channels"], heads, strict=True)}) == 1
    assert Path(STARTER / "decoder" / "model_index.json").is_file()
