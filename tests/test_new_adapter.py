"""A fresh adapter: it fits the models around it, and paints like the decoder alone until it is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import standins
import toys
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.adapter.config import M3AdapterConfig
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.adapter.new_adapter import BLOCKS, VISION_LEVELS, VISION_WIDTH, WIDTH, new_adapter
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.pipeline import M2Chat

LANGUAGE = SimpleNamespace(hidden_size=toys.LLM_WIDTH)
SMALL = {"width": 64, "num_blocks": 1}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path_factory.mktemp("decoder")))


def test_it_fits_what_it_stands_between(decoder: DiffusionDecoder) -> None:
    config = new_adapter(LANGUAGE, decoder, toys.vision_encoder(), **SMALL).config
    assert config == M3AdapterConfig(
        toys.LLM_WIDTH, toys.VISION_WIDTH, toys.EMBED_WIDTH, toys.POOLED_WIDTH, len(toys.LEVELS), toys.TOKENS,
        width=64, num_blocks=1, num_heads=1, anchor=True,
    )  # fmt: skip
    assert new_adapter(LANGUAGE, decoder, width=192, num_blocks=2).config.num_heads == 3


def test_it_paints_what_the_decoder_paints_of_the_caption(decoder: DiffusionDecoder) -> None:
    adapter = new_adapter(LANGUAGE, decoder, toys.vision_encoder(), **SMALL)
    chat, features = M2Chat(None, None, adapter, decoder), toys.slot_features((2,))
    painted = chat.paint(chat.fuse(features, 2.0), seed=3, steps=2)
    assert torch.equal(painted, chat.paint(decoder.encode_text(features.captions), seed=3, steps=2))


def test_a_style_behind_a_long_caption_is_read(decoder: DiffusionDecoder) -> None:
    adapter = new_adapter(LANGUAGE, decoder, toys.vision_encoder(), **SMALL)
    chat, caption = M2Chat(None, None, adapter, decoder), "a fox with a kite on the beach " * 6
    features = replace(toys.slot_features((2,)), captions=(caption,))
    plain, styled = chat.fuse(features), chat.fuse(features, style="in ink", negative=caption)
    assert styled.embeds.shape[1] > toys.TOKENS and not plain.embeds.equal(styled.embeds)
    expected = decoder.encode_text([f"{caption.rstrip()}, in ink"], caption)
    assert torch.equal(styled.embeds, expected.embeds) and torch.equal(styled.negative_embeds, expected.negative_embeds)
    assert torch.equal(styled.pooled, plain.pooled), "as in ComfyUI, the pooled embedding is the beginning's"
    adapter.alpha.data.fill_(0.5)
    moved = chat.fuse(features, style="in ink").embeds
    assert not moved[:, : toys.TOKENS].equal(expected.embeds[:, : toys.TOKENS])
    assert torch.equal(moved[:, toys.TOKENS :], expected.embeds[:, toys.TOKENS :])


def test_the_same_seed_draws_the_same_adapter(decoder: DiffusionDecoder) -> None:
    before = torch.get_rng_state()
    one, same, other = (new_adapter(LANGUAGE, decoder, seed=seed, **SMALL).state_dict() for seed in (7, 7, 2**64 - 1))
    assert torch.equal(torch.get_rng_state(), before), "the user's own random numbers are left alone"
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["queries"], other["queries"])


def test_half_precision_is_the_same_draw(decoder: DiffusionDecoder) -> None:
    half = new_adapter(LANGUAGE, decoder, dtype=torch.float16, **SMALL)
    full = new_adapter(LANGUAGE, decoder, **SMALL).state_dict()
    assert all(torch.equal(value, full[name].half()) for name, value in half.state_dict().items())


def test_it_is_saved_and_loaded(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    adapter = new_adapter(LANGUAGE, decoder, **SMALL)
    save_adapter(tmp_path / "a.safetensors", adapter)
    loaded = load_adapter(tmp_path / "a.safetensors")
    assert loaded.config == adapter.config and torch.equal(loaded.queries, adapter.queries)


def test_without_a_vision_encoder_it_sees_with_clip_l(decoder: DiffusionDecoder) -> None:
    adapter = new_adapter(LANGUAGE, decoder, **SMALL)
    anchor = toys.condition(3)
    assert torch.equal(adapter(toys.slot_features((0, 0, 0)), None, anchor).embeds, anchor.embeds)
    fitting = toys.slot_features(width=VISION_WIDTH, levels=VISION_LEVELS)
    assert torch.equal(adapter(fitting, None, anchor).embeds, anchor.embeds)
    with pytest.raises(ValueError, match="vision encoder of width 1024 with 3 levels, and this one has 16") as caught:
        adapter(toys.slot_features(), None, anchor)
    assert toys.one_sentence(caught.value)


@pytest.mark.slow
def test_without_a_vision_encoder_of_its_own_a_story_goes_on_without_references(decoder: DiffusionDecoder) -> None:
    adapter = new_adapter(LANGUAGE, decoder, **SMALL)
    said = standins.LanguageModelStandIn([standins.REPLY])
    said.encode_slot = lambda conversation, slot, tokens, visual=(): toys.states(5, 4)
    model = M2Chat(said, toys.vision_encoder(), adapter, decoder)
    assert adapter.is_untrained
    story = model.story("A fox.", 3, steps=1, sampling=standins.SAMPLING)
    assert len(story.pictures()) == 3 and not story.open_slots()
    plain = model.paint(decoder.encode_text(["a fox"]), seed=story.at(story.pictures()[2]).seed, steps=1)
    assert torch.equal(story.at(story.pictures()[2]).image, plain)
    # What it has learned from other pictures would be missing, which is reported before any text is written.
    adapter.alpha.fill_(0.1)
    with pytest.raises(ValueError, match="was trained for a vision encoder of width 1024 .* load the match") as caught:
        model.story("A fox.", 3, steps=1, sampling=standins.SAMPLING)
    assert toys.one_sentence(caught.value)
    assert len(said.asked) == 3


def test_an_untrained_adapter_is_not_said_to_be_trained(decoder: DiffusionDecoder) -> None:
    adapter, anchor = new_adapter(LANGUAGE, decoder, **SMALL), toys.condition(3)
    for features, words in (
        (toys.slot_features(), "was made for a vision encoder of width 1024 with 3 levels, .* with New M3-Adapter"),
        (toys.slot_features(llm_width=40), "was made for a language model of width 24, and this one has 40: make one"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            adapter(features, None, anchor)
        assert toys.one_sentence(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": 100}, "width must be a multiple of 64, not 100"),
        ({"width": 0}, "width is 0: give a whole number from 1 to 1048576"),
        ({"num_blocks": 0}, "num_blocks is 0: give a whole number from 1 to 1024"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_built_is_named(decoder: DiffusionDecoder, given: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        new_adapter(LANGUAGE, decoder, **{**SMALL, **given})
    assert toys.one_sentence(caught.value)


def test_at_sdxls_size_it_is_about_as_large_as_the_official_one() -> None:
    sdxl = {"llm_width": 4096, "vision_width": VISION_WIDTH, "embed_width": 2048, "pooled_width": 1280}
    adapter = M3Adapter(M3AdapterConfig(**sdxl, width=WIDTH, num_blocks=BLOCKS, num_heads=WIDTH // 64), device="meta")
    assert sum(parameter.numel() for parameter in adapter.parameters()) == pytest.approx(86e6, rel=0.01)
