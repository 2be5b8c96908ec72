"""The storybook's words: what the texts name, what they keep quiet about, and what each split may use."""

from __future__ import annotations

import random
import re

import pytest

from m3adapter.storybook.stories import Story, composition_split, story, to_conversation
from m3adapter.storybook.wording import choose, openings, paragraphs, people, places, plot, props, requests, telling
from m3adapter.storybook.world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, caption

STORIES = 500


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


@pytest.fixture(scope="module")
def train() -> list[Story]:
    rng = random.Random(5)
    return [story(rng, "train") for _ in range(STORIES)]


def panels(stories: list[Story]) -> list[tuple[Story, object]]:
    return [(told, panel) for told in stories for exchange in told.exchanges for panel in exchange.panels]


def test_same_seed_same_story() -> None:
    assert [story(random.Random(seed), "train") for seed in range(40)] == [
        story(random.Random(seed), "train") for seed in range(40)
    ]
    assert story(random.Random(1), "train") != story(random.Random(2), "train")


def test_text_names_just_what_the_picture_shows(train: list[Story]) -> None:
    for _, panel in panels(train):
        scene, said = panel.scene, words(panel.text)
        assert said & {*SPECIES} == {actor.species for actor in scene.characters}, panel
        assert said & {*PLACES} == {scene.place}, panel
        assert said & {*PROPS} == ({scene.prop} if scene.prop else set()), panel


# A sentence about the sky is recognised by these words.
SIGNS = {
    "night": {"night", "stars", "moon", "dark"},
    "sunset": {"sunset", "evening", "sets", "sinking", "golden", "gold", "down"},
    "rain": {"rain", "rains", "raining", "raindrops", "rainy"},
    "snow": {"snow", "snows", "snowing", "snowy", "snowflakes"},
}


def test_text_tells_the_sky_and_no_other(train: list[Story]) -> None:
    for _, panel in panels(train):
        said = words(panel.text)
        for sky, signs in SIGNS.items():
            if sky in (panel.scene.light, panel.scene.weather):
                assert said & signs, (sky, panel)
            elif sky != "sunset":  # "down" and "gold" have other uses
                assert not said & (signs - {"dark"}), (sky, panel)


def test_texts_are_well_formed(train: list[Story]) -> None:
    for _, panel in panels(train):
        text, scene_species = panel.text, panel.scene.characters[0].species
        assert text[0].isupper() or text[0] == '"', text
        assert text[-1] in '.!?"', text
        assert not re.search(r"[{}|\[\]]|  |\.\.| \.| ,", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text, re.IGNORECASE), text
        assert not re.search(r"[.!?] [a-z]", text), text
        if len(panel.scene.characters) == 1:
            assert not re.search(
                r"\b([Ii]t|[Tt]he " + scene_species + r") (are|have|go|do|walk|sit|live|find)\b", text
            ), text
        else:
            assert not re.search(r"\b[Tt]hey (is|has|goes|does|walks|sits|lives|finds)\b", text), text


def test_looks_stay_unmentioned_until_someone_mentions_them(train: list[Story]) -> None:
    for told in train:
        said: set[str] = set()
        for exchange in told.exchanges:
            said |= words(exchange.message) & {*LOOKS}
            for panel in exchange.panels:
                assert panel.caption == caption(panel.scene, looks=panel.named)
                coloured = {panel.scene.characters[index].look for index in panel.named}
                assert coloured <= said
                assert words(panel.text) & {*LOOKS} <= (coloured if panel.task == "change" else set())
                if panel.task == "change":
                    assert words(panel.text) & {*LOOKS}


def test_looks_last_and_named_ones_stay_named(train: list[Story]) -> None:
    for told in train:
        looks: dict[str, str] = {}
        named: set[str] = set()
        for exchange in told.exchanges:
            if exchange.user_scene:
                actor = exchange.user_scene.characters[0]
                looks.setdefault(actor.species, actor.look)
            for panel in exchange.panels:
                changed = 0
                for index, actor in enumerate(panel.scene.characters):
                    before = looks.setdefault(actor.species, actor.look)
                    changed += before != actor.look
                    looks[actor.species] = actor.look
                    if actor.species in named:
                        assert index in panel.named
                    named |= {actor.species} if index in panel.named else set()
                assert changed == (panel.task == "change")


