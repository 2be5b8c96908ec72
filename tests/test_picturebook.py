"""The picture book: what is drawn, its alignment to the latents' grid, its captions, what is held out."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from m3adapter.picturebook import render as drawing
from m3adapter.picturebook import sprites, words
from m3adapter.picturebook.captions import captioned, draw_names, draw_said
from m3adapter.picturebook.labels import ACTOR_FIELDS, UNKNOWN, labels
from m3adapter.picturebook.places import GROUNDS, SCENERY
from m3adapter.picturebook.render import layout, render, render_with_figures
from m3adapter.picturebook.sprites import CELL
from m3adapter.picturebook.words import Said, aside, caption
from m3adapter.picturebook.world import (
    ACCESSORIES,
    ACTIONS,
    LIGHTS,
    LOOKS,
    MOODS,
    PLACES,
    PROPS,
    SIDEWAYS,
    SPECIES,
    SPLITS,
    SPOTS,
    WEATHERS,
    Character,
    Scene,
    random_scene,
    splits_of,
)

FOX = Character("fox", "blue")
RABBIT = Character("rabbit", "orange", facing="right")
ALONE = Scene((FOX,), "meadow", spot="left")


def changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int)).max(-1) > 24


# Drawing


def test_the_same_scene_and_seed_the_same_picture() -> None:
    rng = random.Random(1)
    for _ in range(6):
        scene, seed = random_scene(rng), rng.randrange(2**31)
        picture, figures = render_with_figures(scene, seed)
        assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
        assert figures.shape == (256, 256) and figures.dtype == bool and figures.any()
        assert np.array_equal(picture, render(scene, seed))
    assert not np.array_equal(render(ALONE, 0), render(ALONE, 1)), "seeds choose which way round the place is"


def test_everything_that_exists_can_be_drawn() -> None:
    assert len(SPECIES) >= 24 and len(PLACES) >= 12 and len(PROPS) >= 16 and len(ACTIONS) >= 7 and len(MOODS) == 4
    assert sprites.ANCHORS.keys() == {*SPECIES} and SCENERY.keys() == GROUNDS.keys() == {*PLACES}
    names = {*SPECIES, *PROPS, *(name for things in SCENERY.values() for name, *_ in things)}
    for name in names:
        assert np.asarray(sprites.thing(name, 48))[..., 3].max() == 255, name
    pictures = [render(Scene((Character(name, "blue"),), "camp"), 0) for name in SPECIES]
    assert len({picture.tobytes() for picture in pictures}) == len(SPECIES)


@pytest.mark.parametrize(
    "scenes",
    [
        [replace(ALONE, place=place) for place in PLACES],
        [replace(ALONE, light=light, weather=weather) for light, weather in product(LIGHTS, WEATHERS)],
        [replace(ALONE, props=(name,)) for name in PROPS],
        [replace(ALONE, characters=(replace(FOX, look=look),)) for look in LOOKS],
        [replace(ALONE, characters=(replace(FOX, accessory=accessory),)) for accessory in ACCESSORIES],
        [replace(ALONE, characters=(replace(FOX, mood=mood),)) for mood in MOODS],
        [replace(ALONE, characters=(replace(FOX, action=a, held="key" if a == "holds" else None),)) for a in ACTIONS],
        [replace(ALONE, spot=spot) for spot in SPOTS],
        [replace(ALONE, characters=(replace(RABBIT, facing=facing),)) for facing in ("left", "right")],
        [replace(ALONE, characters=(replace(FOX, near=near),)) for near in (True, False)],
    ],
    ids=["place", "light and weather", "prop", "look", "accessory", "mood", "action", "spot", "facing", "near"],
)
def test_what_a_scene_says_is_seen(scenes: list[Scene]) -> None:
    for one, other in combinations([render(scene, 0) for scene in scenes], 2):
        assert changed(one, other).sum() > 100


@pytest.mark.parametrize("species", SPECIES)
def test_accessories_are_seen_on_every_species(species: str) -> None:
    for size in (drawing.LARGE, drawing.SMALL):
        bare = np.asarray(sprites.character(species, "green", "none", size, "left"))
        for accessory in ACCESSORIES[1:]:
            dressed = np.asarray(sprites.character(species, "green", accessory, size, "left"))
            assert changed(bare, dressed).mean() > 0.01, f"{accessory} on {species}"
            assert changed(bare, dressed).mean() < 0.25


@pytest.mark.parametrize("species", SPECIES)
def test_looks_are_told_apart_and_keep_dark_lines(species: str) -> None:
    original = sprites._bare(species, 96, 0)
    light = np.asarray(original, dtype=float)[..., :3] @ (0.30, 0.59, 0.11)
    solid = np.asarray(original)[..., 3] > 200
    middles = {}
    for look in LOOKS:
        pixels = np.asarray(sprites.character(species, look, "none", 96, "left"), dtype=float)[..., :3]
        middles[look] = np.median(pixels[solid], axis=0)
        assert np.corrcoef(light[solid], (pixels @ (0.30, 0.59, 0.11))[solid])[0, 1] > 0.75
    for one, other in combinations(LOOKS, 2):
        assert np.linalg.norm(middles[one] - middles[other]) > 20, f"{one} and {other}"


def test_a_sprite_moved_by_cells_is_the_same_pixels() -> None:
    """The figures alone, without what is behind them, so that only the grid can make a difference."""
    for spots in (("left", "middle"), ("middle", "right")):
        masks = []
        for spot in spots:
            scene = Scene((replace(FOX, action="runs", mood="sad"),), "beach", spot=spot)
            figures = render_with_figures(scene, 0)[1]
            left = layout(scene)[0].left
            masks.append(np.roll(figures, -left, axis=1))
        assert np.array_equal(*masks)
    rng = random.Random(4)
    for _ in range(200):
        scene = random_scene(rng)
        for box in layout(scene):
            assert box.left % CELL == box.foot % CELL == box.size % CELL == 0
            assert box.left >= 0 and box.left + box.size <= 256 and box.foot <= 256
            assert box.size in (drawing.LARGE, drawing.MIDDLE, drawing.SMALL)


def test_every_box_is_pasted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a character does, drawing it one cell further moves its pixels by one cell and changes none."""
    from PIL import Image

    def drawn(actor: Character, left: int) -> np.ndarray:
        canvas = Image.new("RGBA", (256, 256))
        box = drawing.Box(left, 224, 96)
        drawing._draw(canvas, box, actor, "forest")
        return np.asarray(canvas)

    for action in ACTIONS:
        actor = replace(RABBIT, action=action, held="kite" if action == "holds" else None)
        assert np.array_equal(np.roll(drawn(actor, 64), CELL, axis=1), drawn(actor, 64 + CELL)), action


