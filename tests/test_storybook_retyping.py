"""Captions as people type them say what the story's caption says, and nothing on which the starter is measured."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from m3adapter.arguments import UserError
from m3adapter.evaluation import storybook_more as more
from m3adapter.picturebook import foreign
from m3adapter.storybook import retyping
from m3adapter.storybook.pictures import Storybook
from m3adapter.storybook.world import LOOKS
from m3adapter.training.recipe import Data, Recipe, Run, Stage
from m3adapter.training.sources import open_samples


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def names(text: str) -> dict[str, set[str]]:
    """Return the names that a message gives, by species."""
    found: dict[str, set[str]] = {}
    for frame in retyping.CALLED:
        pattern = re.escape(frame).replace(r"\{species\}", "(?P<species>[a-z]+)")
        pattern = pattern.replace(r"\{name\}", r"(?P<name>\w+)")
        for match in re.finditer(rf"\b{pattern}", text):
            found.setdefault(match["species"], set()).add(match["name"])
    return found


def test_a_typed_caption_says_who_is_there_and_the_looks_that_were_told() -> None:
    plain, typed = Storybook.draw(1, 3, 120), Storybook.draw(1, 3, 120, retyped=1.0)
    changed = 0
    for index in range(120):
        sample, other = plain[index], typed[index]
        assert other.meaning == sample.caption and (other.told, other.known) == (sample.told, sample.known)
        assert other.conversation.picture(other.slot).caption == other.caption == other.picture.caption
        said = words(other.caption)
        assert words(sample.caption) & {*LOOKS} <= said, "looks that are told stay told"
        given = names(other.conversation.turns[other.slot.turn - 1].text)
        for actor in plain.pool.samples[index].scene.characters:
            assert actor.species in said or said & {name.lower() for name in given.get(actor.species, ())}
        prop = plain.pool.samples[index].scene.prop
        assert prop is None or prop in said
        changed += other.caption != sample.caption
    assert changed > 100


def test_names_are_given_by_the_users_last_message_and_the_rest_stays() -> None:
    plain, typed = Storybook.draw(1, 3, 120), Storybook.draw(1, 3, 120, retyped=1.0)
    given = 0
    for index in range(120):
        turns = zip(plain[index].conversation.turns, typed[index].conversation.turns, strict=True)
        changed = [place for place, (one, other) in enumerate(turns) if one.text != other.text]
        assert changed in ([], [typed[index].slot.turn - 1])
        given += bool(changed)
    assert 20 < given < 60


def test_nothing_is_trained_on_the_wordings_that_are_measured() -> None:
    found = Storybook.draw(2, 5, 200, retyped=1.0)
    for index in range(200):
        texts = [found[index].caption, *(turn.text for turn in found[index].conversation.turns if turn.role == "user")]
        added = texts[0] + texts[-1]
        assert not any(re.search(rf"\bis called {name}\b|\b{name} the\b", added) for name in retyping.TEST_NAMES)
        assert "a picture of" not in texts[0].lower()
    rng = random.Random(0)
    named = {name for _ in range(40) for name in rng.sample(more.TEST_NAMES, 2)}
    assert named == {*retyping.TEST_NAMES}


def test_some_names_are_invented_and_no_two_characters_share_one() -> None:
    rng = random.Random(0)
    drawn = [retyping.different_names(rng, 2) for _ in range(300)]
    assert all(one != other for one, other in drawn)
    invented = [name for pair in drawn for name in pair if name not in retyping.TRAINING_NAMES]
    assert 120 < len(invented) < 240 and not {*invented} & {*retyping.TEST_NAMES}


def test_a_part_is_retyped_and_always_the_same_part() -> None:
    whole = [Storybook.draw(2, 1, 100, retyped=part) for part in (0.0, 0.4, 0.4)]
    assert not any(whole[0][index].meant for index in range(100))
    parts = [[bool(found[index].meant) for index in range(100)] for found in whole]
    assert 25 < sum(parts[1]) < 55
    assert [whole[1][index].key for index in range(100)] == [whole[2][index].key for index in range(100)]
    exchanged = whole[1].exchanged(parts[1].index(True), random.Random(0))
    assert exchanged.meant, "other references, the same words"


def test_a_recipe_says_how_many_are_retyped() -> None:
    def recipe(**options: object) -> Recipe:
        stage = Stage(steps=1, samples=30)
        return Recipe(data=Data("storybook", validation="", options=options), stage2=stage, run=Run("out"))

    plain, typed = (open_samples(chosen, 2)[0] for chosen in (recipe(), recipe(retyped=1.0)))
    assert not any(plain[index].meant for index in range(30)) and any(typed[index].meant for index in range(30))
    for wrong in ({"retyped": 2.0}, {"retyped": "much"}, {"foreign": -1}, {"capitals": True}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            open_samples(recipe(**wrong), 2)


def test_a_part_of_the_references_is_drawn_by_somebody_else() -> None:
    def drawn(**options: object) -> Any:
        stage = Stage(steps=1, samples=150)
        return open_samples(
            Recipe(data=Data("storybook", validation="", options=options), stage2=stage, run=Run("out")), 2
        )[0]

    renders, all_foreign, some = drawn(), drawn(foreign=1.0), drawn(foreign=0.4)
    counts = Counter[str]()
    for index in range(150):
        plain, other = renders[index], all_foreign[index]
        assert (plain.told, plain.known, plain.caption) == (other.told, other.known, other.caption)
        assert plain.picture.digest == other.picture.digest, "what is painted stays the renderer's"
        rows = zip(plain.references, other.references, some[index].references, strict=True)
        for one, two, three in rows:
            render, copy, sometimes = (vars(each.picture)["_image"] for each in (one, two, three))
            alone = len(render.scene.characters) == 1
            assert (copy.digest != render.digest) == alone, "only who is alone"
            counts["alone"] += alone
            counts["some"] += sometimes.digest != render.digest
            if not alone:
                continue
            (actor,), (drawn_as,) = render.scene.characters, copy.scene.characters
            assert (actor.species, actor.look) == (drawn_as.species, drawn_as.look)
            assert copy.style in foreign.STYLES and copy.style not in foreign.UNSEEN
            if counts["alone"] < 6:
                assert copy.decode().shape == (256, 256, 3)
    assert 0.25 * counts["alone"] < counts["some"] < 0.55 * counts["alone"]
    again = drawn(foreign=0.4)
    assert [some[index].key for index in range(20)] == [again[index].key for index in range(20)]
