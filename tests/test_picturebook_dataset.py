"""The picture book as a data set: who is known, newcomers, names, weights, foreign pictures, people's captions."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import toy_llms
import toys
from m3adapter.datasets.sample import Dataset
from m3adapter.picturebook import foreign
from m3adapter.picturebook.dataset import Sample, Shown, samples, unnamed
from m3adapter.picturebook.pictures import Picturebook, portrait_of
from m3adapter.picturebook.pool import Pool, adopted, is_short, pool
from m3adapter.picturebook.reading import read
from m3adapter.picturebook.retyping import cased, retyped
from m3adapter.picturebook.sprites import LOOK_COLOURS
from m3adapter.picturebook.stories.teller import story
from m3adapter.picturebook.world import LOOKS, SPECIES, Character, Scene, splits_of
from m3adapter.training import m3ft, m3ft_run
from m3adapter.training.m3ft_models import open_adapter, open_models
from m3adapter.training.recipe import Recipe, read_recipe, recipe_of

FOX, OWL = Character("fox", "blue"), Character("owl", "red", "hat")


@pytest.fixture(scope="module")
def drawn() -> dict[int, Pool]:
    return {stage: pool(random.Random(3), 300, stage) for stage in (1, 2)}


def told_by(sample: Sample, *references: Shown) -> dict[int, dict[str, str]]:
    return replace(sample, references=references).known


@pytest.fixture(scope="module")
def pair() -> Sample:
    """A fox and an owl of whom the caption says nothing."""
    found = next(s for s in pool(random.Random(0), 40, 1).samples if len(s.who) == 1)
    said = replace(found.said, characters=(frozenset(), frozenset()))
    return replace(
        found, scene=Scene((FOX, OWL), "beach"), said=said, who=(4, 7), names=("", ""), references=(), meant="a pair"
    )


def test_a_sample_has_what_came_before_it_and_whom_it_shows() -> None:
    rng, met = random.Random(2), 0
    for _ in range(150):
        told = samples(story(rng, "train"))
        for earlier, sample in zip(told, told[1:], strict=False):
            assert sample.conversation.picture(sample.slot).caption == sample.caption
            assert sample.conversation.picture(sample.slot).is_open
            for index in sample.known:
                assert sample.who[index] in {who for shown in sample.references for who in shown.who}
            assert earlier.met <= sample.met
            met += len(sample.met & {*sample.who})
            if sample.is_clear:  # a story is true to itself: what references tell is what it shows
                assert sample.painted.characters == sample.scene.characters
    assert met > 100


def test_references_tell_what_the_caption_does_not_say(pair: Sample) -> None:
    fox, owl = Shown(Scene((FOX,), "city"), (4,)), Shown(Scene((OWL,), "city"), (7,))
    assert told_by(pair) == {} and told_by(pair, fox) == {0: {"look": "blue", "accessory": "none"}}
    assert told_by(pair, fox, owl)[1] == {"look": "red", "accessory": "hat"}
    seen = replace(pair, references=(fox,))
    assert seen.newcomers == (1,) and seen.told == "the fox is blue and wears nothing"
    named = replace(seen, said=replace(seen.said, characters=(frozenset(("look",)), frozenset(("look",)))))
    assert named.known == {0: {"accessory": "none"}} and named.newcomers == ()
    hidden = replace(fox, scene=Scene((replace(FOX, action="sleeps"),), "city"))
    assert told_by(pair, hidden) == {0: {"look": "blue"}}, "in bed nobody shows a scarf"
    assert told_by(pair, replace(fox, style="sketch")) == {0: {"look": "blue"}}


def test_the_heavier_reference_counts_and_of_equal_ones_the_oldest(pair: Sample) -> None:
    blue, red = (Shown(Scene((replace(FOX, look=look),), "city"), (4,)) for look in ("blue", "red"))
    assert told_by(pair, blue, red)[0]["look"] == "blue"
    assert told_by(pair, blue, replace(red, weight=4.0))[0]["look"] == "red"
    assert told_by(pair, replace(blue, weight=4.0), red)[0]["look"] == "blue"
    assert replace(pair, references=(blue, replace(red, weight=4.0))).painted.characters[0].look == "red"


def test_another_fox_is_not_this_fox(pair: Sample) -> None:
    stranger = Shown(Scene((FOX,), "city"), (9,))
    assert told_by(pair, stranger) == {} and not replace(pair, references=(stranger,)).is_clear
    taken = adopted(pair, (stranger,))
    assert taken is not None and taken.known[0]["look"] == "blue", "in exchanged references, it is taken for it"
    both = Shown(Scene((FOX, replace(FOX, look="pink")), "city"), (9, 10))
    assert adopted(pair, (both,)) is None
    foreign_kind = adopted(pair, (Shown(Scene((Character("cow", "green"),), "city"), (4,)),))
    assert foreign_kind is not None and not foreign_kind.known and not foreign_kind.told


def test_names_are_taken_out_of_what_a_caption_means() -> None:
    assert unnamed("Milo the sad fox and an owl by the lake", ("Milo", "")) == "a sad fox and an owl by the lake"
    assert unnamed("Ida the owl and Bo the blue owl run", ("Ida", "Bo")) == "an owl and another blue owl run"
    assert unnamed("Miss Moss the cow with a hat", ("Miss Moss",)) == "a cow with a hat"
    assert unnamed("a fox", ("",)) == "a fox"


def test_people_say_the_same_in_other_words(drawn: dict[int, Pool]) -> None:
    rng, forms, alone = random.Random(4), Counter(), 0
    for sample in drawn[2].samples:
        other = retyped(rng, sample)
        assert other.meant == sample.meant and other.known == sample.known
        assert other.conversation.picture(other.slot).caption == other.caption
        found = read(other.caption, loose=True)
        names = [name for name in sample.names if name]
        if not names:
            assert {*found.species} >= {actor.species for actor in sample.scene.characters}, other.caption
        named_alone = [name for name in names if re.search(rf"\b{name}\b(?! the)", other.caption, re.I)]
        alone += bool(named_alone) and not found.species
        forms["capital"] += other.caption[0].isupper()
        forms["large"] += other.caption.isupper()
        forms["bare"] += not re.search(r"\b(an?|the) ", other.caption, re.I)
        forms["same"] += other.caption == sample.caption
    assert alone > 1 and min(forms.values()) >= 3 and forms["same"] < 150, forms
    assert {cased(rng, "a fox") for _ in range(200)} == {"a fox", "A fox", "A FOX"}


def test_a_stage_draws_what_is_rare_in_stories(drawn: dict[int, Pool]) -> None:
    one, two = drawn[1].samples, drawn[2].samples
    assert not any(sample.users for sample in one) and any(
        sample.users for sample in pool(random.Random(8), 150, 2).samples
    )
    looks = [re.search(r", the (\w+ )?\w+ (is|wears) ", sample.meant) for sample in one]
    assert 60 < sum(map(bool, looks)) < 200
    assert sum(len(sample.who) > 1 and sample.known != {} and sample.newcomers != () for sample in two) > 40
    assert sum(len(sample.known) > 1 for sample in two) > 60
    styles = Counter(shown.style for sample in two for shown in sample.references)
    assert min(styles[style] for style in foreign.STYLES) > 5 and not {*styles} & {*foreign.UNSEEN}
    weighted = [sample for sample in two if any(shown.weight != 1 for shown in sample.references)]
    assert len(weighted) > 15
    for sample in weighted:
        heavier = max(sample.references, key=lambda shown: shown.weight)
        assert sample.known.get(0, {}).get("look", heavier.scene.characters[0].look) == heavier.scene.characters[0].look
    retold = sum(sample.caption != sample.meant and not any(sample.names) for sample in two)
    assert retold > 40
    for sample in (*one, *two):
        assert sample.is_clear and is_short(sample) and splits_of(sample.scene) == {"train"}


def test_the_data_set_tells_what_its_pictures_show() -> None:
    found = Picturebook.draw(2, 7, 60)
    assert isinstance(found, Dataset) and len(found) == 60
    rng, changed, weights = random.Random(1), 0, set()
    for index in range(60):
        sample = found.exchanged(index, rng)
        assert bool(sample.told) == sample.useful == bool(sample.known)
        assert sample.whole_caption.startswith(sample.meaning)
        assert all(kind in sample.told for kind in sample.known)
        changed += sample.picture.digest != found[index].picture.digest
        weights |= {reference.weight for reference in found[index].references}
    assert changed > 10 and weights > {1.0}
    with pytest.raises(IndexError):
        found[60]


def test_drawings_are_the_same_at_every_look() -> None:
    one, other = Picturebook.draw(2, 7, 30), Picturebook.draw(2, 7, 30)
    assert [one.key(index) for index in range(30)] == [other.key(index) for index in range(30)]
    assert len({one.key(index) for index in range(30)}) > 28
    index = next(i for i in range(30) if len(one[i].references) > 1)
    for first, second in zip(one[index].references, other[index].references, strict=True):
        assert torch.equal(first.picture.pixels, second.picture.pixels)
        assert first.picture.pixels.shape == (*one.size(index), 3) == (256, 256, 3)
    assert portrait_of(SPECIES.index("fox"), random.Random(1)).shape == (256, 256, 3)


def test_held_out_samples_are_of_their_split() -> None:
    found = Picturebook.held_out("test", 0, 12)
    assert all(sample.known and sample.is_clear for sample in found.pool.samples)
    assert found.report.split == "test"
    assert found[0].key != Picturebook.held_out("validation", 0, 12)[0].key


@pytest.mark.parametrize("style", foreign.STYLES + foreign.UNSEEN)
def test_a_foreign_picture_has_the_main_colour_of_its_subject(style: str) -> None:
    for look in LOOKS:
        picture = foreign.draw(Character("cat", look), style, 5).astype(float)
        assert picture.shape == (256, 256, 3)
        other = foreign.draw(Character("cat", "green" if look != "green" else "red"), style, 5).astype(float)
        subject = picture[np.abs(picture - other).max(-1) > 60]
        near = np.linalg.norm(subject[:, None] - np.array([*LOOK_COLOURS.values()], dtype=float), axis=-1)
        assert LOOKS[Counter(near.argmin(-1).tolist()).most_common(1)[0][0]] == look
    assert np.array_equal(foreign.draw(FOX, style, 1), foreign.draw(FOX, style, 1))
    assert not np.array_equal(foreign.draw(FOX, style, 1), foreign.draw(FOX, style, 2))
    rng = random.Random(0)
    assert all(foreign.nearest(foreign.shade(look, rng)) == look for look in LOOKS for _ in range(50))


@pytest.fixture(scope="module")
def toy_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("parts")
    models = toy_llms.save_models(folder)
    stage = {"steps": 2, "batch": 4, "samples": 6, "settled": 0.5}
    return recipe_of(
        {
            "models": {**models, "anchor": False},
            "data": {"path": "picturebook", "validation": "", "resolution": toys.SIDE},
            "stage1": stage,
            "stage2": {**stage, "settled": 0.0},
            "run": {"output": str(folder / "out"), "precision": "float32", "log_every": 1},
        }
    )


def test_both_stages_learn_two_steps_of_it(toy_recipe: Recipe) -> None:
    models = open_models(toy_recipe)
    adapter = open_adapter(toy_recipe, models.language, models.vision, models.decoder)
    path = m3ft_run.run_recipe(toy_recipe, models=replace(models, adapter=adapter))
    assert path.name == "adapter_stage2.safetensors" and path.is_file()


def test_a_caption_in_other_words_aims_at_what_it_means(toy_recipe: Recipe) -> None:
    from m3adapter.training.frozen import Frozen
    from m3adapter.training.stage1 import Stage1
    from m3adapter.training.text_target import TextTarget

    data = Picturebook.draw(2, 7, 40)
    sample = next(found for found in (data[i] for i in range(40)) if found.meant and found.told)
    assert Stage1.aim(sample, sample) == sample.meant != sample.caption
    target = TextTarget(Frozen(open_models(toy_recipe), None, toys.SIDE), [sample.meaning])
    difference = target.told([sample])[0][0]
    whole, plain = (target([text])[0][0] for text in (f"{sample.meant}, {sample.told}", sample.meant))
    assert torch.allclose(difference, whole - plain, atol=1e-5)


def test_the_recipe_and_the_option_choose_the_picture_book(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_recipe(Path("picturebook")).data.path == "picturebook"
    given: list[Recipe] = []
    adapter = type("Adapter", (), {"parameters": lambda self: ()})()
    language = type("Language", (), {"visual_projection": None})()
    models = type("Models", (), {"adapter": adapter, "language": language})()
    monkeypatch.setattr(m3ft, "open_models", lambda recipe: models)
    monkeypatch.setattr(m3ft, "run_recipe", lambda recipe, *, models: given.append(recipe))
    for name in ("language", "vision", "decoder"):
        (tmp_path / name).mkdir()
    named = [text for name in ("language", "vision", "decoder") for text in (f"--{name}", str(tmp_path / name))]
    m3ft.main(["--stage", "1", "--output", str(tmp_path / "out"), *named, "--world", "picturebook"])
    assert given[0].data.path == "picturebook" and given[0].data.validation == ""
    assert m3ft.portraits("picturebook") is portrait_of