def test_three_characters_do_not_cover_each_other() -> None:
    rng = random.Random(2)
    for _ in range(100):
        scene = random_scene(rng, characters=3)
        boxes = layout(scene)
        for one, other in zip(boxes, boxes[1:], strict=False):
            shared = one.left + one.size - other.left
            assert shared <= CELL, "boxes share at most the margins of both"
    apart = [Scene(tuple(actor if i == j else replace(FOX, look="red") for j in range(3)), "camp")
             for i in range(3) for actor in (replace(FOX, look="green"),)]  # fmt: skip
    base = render(Scene((replace(FOX, look="red"),) * 3, "camp"), 0)
    masks = [changed(render(scene, 0), base) for scene in apart]
    for one, other in combinations(masks, 2):
        assert one.sum() > 200 and not (one & other).any()


# What is held out


def test_held_out_compositions_are_held_out() -> None:
    for split in SPLITS:
        rng = random.Random(3)
        scenes = [random_scene(rng, split=split) for _ in range(600)]
        assert {*splits_of(scenes[0])} == {split} and all(splits_of(scene) == {split} for scene in scenes)
        assert {len(scene.characters) for scene in scenes} == {1, 2, 3}
        assert len({actor.species for scene in scenes for actor in scene.characters}) == len(SPECIES)


