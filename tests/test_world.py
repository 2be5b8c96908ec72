"""The storybook world: what is drawn, how it is captioned, and which references a story's picture has."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from m3adapter.storybook import render as drawing
from m3adapter.storybook.dataset import Sample, aside, samples
from m3adapter.storybook.render import LOOK_COLOURS, SIZE, render
from m3adapter.storybook.stories import SPLITS, Story, story, to_conversation
from m3adapter.storybook.world import (
    CAPTION_STYLES,
    LIGHTS,
    LOOKS,
    PLACES,
    PROPS,
    SPECIES,
    WEATHERS,
    Character,
    Scene,
    article,
    bare,
    caption,
    captioned,
    random_scene,
)

FOX, OWL = Character("fox", "blue"), Character("owl", "red")
ALONE = Scene((FOX,), "kite", "forest", "night", "snow")
PAIR = Scene((FOX, OWL), "umbrella", "meadow")
STORIES = 200


# Drawing


def test_the_same_scene_and_seed_the_same_picture() -> None:
    rng = random.Random(1)
    for _ in range(10):
        scene, seed = random_scene(rng), rng.randrange(2**31)
        picture = render(scene, seed)
        assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, render(scene, seed))
    assert len({render(ALONE, seed).tobytes() for seed in range(12)}) == 2, "seeds choose the side"


def test_a_figure_is_the_same_pattern_of_cells_on_both_sides() -> None:
    cells = []
    for seed in range(12):
        figures = drawing.render_with_figures(replace(ALONE, prop=None), seed)[1]
        left = int(np.flatnonzero(figures.any(0))[0]) // drawing.CELL
        covered = figures[:, drawing.CELL * left :][:, :64]
        assert covered.sum() == figures.sum()
        cells.append((left, covered.tobytes()))
    assert len({left for left, _ in cells}) == 2 and len({covered for _, covered in cells}) == 1


def test_global_chance_has_no_part_in_a_picture() -> None:
    random.seed(1)
    state = random.getstate()
    first = render(ALONE, 3)
    assert random.getstate() == state
    random.seed(2)
    assert np.array_equal(render(ALONE, 3), first)


def test_everything_that_exists_can_be_drawn() -> None:
    scenery = {name for things in drawing.SCENERY.values() for name, *_ in things}
    for name in {*SPECIES, *PROPS, *scenery}:
        assert np.asarray(drawing.sprite(name, 40))[..., 3].max() == 255, name
    assert drawing.SCENERY.keys() == drawing.GROUNDS.keys() == {*PLACES}
    assert drawing.SKIES.keys() == drawing.LIGHT_TINTS.keys() == {*LIGHTS}
    assert LOOK_COLOURS.keys() == {*LOOKS}


def test_every_species_and_every_prop_shows() -> None:
    pictures = {}
    for name in SPECIES:
        pictures[name] = render(Scene((Character(name, "blue"),), None, "camp"), 4)
    for name in PROPS:
        pictures[name] = render(Scene((FOX,), name, "camp"), 4)
    assert len({picture.tobytes() for picture in pictures.values()}) == len(SPECIES) + len(PROPS)
    plain = pictures["fox"].astype(int)
    for name in PROPS:
        assert (np.abs(pictures[name] - plain).max(-1) > 24).sum() > 100, f"no {name} to be seen"


def test_all_places_lights_and_weathers_are_distinguishable() -> None:
    for variations in (
        [Scene((FOX,), None, place) for place in PLACES],
        [Scene((FOX,), None, "beach", light, weather) for light, weather in product(LIGHTS, WEATHERS)],
    ):
        pictures = [render(scene, 4).astype(int) for scene in variations]
        for index, one in enumerate(pictures):
            for other in pictures[:index]:
                assert (np.abs(one - other).max(-1) > 24).sum() > 100


def test_a_pair_stands_left_and_right() -> None:
    one, other = render(PAIR, 4).astype(int), render(Scene((OWL, FOX), "umbrella", "meadow"), 4).astype(int)
    mask = np.abs(one - other).max(-1) > 24
    assert mask[:, : SIZE // 2].sum() > 200 and mask[:, SIZE // 2 :].sum() > 200
    recoloured = render(Scene((Character("fox", "green"), OWL), "umbrella", "meadow"), 4).astype(int)
    changed = np.abs(one - recoloured).max(-1) > 24
    assert changed[:, : SIZE // 2].sum() > 200 and changed[:, SIZE // 2 :].sum() == 0, "the first is on the left"


def test_a_look_is_the_colour_of_the_character_and_of_nothing_else() -> None:
    base = render(ALONE, 4).astype(int)
    for look in LOOKS:
        other = render(replace(ALONE, characters=(Character("fox", look),)), 4)
        changed = np.abs(base - other.astype(int)).max(-1) > 0
        assert changed.sum() < 64 * 64, "more than the sprite changed"
        assert changed.any() == (look != "blue")


@pytest.mark.parametrize("species", SPECIES)
def test_looks_are_distinguishable_on_every_species(species: str) -> None:
    """The mean colour of a recoloured sprite is nearest to its own look's, and dark lines stay dark."""
    middles = {}
    original = Image.open(drawing.SPRITES / f"{species}.png").convert("RGBA")
    for look in LOOKS:
        pixels = np.asarray(drawing.recolour(original, LOOK_COLOURS[look]), dtype=float)
        middles[look] = np.median(pixels[pixels[..., 3] > 128][:, :3], axis=0)
    for look in LOOKS:
        distances = {name: np.linalg.norm(middles[look] - np.array(colour)) for name, colour in LOOK_COLOURS.items()}
        assert min(distances, key=distances.get) == look
    light = np.asarray(original, dtype=float)[..., :3] @ (0.30, 0.59, 0.11)
    solid = np.asarray(original)[..., 3] > 128
    blue = np.asarray(drawing.recolour(original, LOOK_COLOURS["blue"]), dtype=float)[..., :3].sum(-1)
    assert np.corrcoef(light[solid], blue[solid])[0, 1] > 0.8


