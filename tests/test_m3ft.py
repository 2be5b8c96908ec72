"""M3FT: each stage changes its own parameters, resumes, and learns from training stories only."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import toys
from m3adapter.adapter.auto import load_adapter
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.diffusion.condition import Condition
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.language.language_model import SlotStates
from m3adapter.storybook import pool, stories
from m3adapter.storybook.dataset import Sample
from m3adapter.storybook.world import Character, Scene
from m3adapter.training import m3ft, m3ft_data, m3ft_visual
from m3adapter.training.caches import SceneLatents

pytestmark = pytest.mark.slow


class Reader:
    """In place of the language model: states that depend on caption and image tokens."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(toys.LLM_WIDTH, toys.LLM_WIDTH).requires_grad_(False)
        self.visual_projection = None

    def encode_slots(self, requests: list, image_tokens: torch.Tensor) -> list[SlotStates]:
        found = []
        for conversation, slot, _ in requests:
            caption = conversation.at(slot).caption
            states = toys.states(4, 6, caption=caption, seed=sum(caption.encode()))
            context = self.model(torch.cat([states.context, image_tokens]))
            found.append(SlotStates(context, states.text, caption))
        return found


@pytest.fixture(scope="module")
def toy_decoder(tmp_path_factory: pytest.TempPathFactory) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path_factory.mktemp("toy")))


@pytest.fixture
def arguments(tmp_path: Path) -> Namespace:
    toys.vision_encoder().save_pretrained(tmp_path / "vision")
    return Namespace(
        output=tmp_path, vision=tmp_path / "vision", seed=1, lr=0.01, batch=4, samples=8,
        steps=1, minutes=0, align=1.0, denoise_from=0.0, no_gate=False, init=None,
        cache=None, cache_mb=64,
    )  # fmt: skip


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_changes_its_own_parameters_and_no_other(
    stage: int, arguments: Namespace, toy_decoder: DiffusionDecoder, capsys
) -> None:
    adapter, reader = toys.adapter(), Reader()
    models = nn.ModuleList([toy_decoder.unet, toy_decoder.vae, toy_decoder.text_encoder, reader.model])
    before = {name: value.clone() for name, value in adapter.named_parameters()}
    frozen = {name: value.clone() for name, value in models.state_dict().items()}
    run = m3ft.stage1 if stage == 1 else m3ft.stage2
    run(arguments, adapter, reader, toy_decoder)
    group = adapter.stage1_parameters() if stage == 1 else adapter.stage2_parameters()
    changed = {name for name, value in adapter.named_parameters() if not torch.equal(value, before[name])}
    assert changed == group.keys()
    for name, parameter in adapter.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.any())
        assert learns == (name in group), name
    assert all(torch.equal(value, frozen[name]) for name, value in models.state_dict().items())
    saved = load_adapter(arguments.output / f"adapter_stage{stage}.safetensors")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in adapter.state_dict().items())


def count_calls(adapter: M3Adapter, calls: list[float]) -> Callable:
    def loss(rng: random.Random, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        calls.append(rng.random())
        value = adapter(toys.slot_features()).embeds.square().mean()
        return value, {"align": value.item()}

    return loss


def test_a_stage_goes_on_where_it_stopped(arguments: Namespace, tmp_path: Path) -> None:
    calls: list[float] = []
    adapter = toys.adapter()
    arguments.steps = 2
    m3ft.run(arguments, 1, adapter, count_calls(adapter, calls))
    assert len(calls) == 2
    again = toys.adapter(seed=5)
    m3ft.run(arguments, 1, again, count_calls(again, calls))
    assert len(calls) == 2, "nothing is left to do"
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), again.parameters(), strict=True))
    arguments.steps = 4
    m3ft.run(arguments, 1, again, count_calls(again, calls))
    uncut: list[float] = []
    arguments.output = tmp_path / "uncut"
    arguments.output.mkdir()
    m3ft.run(arguments, 1, toys.adapter(), count_calls(toys.adapter(), uncut))
    assert calls == uncut, "a resumed run draws what an uncut one would"


def test_what_is_settled_is_what_the_language_model_said_and_it_is_not_asked_again(
    toy_decoder: DiffusionDecoder,
) -> None:
    data = m3ft_data.pool(random.Random(3), 70, exchanges=(1, 2), users_pictures=False)
    adapter, reader = toys.adapter(), Reader()
    target = m3ft.Target(toy_decoder, [sample.caption for sample in data.samples])
    alignment = m3ft.Alignment(data, adapter, reader, target)
    index = [69, 0, 33, 5]
    fresh, *wanted = alignment.batch(index, settled=False)
    kept, *found = alignment.batch(index, settled=True)
    assert kept.captions == fresh.captions and torch.equal(kept.context_mask, fresh.context_mask)
    for one, other in ((kept.context, fresh.context), (kept.text, fresh.text), *zip(found, wanted, strict=True)):
        torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=1e-3)
    assert not adapter.image_tokens.requires_grad and not kept.context.requires_grad
    reader.encode_slots = None
    alignment.batch(index, settled=True)


def test_the_alignment_is_that_of_whitened_embeddings(toy_decoder: DiffusionDecoder) -> None:
    target = m3ft.Target(toy_decoder, list(toys.CAPTIONS))
    embeds, pooled = target(list(toys.CAPTIONS[:2]))
    assert embeds.shape == (2, toys.TOKENS, toys.EMBED_WIDTH) and pooled.shape == (2, toys.POOLED_WIDTH)
    exact = Condition(embeds, pooled, embeds, pooled)
    assert target.distance(exact, embeds, pooled) == 0
    whitened = target.whitening(embeds * 0.5, pooled * 0.5)
    expected = whitened[0].square().mean() + 0.3 * whitened[1].square().mean()
    half = replace(exact, embeds=embeds * 0.5, pooled=pooled * 0.5)
    torch.testing.assert_close(target.distance(half, embeds, pooled), expected)


