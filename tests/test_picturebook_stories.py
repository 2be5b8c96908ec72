"""Conversations of the picture book: their pictures, what is said of them, and what the splits hold back."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
import torch

from m3adapter.conversation.conversation import Picture
from m3adapter.picturebook.reading import read
from m3adapter.picturebook.stories.__main__ import main
from m3adapter.picturebook.stories.arcs import Plotter
from m3adapter.picturebook.stories.edits import Editor
from m3adapter.picturebook.stories.plotting import NUMBERS
from m3adapter.picturebook.stories.stage import Stage, new_actor
from m3adapter.picturebook.stories.tale import SPLITS, Exchange, Panel, Story, to_conversation
from m3adapter.picturebook.stories.talk import Talk
from m3adapter.picturebook.stories.teller import story
from m3adapter.picturebook.stories.typing import typed
from m3adapter.picturebook.words import LONGEST
from m3adapter.picturebook.world import MOST_CHARACTERS, splits_of

MOST_PICTURES = 8


@pytest.fixture(scope="module")
def told() -> dict[str, list[Story]]:
    return {split: [story(random.Random(f"{split} {seed}"), split) for seed in range(300)] for split in SPLITS}


@pytest.fixture(scope="module")
def panels(told: dict[str, list[Story]]) -> list[tuple[Exchange, Panel]]:
    return [(exchange, panel) for one in told["train"] for exchange in one.exchanges for panel in exchange.panels]


def test_the_same_numbers_tell_the_same_story(told: dict[str, list[Story]]) -> None:
    assert story(random.Random("train 7"), "train") == told["train"][7] != told["train"][8]
    assert len(story(random.Random(0), "test", exchanges=5).exchanges) == 5
    with pytest.raises(ValueError, match="split is 'tests'"):
        story(random.Random(0), "tests")  # type: ignore[arg-type]


def test_splits_differ_in_compositions(told: dict[str, list[Story]]) -> None:
    for split, stories in told.items():
        for one in stories:
            first = next((exchange.panels[0] for exchange in one.exchanges if exchange.panels), None)
            if first:
                assert split in splits_of(first.scene)
    shown = [splits_of(panel.scene) for one in told["train"] for exchange in one.exchanges for panel in exchange.panels]
    assert all(splits == {"train"} for splits in shown)


def test_splits_differ_in_words(told: dict[str, list[Story]]) -> None:
    answers = {
        split: {e.answer for one in stories for e in one.exchanges if e.answer} for split, stories in told.items()
    }
    frames = {
        split: {re.sub(r"\b(an?|the) \w+|\w+s\b", "", text) for text in texts} for split, texts in answers.items()
    }
    assert (
        len(frames["train"]) > 40
        and not frames["train"] & frames["test"]
        and not frames["train"] & frames["validation"]
    )


def test_captions_tell_the_scene(panels: list[tuple[Exchange, Panel]]) -> None:
    for _, panel in panels:
        scene, said = panel.scene, read(panel.caption)
        assert said.species == Counter(actor.species for actor in scene.characters), panel.caption
        assert said.of("place") == {scene.place}
        assert said.of("light") - {"day"} == {scene.light} - {"day"}
        assert said.of("weather") - {"clear"} == {scene.weather} - {"clear"}
        assert said.of("prop") == {*scene.props, *(actor.held for actor in scene.characters if actor.held)}
        assert said.of("action") == {actor.action for actor in scene.characters} - {"stands"}
        assert said.of("mood") == {actor.mood for actor in scene.characters} - {"calm"}
        for actor, facts in zip(scene.characters, panel.said, strict=True):
            assert ("look" in facts) <= (actor.look in said.looks.get(actor.species, ()))
        assert len(re.findall(r"\w+|[^\w\s]", panel.caption)) <= LONGEST


def test_texts_tell_what_captions_say(panels: list[tuple[Exchange, Panel]]) -> None:
    for _, panel in panels:
        said, shown = read(panel.text), read(panel.caption)
        names = {actor.species for actor, name in zip(panel.scene.characters, panel.names, strict=True) if not name}
        assert names <= {*said.species}, panel.text
        for name in ("place", "light", "weather", "prop"):
            assert shown.of(name) <= said.of(name), (panel.text, panel.caption)
        assert not re.search(r"[{}|\[\]]|  |,\.", panel.text), panel.text
        assert all(sentence[0].isupper() for sentence in re.findall(r"(?<=[.!?] )[a-zA-Z]", panel.text)), panel.text


def test_names_are_kept_in_text_and_caption(panels: list[tuple[Exchange, Panel]]) -> None:
    named = [
        (panel, name, actor)
        for _, panel in panels
        for name, actor in zip(panel.names, panel.scene.characters, strict=True)
        if name
    ]
    assert len(named) > 100
    for panel, name, actor in named:
        assert name in panel.text and re.search(rf"\b{name} the ([a-z]+ ){{0,2}}{actor.species}\b", panel.caption)


def test_nobody_and_nothing_is_there_that_was_not_asked_for(told: dict[str, list[Story]]) -> None:
    for one in told["train"]:
        said = ""
        for exchange in one.exchanges:
            said += " " + exchange.message
            asked = read(said, loose=True)
            for panel in exchange.panels:
                assert len(panel.scene.characters) <= MOST_CHARACTERS
                assert panel.scene.weather == "clear" or panel.scene.weather in asked.of("weather") | {"rain", "snow"}
        # Things come from messages alone; half of their words are others' for the same, and a few are mistyped.
        shown = Counter(prop for e in one.exchanges for panel in e.panels for prop in panel.scene.props)
        assert len(shown) <= 1 + said.count(" ")


def test_counts_of_pictures_are_followed() -> None:
    plotter, counted = Plotter(random.Random(5), "train"), set()
    for _ in range(400):
        plot = plotter.plot()
        assert 1 <= len(plot.beats) <= MOST_PICTURES
        if plot.count_said:
            counted.add(len(plot.beats))
            assert any(re.search(rf"\b{word}\b", plot.premise, re.IGNORECASE) for word in NUMBERS[len(plot.beats)])
    assert counted == {*range(1, 9)}


def test_a_plot_ends_as_promised() -> None:
    plotter, promised = Plotter(random.Random(8), "train"), 0
    for _ in range(400):
        plot = plotter.plot()
        end = plot.beats[-1].stage
        prop = re.search(r"finds (?:an? )?(\w+) and smiles", plot.premise)
        if prop:
            promised += 1
            assert prop[1] in end.things()
        if re.search(r"(gets there|arrives|falls asleep|is fast asleep)", plot.premise):
            promised += 1
            assert end.hero.character.mood == "happy" or end.hero.character.action == "sleeps"
    assert promised > 20


def test_an_edit_changes_what_it_says_and_keeps_the_rest() -> None:
    rng = random.Random(2)
    stage = Stage((new_actor(rng, 0, "fox"),), "forest", weather="snow")
    for _ in range(300):
        edit = Editor(rng, "train").message(stage, 1)
        assert edit and edit.stage != stage
        before, after = read(stage.caption()), read(edit.stage.caption())
        kept = [
            before.species == after.species,
            *(before.of(name) == after.of(name) for name in ("place", "weather", "light", "prop", "action", "mood")),
        ]
        assert sum(not same for same in kept) <= 1 + bool({"holds", "hides", "runs"} & after.of("action")), edit


@pytest.mark.parametrize(
    "kind", ["hello", "name", "able", "unknown", "question", "foreign", "senseless", "crowd", "long", "coat"]
)
def test_what_is_no_story_gets_a_sentence_or_two_and_no_picture(kind: str) -> None:
    talk = Talk(random.Random(0), "train")
    for _ in range(60):
        exchange = getattr(talk, kind)()
        assert exchange.message and not exchange.panels and exchange.answer.endswith((".", "!", "?"))
        assert len(exchange.answer.split()) < 40 and not re.search(
            r"[{}]", exchange.answer + exchange.message * (kind != "question")
        )
        assert kind in ("hello", "name", "long") or read(exchange.answer).species, exchange.answer


def test_a_story_becomes_a_conversation(told: dict[str, list[Story]]) -> None:
    one = next(
        one for one in told["train"] if any(e.answer for e in one.exchanges) and any(e.panels for e in one.exchanges)
    )
    conversation = to_conversation(one, paint=lambda scene: torch.zeros(8, 8, 3), system="Be kind.")
    assert len(conversation.turns) == 1 + 2 * len(one.exchanges)
    pictures = [
        segment for turn in conversation.turns[2::2] for segment in turn.segments if isinstance(segment, Picture)
    ]
    assert [picture.caption for picture in pictures] == [panel.caption for e in one.exchanges for panel in e.panels]
    assert len(to_conversation(one, 0).turns) == 1


def test_conversations_are_printed_to_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--count", "3", "--seed", "4"])
    printed = capsys.readouterr().out
    rng = random.Random(4)
    for one in (story(rng, "train") for _ in range(3)):
        for exchange in one.exchanges:
            assert exchange.message in printed and exchange.answer in printed
            assert all(f"  {panel.text}\n  [{panel.caption}]" in printed for panel in exchange.panels)


def test_nobody_is_at_the_goal_before_the_end() -> None:
    plotter, journeys = Plotter(random.Random(11), "train"), 0
    for _ in range(500):
        plot = plotter.plot()
        goal = re.search(r"(?:wants to see|dreams of|sets out for|longs for) the (\w+)\b", plot.premise)
        if goal and plot.beats[-1].stage.place == goal[1]:
            journeys += 1
            assert goal[1] not in [beat.stage.place for beat in plot.beats[:-1]]
    assert journeys > 8


def test_a_new_character_has_not_changed(told: dict[str, list[Story]]) -> None:
    for stories in told.values():
        for one in stories:
            for exchange in one.exchanges:
                for name, colour in re.findall(
                    r"(\w+) is (\w+) now\.", " ".join(panel.text for panel in exchange.panels)
                ):
                    assert f"{name} the {colour}" not in exchange.panels[0].text, exchange


def test_no_message_is_empty_however_it_is_typed() -> None:
    rng = random.Random(4)
    assert all(typed(rng, "...").strip() for _ in range(600))