# Captions


def test_the_canonical_caption() -> None:
    assert caption(ALONE) == "a fox with a kite in the forest at night in the snow"
    assert caption(PAIR) == "a fox and an owl with an umbrella on the meadow"
    assert caption(Scene((OWL,), None, "volcano", "sunset", "rain")) == "an owl by the volcano at sunset in the rain"


def test_a_caption_that_names_looks() -> None:
    assert caption(PAIR, looks=(0,)) == "a blue fox and an owl with an umbrella on the meadow"
    assert caption(PAIR, looks=(0, 1)) == "a blue fox and a red owl with an umbrella on the meadow"
    orange = Scene((Character("fox", "orange"),), None, "camp")
    assert caption(orange, looks=[0]) == "an orange fox at the camp"


def test_looks_named_aside() -> None:
    plain = caption(PAIR)
    assert caption(PAIR, asides=(1,)) == f"{plain}, the owl is red"
    assert caption(PAIR, asides=(1, 0)) == f"{plain}, the fox is blue and the owl is red"
    mixed = caption(PAIR, looks=(0,), asides=(1,))
    assert mixed == caption(PAIR, looks=(0,)) + ", the owl is red"


@pytest.mark.parametrize("style", range(len(CAPTION_STYLES)))
def test_every_style_tells_everything(style: int) -> None:
    rng = random.Random(style)
    for _ in range(40):
        scene = random_scene(rng)
        looks = [index for index in range(len(scene.characters)) if rng.random() < 0.5]
        text = caption(scene, **{rng.choice(("looks", "asides")): looks}, style=style)
        said = set(re.findall(r"[a-z]+", text))
        assert said & {*SPECIES} == {actor.species for actor in scene.characters}
        assert said & {*LOOKS} == {scene.characters[index].look for index in looks}
        assert said & {*PLACES} == {scene.place}
        assert said & {*PROPS} == ({scene.prop} if scene.prop else set())
        assert said & {"sunset", "night"} == {scene.light} - {"day"}
        assert said & {"rain", "snow"} == {scene.weather} - {"clear"}
        assert "  " not in text and " ," not in text and text == text.strip() and "{" not in text


def test_article() -> None:
    assert [article(noun) for noun in ("owl", "fox", "elephant", "orange fox", "umbrella")] == [
        "an owl", "a fox", "an elephant", "an orange fox", "an umbrella",
    ]  # fmt: skip


def test_names_are_never_parts_of_two_lists() -> None:
    names = [*SPECIES, *LOOKS, *PLACES, *PROPS, *LIGHTS, *WEATHERS]
    assert len(names) == len(set(names))


# Samples of stories


def told(split: str) -> list[Story]:
    rng = random.Random(f"a test of {split}")
    return [story(rng, split) for _ in range(STORIES)]


@pytest.fixture(scope="module", params=SPLITS)
def stories(request: pytest.FixtureRequest) -> list[tuple[Story, list[Sample]]]:
    return [(one, samples(one)) for one in told(request.param)]