def test_the_gradient_of_denoising_goes_to_the_condition_only(toy_decoder: DiffusionDecoder) -> None:
    condition = toys.condition(2)
    condition.embeds.requires_grad_(True)
    scenes = [Scene((Character("fox", "blue"),), None, "camp"), Scene((Character("owl", "red"),), "kite", "city")]
    latents = SceneLatents(toy_decoder.pipeline, 0)(scenes, random.Random(1))
    m3ft.denoising(toy_decoder, condition, latents).backward()
    assert condition.embeds.grad is not None and condition.embeds.grad.any()
    assert all(p.grad is None for p in (*toy_decoder.unet.parameters(), *toy_decoder.vae.parameters()))


def test_the_pool_sees_each_samples_references() -> None:
    found = m3ft_data.pool(random.Random(3), 30, exchanges=(1, 2), drifting=True)
    encoder = toys.vision_encoder()
    features, mask = found.vision(encoder, random.Random(4))
    assert features.dtype == torch.bfloat16 and features.shape[2:] == (3, toys.PATCHES, toys.VISION_WIDTH)
    assert mask.sum(1).tolist() == [len(sample.references) for sample in found.samples]
    assert not features[~mask].any() and features[mask].flatten(1).any(1).all()


def check_known(found: m3ft_data.Pool, sample: Sample) -> None:
    """What the picture of a sample should show follows from its references."""
    painted = found.painted(sample)
    assert [actor.species for actor in painted.characters] == [a.species for a in sample.scene.characters]
    for index, actor in enumerate(painted.characters):
        expected = sample.shown(index) if index in sample.known else sample.scene.characters[index]
        assert actor == expected
    for index, actor in enumerate(sample.scene.characters):
        assert (index in sample.known) == (sample.shown(index) is not None and index not in sample.named), actor


def test_what_a_sample_with_a_drifting_reference_should_show() -> None:
    plain = m3ft_data.pool(random.Random(3), 200, exchanges=(2, 3))
    found = m3ft_data.pool(random.Random(3), 200, exchanges=(2, 3), drifting=True)
    differ = [
        (one, other)
        for one, other in zip(plain.samples, found.samples, strict=True)
        if one.references != other.references
    ]
    assert 5 < len(differ) < 60
    assert all(one.references[:-1] == other.references[:-1] for one, other in differ)
    for sample in found.samples:
        check_known(found, sample)


def test_what_a_sample_with_exchanged_references_should_show() -> None:
    found = m3ft_data.pool(random.Random(3), 120, exchanges=(1, 2))
    rng, telling = random.Random(5), 0
    for index in range(len(found.samples)):
        sample, other = found.exchanged(index, rng)
        assert sample.references == found.samples[other].references
        assert sample.conversation is found.samples[index].conversation
        check_known(found, sample)
        telling += bool(sample.known)
    assert 40 < telling < 100, "some references tell something, and some do not"


def test_some_captions_say_what_only_references_can_tell() -> None:
    plain = m3ft_data.pool(random.Random(3), 60, exchanges=(1, 2))
    found = m3ft_data.pool(random.Random(3), 60, exchanges=(1, 2), said=True)
    differ = 0
    for one, other in zip(plain.samples, found.samples, strict=True):
        assert other.conversation.at(other.slot).caption == other.caption
        if one.caption == other.caption:
            continue
        differ += 1
        free = [actor for i, actor in enumerate(one.scene.characters) if i not in one.named]
        looks = " and ".join(f"the {actor.species} is {actor.look}" for actor in free)
        assert other.caption == f"{one.caption}, {looks}"
    assert 10 < differ < 40


def test_hard_samples_are_most_where_they_are_wished_for() -> None:
    def parts(**wish: bool) -> tuple[float, float]:
        found = m3ft_data.pool(random.Random(3), 900, exchanges=(1, 2, 2, 3), **wish).samples
        assert len(found) == 900
        divided = sum(bool(sample.known and sample.named) for sample in found)
        return divided / 900, sum(len(sample.known) > 1 for sample in found) / 900

    (divided, both), (more_divided, more_both) = parts(), parts(hard=True)
    assert 0 < divided < both < 0.3
    assert more_divided > 2 * divided and more_both > 2 * both
    assert more_both > 0.6


def test_training_draws_from_training_stories_only(monkeypatch) -> None:
    splits: set[str] = set()

    def story(rng: random.Random, split: str, **how: object) -> stories.Story:
        splits.add(split)
        return stories.story(rng, split, **how)

    monkeypatch.setattr(pool, "story", story)
    pool.pool(random.Random(0), 5, exchanges=(1,))
    assert splits == {"train"}


def test_pictures_are_kept_apart_even_when_one_is_cut_short() -> None:
    columns = [(0, column, 5) for column in (3, 4, 5, 6)] + [(0, 9, 2), (0, 10, 2)] + [(1, 11, 7), (1, 12, 7)]
    number, part = m3ft_visual.picture_parts(torch.tensor(columns))
    assert number.tolist() == [0, 0, 0, 0, 1, 1, 2, 2] and part.tolist() == [0, 1, 2, 3, 0, 1, 0, 1]