def test_held_out_wordings_are_held_out() -> None:
    for items in (*words.DOES.values(), *words.DOING.values(), words.OPENINGS, *words.MOOD_WORDS.values()):
        parts = [{*words.allowed(items, split)} for split in SPLITS]
        if len(items) >= 5:
            assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
            assert len(parts[0]) >= 3
    rng = random.Random(5)
    held = {words.OPENINGS[-1], words.OPENINGS[-2]}
    for _ in range(400):
        text = captioned(rng, random_scene(rng))
        assert not any(text.startswith(opening) for opening in held), text


# Captions


def test_the_canonical_caption() -> None:
    scene = Scene((replace(FOX, accessory="scarf", action="sleeps"),), "forest", "night", props=("key",))
    said = Said((frozenset(("look", "accessory", "action")),), frozenset(("place", "light", "props")))
    assert caption(scene, said) == "a blue fox with a scarf is sleeping in the forest at night next to a key"
    assert caption(scene, Said((frozenset(),), frozenset(("place",)))) == "a fox in the forest"
    pair = Scene((replace(FOX, action="runs"), replace(RABBIT, action="runs")), "fair", weather="rain")
    told = Said((frozenset(("action",)),) * 2, frozenset(("place", "weather")))
    assert caption(pair, told) == "a fox and a rabbit are running at the fair in the rain"
    alike = replace(pair, characters=(pair.characters[0], replace(pair.characters[0], look="red")))
    assert caption(alike, told) == "two foxes are running at the fair in the rain"
    assert aside(scene, {0: ("look", "accessory")}, "a fox") == "a fox, the fox is blue and wears a scarf"


def test_every_subset_of_facts_occurs() -> None:
    rng = random.Random(6)
    scene = Scene((replace(RABBIT, accessory="hat", action="runs", mood="sad"),), "lake", "night", "snow", ("key",))
    found = [draw_said(rng, scene) for _ in range(120_000)]
    own = {said.characters[0] & {"look", "accessory", "action", "mood"} for said in found}
    assert len(own) == 16
    whole = {said.scene & {"place", "light", "weather"} for said in found}
    assert len(whole) >= 7
    for fact in words.FACTS:
        assert 0.03 < np.mean([fact in said.characters[0] for said in found]) < 0.98, fact
    pair = replace(scene, characters=(RABBIT, FOX))
    both = {tuple("look" in told for told in draw_said(rng, pair).characters) for _ in range(200)}
    assert both == {(False, False), (False, True), (True, False), (True, True)}, "one look said, the other free"


def test_a_caption_says_what_it_is_to_say_and_nothing_else() -> None:
    rng = random.Random(7)
    for _ in range(1500):
        scene = random_scene(rng)
        said = draw_said(rng, scene)
        text = caption(scene, said, rng)
        found = set(re.findall(r"[a-z]+", text.lower()))
        looks = {
            word
            for actor, told in zip(scene.characters, said.characters, strict=True)
            if "look" in told
            for word in (actor.look, *words.LOOK_WORDS.get(actor.look, ()))
        }
        every = {*LOOKS, "gray", "violet"}
        assert (found & every) - {"red"} <= looks, text  # "with a red scarf" is a scarf's own colour
        assert bool(found & (every - {"red"})) or not looks - {"red"}, text
        held = {actor.held for actor, told in zip(scene.characters, said.characters, strict=True) if "action" in told}
        told = {*held, *(scene.props if "props" in said.scene else ())}
        assert found & {"kite", "umbrella", "guitar", "drum", "apple", "trumpet", "rocket"} <= told, text
        assert "  " not in text and "{" not in text and " ," not in text and text == text.strip()
        names = {name for actor in scene.characters for name in (actor.species, *words.SYNONYMS.get(actor.species, ()))}
        names |= {words._plural(name) for name in names}
        assert any(name in text for name in names), text