def test_every_picture_of_a_story_is_a_sample(stories: list[tuple[Story, list[Sample]]]) -> None:
    for one, found in stories:
        panels = [panel for exchange in one.exchanges for panel in exchange.panels]
        assert [(s.scene, s.caption, s.task, s.named) for s in found] == [
            (panel.scene, panel.caption, panel.task, tuple(panel.named)) for panel in panels
        ]
        for sample in found:
            assert sample.caption == caption(sample.scene, looks=sample.named)
            assert sample.conversation.at(sample.slot).caption == sample.caption
            assert sample.conversation.turns[-1].role == "assistant"
            assert sample.slot.turn == len(sample.conversation.turns) - 1


def test_references_are_those_of_the_conversation(stories: list[tuple[Story, list[Sample]]]) -> None:
    for one, found in stories:
        scenes: list[Scene] = []

        def paint(scene: Scene, scenes: list[Scene] = scenes) -> torch.Tensor:
            scenes.append(scene)  # the number of a picture is all that it shows
            return torch.full((1, 1, 3), len(scenes) / 256)

        whole = to_conversation(one, paint=paint)
        for sample in found:
            numbers = [round(float(image[0, 0, 0]) * 256) - 1 for image in whole.references(sample.slot)]
            assert tuple(scenes[number] for number in numbers) == sample.references
            users = [round(float(image[0, 0, 0]) * 256) - 1 for image in whole.user_pictures(before=sample.slot)]
            assert tuple(scenes[number] for number in users) == sample.user_scenes


def test_what_is_known_of_a_look(stories: list[tuple[Story, list[Sample]]]) -> None:
    known = 0
    for _, found in stories:
        for sample in found:
            for index, actor in enumerate(sample.scene.characters):
                looks = [
                    other.look
                    for scene in sample.references
                    for other in scene.characters
                    if other.species == actor.species
                ]
                shown = sample.shown(index)
                assert (shown and shown.look) == (looks[0] if looks else None)
                assert (index in sample.known) == (bool(looks) and index not in sample.named)
                if index in sample.known:
                    known += 1
                    assert shown is not None and shown.look == actor.look, "the story itself keeps the look"
            assert not {*sample.known} & {*sample.named}
    assert known > STORIES


def test_the_tasks_are_what_they_are_called(stories: list[tuple[Story, list[Sample]]]) -> None:
    counts = dict.fromkeys(("none", "same", "other", "change", "join"), 0)
    for _, found in stories:
        assert found[0].task in ("none", "same", "join") or found[0].references, found[0]
        for sample in found:
            counts[sample.task] += 1
            if sample.task == "same":
                assert len(sample.scene.characters) == 1 and sample.references
            if sample.task == "change":
                assert sample.named
            if sample.task == "join":
                assert len(sample.scene.characters) == 2
    assert min(counts.values()) > 0, counts


def test_the_caption_with_what_only_references_tell(stories: list[tuple[Story, list[Sample]]]) -> None:
    for _, found in stories:
        for sample in found:
            shown = {sample.shown(index) for index in sample.known}
            actors = tuple(
                next((a for a in shown if a.species == actor.species), actor) for actor in sample.scene.characters
            )
            scene = replace(sample.scene, characters=actors)
            assert aside(sample) == caption(scene, looks=sample.named, asides=sample.known)


def test_a_look_in_place_of_an_article_moves_no_word() -> None:
    scene = Scene((Character("owl", "red"), Character("fox", "blue")), "kite", "forest", "night")
    plain = "an owl and a fox with a kite in the forest at night"
    assert bare(plain, scene, [1]) == "an owl and blue fox with a kite in the forest at night"
    assert bare(plain, scene, [0, 1]) == "red owl and blue fox with a kite in the forest at night"
    assert bare("a red owl and a fox in the forest", scene, [0]) == "red owl and a fox in the forest"
    assert bare(plain, scene, []) == plain
    rng, kinds = random.Random(4), Counter()
    for _ in range(3000):
        scene, text = captioned(rng)
        told = [bool(re.search(rf"\b{actor.look} {actor.species}\b", text)) for actor in scene.characters]
        behind = [f"the {actor.species} is {actor.look}" in text for actor in scene.characters]
        assert not any(one and other for one, other in zip(told, behind, strict=True))
        if len(scene.characters) == 2:
            kinds[sum(told) + sum(behind)] += 1
            kinds["behind"] += sum(behind)
            kinds["bare"] += bool(sum(told)) and not re.search(rf"\ba ({'|'.join(LOOKS)}) ", text.replace("an ", "a "))
    pairs = kinds[0] + kinds[1] + kinds[2]
    assert kinds[1] > 0.4 * pairs and kinds[0] > 0.1 * pairs and kinds[2] > 0.25 * pairs, kinds
    assert kinds["behind"] > 0.2 * pairs and kinds["bare"] > 0.2 * pairs, kinds
