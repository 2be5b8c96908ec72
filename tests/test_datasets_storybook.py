"""The storybook world as a data set: the samples that M3FT has always drawn, with what their references tell."""

from __future__ import annotations

import random

import torch

from m3adapter.datasets.sample import Dataset
from m3adapter.storybook.dataset import aside
from m3adapter.storybook.pictures import STAGES, Storybook
from m3adapter.storybook.pool import pool
from m3adapter.storybook.render import render


def test_a_stage_trains_on_the_samples_that_its_seed_has_always_drawn() -> None:
    for stage in (1, 2):
        found = Storybook.draw(stage, 7, 40)
        drawn = pool(random.Random(7 + stage), 40, **STAGES[stage]).samples
        assert isinstance(found, Dataset) and len(found) == 40
        for index, expected in enumerate(drawn):
            sample = found[index]
            assert sample.caption == expected.caption and sample.slot == expected.slot
            assert [t.text for t in sample.conversation.turns] == [t.text for t in expected.conversation.turns]
            assert f"{sample.caption}, {sample.told}".removesuffix(", ") == aside(expected)
            assert sample.useful == bool(expected.known)
            looks = {expected.shown(place).look for place in expected.known}
            assert looks <= {*sample.whole_caption.split()} and len(sample.whole_caption.split()) == len(
                sample.caption.split()
            ), "a look takes the place of an article"
            assert len(sample.references) == len(expected.references)
            users = sample.conversation.user_slots(before=sample.slot)
            assert len(users) == len(expected.user_scenes)
    assert any(sample.user_scenes for sample in drawn), "some users show pictures"


def test_a_picture_shows_what_its_references_tell() -> None:
    found = Storybook.draw(2, 7, 60)
    rng, changed = random.Random(1), 0
    for index in range(60):
        sample = found.exchanged(index, rng)
        told = sample.told
        assert told is not None and sample.known == tuple(name for name in sample.known if f"the {name} is " in told)
        assert bool(told) == sample.useful == bool(sample.known)
        changed += sample.picture.digest != found[index].picture.digest
        assert sample.conversation == found[index].conversation or sample.conversation.user_slots()
    assert changed > 10, "other references, other looks"


def test_drawings_are_the_same_at_every_look_and_worn_where_they_are_references() -> None:
    found = Storybook.draw(2, 7, 12)
    again = Storybook.draw(2, 7, 12)
    index = next(i for i in range(12) if found[i].references)
    one, other = found[index], again[index]
    assert one.key == other.key == found.key(index) and one.words_key == other.words_key
    assert torch.equal(one.picture.pixels, other.picture.pixels)
    for first, second in zip(one.references, other.references, strict=True):
        assert first.picture.digest == second.picture.digest
        assert torch.equal(first.picture.pixels, second.picture.pixels)
        assert first.picture.pixels.shape == (*found.size(index), 3)
    scene = found.pool.painted(found.pool.samples[index])
    clean = [torch.from_numpy(render(scene, seed)).float() / 255 for seed in range(2)]
    assert (one.picture.pixels - clean[0]).abs().mean() < (clean[0] - 0.5).abs().mean()
    assert len({found.key(i) for i in range(12)}) == 12