def test_a_part_of_the_captions_gives_names_in_every_form() -> None:
    rng, found = random.Random(9), []
    for _ in range(3000):
        scene = random_scene(rng)
        text = captioned(rng, scene)
        names = re.findall(r"(?<!^)(?<!\. )\b[A-Z]\w+|^[A-Z]\w+(?= the | is |, )", text)
        found += [text] * bool(names)
    assert 0.1 < len(found) / 3000 < 0.3
    for form in (
        r"^[A-Z]\w+ the \w+,.*, ",
        r"\bnamed [A-Z]",
        r"\bcalled [A-Z]",
        r"[A-Z]\w+ is ",
        r"^[A-Z]\w+ the .* and [A-Z]",
    ):
        assert any(re.search(form, text) for text in found), form
    drawn = [draw_names(rng, replace(ALONE, characters=(FOX, FOX, RABBIT))) for _ in range(300)]
    assert all(len({*filter(None, names)}) == sum(map(bool, names)) for names in drawn), "nobody shares a name"


def test_the_end_of_many_captions_of_pairs_tells_one_look_and_leaves_the_other_free() -> None:
    rng, free = random.Random(10), 0
    for _ in range(2000):
        scene = random_scene(rng, characters=2)
        one, other = scene.characters
        text = captioned(rng, scene)
        told = [f"the {actor.species} is {actor.look}" in text for actor in (one, other)]
        says = {*re.findall("[a-z]+", text)} & {*LOOKS}
        free += sum(told) == 1 and len(says) == 1
    assert free > 200
    pair = replace(ALONE, characters=(FOX, replace(FOX, look="red", accessory="hat")))
    known = {1: ("look", "accessory")}
    assert aside(pair, known, "two foxes") == "two foxes, the second fox is red and wears a hat"
    named = aside(pair, {0: ("look",), **known}, "x", names=("Milo", ""))
    assert named == "x, Milo is blue and the second fox is red and wears a hat"
    assert aside(replace(ALONE, characters=(FOX,)), {0: ("look",)}, "x", names=("Milo",)) == "x, the fox is blue"
    assert aside(pair, {0: ()}, "two foxes") == "two foxes"


def test_captions_come_in_many_forms_and_fit() -> None:
    rng = random.Random(8)
    texts = [captioned(rng, random_scene(rng)) for _ in range(1500)]
    assert len({*texts}) > 1450
    assert max(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts) <= words.LONGEST
    for form in (
        r"^[a-z ]+, [a-z, ]+$",
        r"^(in|on|at|by) .*, ",
        r"^(?!a |an |the )[a-z]+ ",
        r", the \w+ is ",
        r"foxes|rabbits|mice",
    ):
        assert any(re.search(form, text) for text in texts), form


# Labels


def test_labels_are_the_scenes() -> None:
    actor = replace(RABBIT, accessory="hat", action="holds", held="key", mood="happy", near=False)
    scene = Scene((actor, replace(FOX, action="sleeps")), "lake", "night", "snow", ("ball",))
    truth = labels([scene, Scene((FOX, replace(FOX, look="red")), "fair")])
    column = SPECIES.index("rabbit")
    values = {name: int(truth[name][0, column]) for name in ACTOR_FIELDS}
    assert values == {
        "look": LOOKS.index("orange"), "accessory": ACCESSORIES.index("hat"), "action": ACTIONS.index("holds"),
        "mood": MOODS.index("happy"), "facing": 1, "near": 0, "count": 0,
    }  # fmt: skip
    fox = SPECIES.index("fox")
    assert truth["accessory"][0, fox] == UNKNOWN, "nobody sees a scarf under a blanket"
    assert truth["facing"][0, fox] == UNKNOWN and "fox" not in SIDEWAYS
    assert truth["look"][1, fox] == UNKNOWN and truth["count"][1, fox] == 1
    assert (truth["look"][0] == len(LOOKS)).sum() == len(SPECIES) - 2
    assert {PROPS[i] for i in truth["props"][0].nonzero().flatten().tolist()} == {"key", "ball"}
    assert PLACES[truth["place"][0]] == "lake" and LIGHTS[truth["light"][0]] == "night"


def test_a_prop_belongs_to_its_holder_alone() -> None:
    for action, held in (("holds", None), ("runs", "key")):
        with pytest.raises(ValueError, match="in its hands"):
            Character("fox", "blue", action=action, held=held)
