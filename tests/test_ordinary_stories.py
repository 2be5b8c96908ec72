"""What people say to the storybook: the picture book's conversations in its means, and its own without surprises."""

from __future__ import annotations

import random
import re

import pytest

from m3adapter.conversation.segments import Picture, Text
from m3adapter.evaluation.messages import problems
from m3adapter.picturebook.reading import read
from m3adapter.picturebook.stories import plainer, talk_words
from m3adapter.picturebook.stories.ordinary import invited, story
from m3adapter.picturebook.stories.tale import Exchange as RichExchange
from m3adapter.picturebook.stories.tale import Panel as RichPanel
from m3adapter.picturebook.world import Character as RichCharacter
from m3adapter.picturebook.world import Scene as RichScene
from m3adapter.storybook.stories import Story
from m3adapter.storybook.wording.plot import composition_split
from m3adapter.storybook.world import PLACES, PROPS, SPECIES


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    rng = random.Random(5)
    return [story(rng, "train") for _ in range(500)]


def test_a_caption_says_what_the_storybook_can_paint_and_no_more(stories: list[Story]) -> None:
    named = 0
    for panel in (panel for told in stories for exchange in told.exchanges for panel in exchange.panels):
        said, scene = read(panel.caption), panel.scene
        assert {actor.species for actor in scene.characters} == {*said.species} <= {*SPECIES}
        assert len(scene.characters) == sum(said.species.values()) <= 2, panel.caption
        assert said.of("place") == {scene.place} <= {*PLACES}
        assert said.of("prop") == ({scene.prop} if scene.prop else set()) <= {*PROPS}
        assert said.of("light") | {"day"} == {scene.light, "day"}
        assert said.of("weather") | {"clear"} == {scene.weather, "clear"}
        assert not any(said.of(name) for name in ("action", "mood", "accessory", "facing"))
        looks = {scene.characters[index].species: {scene.characters[index].look} for index in panel.named}
        assert said.looks == looks
        for name, actor in zip(panel.names, scene.characters, strict=False):
            named += bool(name)
            assert not name or re.search(rf"\b{name} the (\w+ )?{actor.species}\b", panel.caption)
    assert named > 60


def test_no_held_out_composition_is_told_in_training(stories: list[Story]) -> None:
    scenes = [panel.scene for told in stories for exchange in told.exchanges for panel in exchange.panels]
    assert len(scenes) > 500
    for scene in scenes:
        assert {composition_split(actor.species, scene.place, scene.prop) for actor in scene.characters} == {"train"}


def test_nothing_is_shown_that_nobody_asked_for(stories: list[Story]) -> None:
    pictures = uninvited = 0
    for told in stories:
        for exchange in told.exchanges[:1]:
            if not exchange.panels or exchange.user_scene:
                continue
            asked = read(exchange.message, loose=True)
            if not asked.species:  # "Tell me a story."
                continue
            reply = [part for panel in exchange.panels for part in (Text(panel.text), Picture(panel.caption))]
            expect = {"kind": "", "say": [exchange.message], "expect": {"who": dict(asked.species)}}
            found = [problem for problem in problems(expect, reply) if problem.startswith(("uninvited", "stranger"))]
            pictures, uninvited = pictures + 1, uninvited + bool(found)
    assert pictures > 200
    assert uninvited <= 0.03 * pictures, "slips of the fingers hide what was asked for"


def test_answers_offer_only_what_can_be_painted(stories: list[Story]) -> None:
    answers = [exchange.answer for told in stories for exchange in told.exchanges if not exchange.panels]
    assert len(answers) > 100
    refused = re.compile(r"\b(cannot draw|do not know) [^.,:]+|^[^.]+ is not in my picture book")
    for answer in answers:
        offered = read(refused.sub("", answer))
        assert {*offered.species} <= {*SPECIES} and offered.of("place") <= {*PLACES}, answer
        assert offered.of("prop") <= {*PROPS} and not offered.of("accessory"), answer
        assert not re.search(r"three (at|is|animals)|up to three of|two or three at", answer), answer


@pytest.mark.parametrize(
    ("message", "scene", "frames"),
    [
        ("a tiger in the forest", RichScene((RichCharacter("tiger", "red"),), "forest"), talk_words.REFUSALS),
        ("a fox at the lake", RichScene((RichCharacter("fox", "red"),), "lake"), talk_words.REFUSALS),
        (
            "fox with an apple",
            RichScene((RichCharacter("fox", "red"),), "forest", props=("apple",)),
            talk_words.REFUSALS,
        ),
        (
            "a fox in a hat",
            RichScene((RichCharacter("fox", "red", accessory="hat"),), "forest"),
            talk_words.REFUSALS,
        ),
        ("two foxes", RichScene((RichCharacter("fox", "red"), RichCharacter("fox", "blue")), "camp"), plainer.ALIKE),
        (
            "a fox, a dog and a cat",
            RichScene(tuple(RichCharacter(name, "red") for name in ("fox", "dog", "cat")), "camp"),
            plainer.TWO,
        ),
        (
            "a fox with a kite and a ball",
            RichScene((RichCharacter("fox", "red"),), "camp", props=("kite", "ball")),
            plainer.THINGS,
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_painted_is_refused(message: str, scene: RichScene, frames: tuple[str, ...]) -> None:
    panel = RichPanel("It is told.", scene, "a caption", ("",) * len(scene.characters), (0, 1, 2), (frozenset(),) * 3)
    rng = random.Random(2)
    found = [plainer.plainer(rng, (RichExchange(message, (panel,)),), "train") for _ in range(60)]
    kept = [other for other in found if other is not None]
    assert 3 < len(kept) < 40, "a part of the refusals"
    for other in kept:
        (exchange,) = other.exchanges
        assert exchange.message == message and not exchange.panels
        expect = {"kind": "", "say": [message], "expect": {"says": "refusal"}}
        if frames is not talk_words.REFUSALS:  # some of these only say what is there
            assert not problems(expect, [Text(exchange.answer)]), exchange.answer


def test_who_turns_a_figure_hears_that_it_cannot_be_turned() -> None:
    fox = RichCharacter("fox", "red")
    near = RichPanel("A fox.", RichScene((fox,), "camp"), "", ("",), (0,), (frozenset({"near"}),))
    first = RichExchange(
        "a fox at the camp", (RichPanel("A fox.", RichScene((fox,), "camp"), "", ("",), (0,), (frozenset(),)),)
    )
    told = plainer.plainer(random.Random(0), (first, RichExchange("closer", (near,))), "train")
    assert told is not None
    assert told.exchanges[0].panels[0].caption == "a fox at the camp"
    assert not told.exchanges[1].panels and "camp" not in told.exchanges[1].answer


def test_own_stories_end_before_what_nobody_asked_for() -> None:
    from m3adapter.storybook.stories import story as own

    rng, cut = random.Random(3), 0
    for _ in range(300):
        told = own(rng, "train")
        found = invited(told.exchanges)
        assert found == told.exchanges[: len(found)]
        cut += len(found) < len(told.exchanges)
    assert 100 < cut < 290


def test_a_story_depends_on_its_seed_only_and_splits_have_their_own() -> None:
    one, two = ([story(random.Random(8), split) for _ in range(2)] for split in ("train", "test"))
    assert one[0] == one[1] and two[0] == two[1] and one[0] != two[0]
    with pytest.raises(ValueError, match="split"):
        story(random.Random(0), "dev")  # type: ignore[arg-type]
