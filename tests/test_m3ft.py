"""M3FT of the starter: what it draws from the storybook, and its options as a recipe."""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from m3adapter.storybook import pool as m3ft_data
from m3adapter.storybook import stories
from m3adapter.storybook.dataset import Sample
from m3adapter.training import m3ft, m3ft_visual
from m3adapter.training.m3ft_run import check_recipe
from m3adapter.training.recipe import Recipe, read_recipe
from m3adapter.weights.starter import STARTER


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

    monkeypatch.setattr(m3ft_data, "story", story)
    m3ft_data.pool(random.Random(0), 5, exchanges=(1,))
    assert splits == {"train"}


def test_pictures_are_kept_apart_even_when_one_is_cut_short() -> None:
    columns = [(0, column, 5) for column in (3, 4, 5, 6)] + [(0, 9, 2), (0, 10, 2)] + [(1, 11, 7), (1, 12, 7)]
    number, part = m3ft_visual.picture_parts(torch.tensor(columns))
    assert number.tolist() == [0, 0, 0, 0, 1, 1, 2, 2] and part.tolist() == [0, 1, 2, 3, 0, 1, 0, 1]


@pytest.mark.parametrize("stage", [1, 2])
def test_the_options_are_those_of_the_recipe_that_ships(
    stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Recipe] = []
    adapter = Namespace(parameters=lambda: ())
    models = Namespace(adapter=adapter, language=Namespace(visual_projection=None))
    monkeypatch.setattr(m3ft, "open_models", lambda recipe: models)
    monkeypatch.setattr(m3ft, "run_recipe", lambda recipe, *, models: given.append(recipe))
    steps, samples = ((2500, 20000), (8000, 9000))[stage - 1]
    parts = {"--language": "language_model", "--vision": "vision_encoder", "--decoder": "decoder"}
    named = [text for option, part in parts.items() for text in (option, str(STARTER / part))]
    init = ["--init", str(STARTER / "adapter.safetensors")] * (stage == 2)
    sizes = ["--steps", str(steps), "--samples", str(samples), "--batch", "128", "--lr", "1.5e-3"]
    sizes += ["--retyped", "0.5", "--foreign", "0.3"]
    m3ft.main(["--stage", str(stage), "--output", str(tmp_path), *named, *init, *sizes])
    shipped = read_recipe(Path("storybook"))
    assert given[0].stage1 == shipped.stage1 if stage == 1 else given[0].stage2 == shipped.stage2
    assert given[0].loss == shipped.loss and given[0].data == shipped.data
    same = ("anchor", "width", "blocks", "language_dtype", "decoder_dtype")
    assert all(getattr(given[0].models, name) == getattr(shipped.models, name) for name in same)
    check_recipe(given[0])