def test_tasks(train: list[Story]) -> None:
    counts: dict[str, int] = {}
    for told in train:
        seen: set[str] = set()
        for exchange in told.exchanges:
            if exchange.user_scene:
                seen |= {exchange.user_scene.characters[0].species}
            for panel in exchange.panels:
                species = {actor.species for actor in panel.scene.characters}
                counts[panel.task] = counts.get(panel.task, 0) + 1
                if panel.task == "none":
                    assert not seen
                elif panel.task == "same":
                    assert len(species) == 1 and species <= seen
                elif panel.task == "other":
                    assert len(species) == 1 and not species & seen
                elif panel.task == "join":
                    assert len(species) == 2
                seen |= species
    total = sum(counts.values())
    assert set(counts) == {"none", "same", "other", "change", "join"}
    assert all(count > 0.03 * total for count in counts.values()), counts


def test_number_of_pictures_is_the_one_asked_for(train: list[Story]) -> None:
    several = 0
    for told in train:
        for exchange in told.exchanges:
            count = len(exchange.panels)
            if count > 1:
                several += 1
                assert any(re.search(rf"\b{word}\b", exchange.message.lower()) for word in requests.COUNTS[count]), (
                    exchange
                )
    assert several > STORIES / 20


def test_training_knows_numbers_and_praise_that_wish_no_pictures() -> None:
    def praised(split: str) -> list[str]:
        rng = random.Random(11)
        told = [story(rng, split, exchanges=1) for _ in range(800)]
        single = [found.exchanges[0].message for found in told if len(found.exchanges[0].panels) == 1]
        return [message for message in single if words(message) & set(requests.PRAISE) and re.search(r"\d", message)]

    assert len(praised("train")) > 5 and not praised("test")


def test_training_wishes_several_pictures_often_and_in_frames_of_its_own() -> None:
    def wishes(split: str) -> tuple[float, str]:
        rng = random.Random(12)
        told = [exchange for _ in range(500) for exchange in story(rng, split).exchanges]
        several = [exchange.message for exchange in told if len(exchange.panels) > 1]
        return len(several) / len(told), "\n".join(several).lower()

    (share, said), (usual, held_out) = wishes("train"), wishes("test")
    assert share > 2 * usual > 0
    framed = [lead for lead in requests.TELL_LEADS + requests.CONTINUE_LEADS if lead.lower() in said]
    assert len(framed) > 30 and not [lead for lead in framed if f"{lead.lower()} in " in held_out]
    for templates in (requests.TELL_IN, requests.CONTINUE_IN):
        for split in ("validation", "test"):
            (frame,) = choose.allowed(templates, split)
            assert not re.search(rf"\b{frame.split(' {')[0].lower()} (in|with|over) ", said), frame


def test_training_never_sees_a_held_out_composition(train: list[Story]) -> None:
    for _, panel in panels(train):
        for actor in panel.scene.characters:
            assert composition_split(actor.species, panel.scene.place, panel.scene.prop) == "train"
    rng = random.Random(0)
    for split in ("validation", "test"):
        for _ in range(100):
            scene = story(rng, split).exchanges[0].panels[0].scene
            parts = {composition_split(actor.species, scene.place, scene.prop) for actor in scene.characters}
            assert split in parts
    compositions = [composition_split(s, p, o) for s in SPECIES for p in PLACES for o in (*PROPS, None)]
    assert 0.85 < compositions.count("train") / len(compositions) < 0.95
    assert {"validation", "test"} <= set(compositions)


def test_held_out_wordings_are_never_in_training(train: list[Story]) -> None:
    messages = {exchange.message.lower().strip(" .!?") for told in train for exchange in told.exchanges}
    for items in (requests.ANY_STORY, requests.CONTINUE):
        for split in ("validation", "test"):
            held = choose.allowed(items, split)
            assert held and not set(held) & set(choose.allowed(items, "train"))
            assert not {item.lower().strip(" .!?") for item in held if "{" not in item} & messages


def test_what_happens_next_is_frequent(train: list[Story]) -> None:
    later = [exchange.message for told in train for exchange in told.exchanges[1:]]
    assert later.count("What happens next?") > 0.15 * len(later)


def test_openings_are_many(train: list[Story]) -> None:
    first = {told.exchanges[0].message for told in train}
    assert len(first) > 0.9 * STORIES


def test_every_list_of_wordings_can_be_divided() -> None:
    for module in (openings, people, places, props, requests, telling):
        for name, items in vars(module).items():
            if name.isupper() and isinstance(items, tuple) and len(items) >= choose.SMALLEST_DIVIDED:
                parts = [choose.allowed(items, split) for split in choose.SPLITS]
                assert all(parts), name
                assert sum(map(len, parts)) == len(items), name
                assert len(set(map(str, items))) == len(items), f"{name} has a wording twice"


def test_templates_have_known_slots_only() -> None:
    known = {
        "species",
        "hero",
        "a_hero",
        "it",
        "its",
        "them",
        "place",
        "the_place",
        "prop",
        "a_prop",
        "sky",
        "act",
        "friend",
        "a_friend",
        "look",
    }
    for plain, rich in paragraphs._MAIN.values():
        for template in (*plain, *rich):
            assert choose.slot_names(template) <= known, template
    assert {*props.PROP_ACTIONS} == {*PROPS} and {*places.PLACE_DETAILS} == {*PLACES}
    assert {*places.SKY} == {(light, weather) for light in LIGHTS for weather in WEATHERS}
    assert {*people.SPECIES_SYNONYMS} == {*SPECIES} and {*people.PLACE_VARIANTS} == {*PLACES}


def test_fill_and_pick() -> None:
    assert (
        choose.fill("{hero} [walks|walk] on. [it|they] [is|are] {mood}", {"hero": "the owl", "mood": "glad"})
        == "The owl walks on. It is glad"
    )
    assert choose.fill("[it|they] [is|are]", {}, plural=True) == "They are"
    rng = random.Random(0)
    assert choose.pick_fitting(rng, ("{a}", "{b}", "c"), "train", {"b": "x"}) in ("{b}", "c")
    with pytest.raises(ValueError, match="slots"):
        choose.pick_fitting(rng, ("{a}",), "train", {})


def test_moves_keep_what_they_do_not_change() -> None:
    rng = random.Random(1)
    stage = plot.with_looks(rng, plot.Stage("fox", ("fox",), "kite", "beach", "night", "rain"))
    gone = plot.move(rng, stage, "find", prop="drum")
    assert gone is not None and (gone.prop, gone.place, gone.light, gone.weather, gone.looks) == (
        "drum",
        "beach",
        "night",
        "rain",
        stage.looks,
    )
    away = plot.moved(rng, "test", stage, "elsewhere", species="owl")
    assert away is not None and away.actors == ("owl",) and away.place != "beach"
    back = plot.move(rng, away, "return")
    assert back is not None and (back.actors, back.place, back.prop) == (("fox",), "beach", "kite")
    assert plot.move(rng, stage, "part") is None
    with pytest.raises(ValueError, match="unknown move"):
        plot.move(rng, stage, "fly")


def test_bad_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        story(random.Random(0), "dev")  # type: ignore[arg-type]


def test_to_conversation() -> None:
    pytest.importorskip("torch")
    rng = random.Random(3)
    for _ in range(60):
        told = story(rng, "train", exchanges=3)
        whole = to_conversation(told, system="Be kind.")
        assert whole.turns[0].role == "system" and len(whole.turns) == 7
        captions = [whole.at(slot).caption for slot in whole.open_slots()]
        assert captions == [panel.caption for exchange in told.exchanges for panel in exchange.panels]
        asked = to_conversation(told, 1)
        assert [turn.role for turn in asked.turns] == ["user", "assistant", "user"]
        late = to_conversation(told, start=1)
        assert len(late.turns) == 4
        shown = sum(exchange.user_scene is not None for exchange in told.exchanges)
        assert len(whole.user_pictures()) == shown
