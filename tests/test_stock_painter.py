"""Stock Painter: it paints what the stock graph paints, in whatever tells the story."""

from __future__ import annotations

from typing import Any

import pytest

import toys
from runs import inside

pytestmark = [pytest.mark.comfy, pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """Stories, turns and sheets by Stock Painter, and by the starter's painter."""
    return inside("painter_told")


def test_stock_painter_paints_what_the_stock_graph_paints_with_every_family() -> None:
    found = inside("painter_families")
    assert len(found) >= 14 and "starter" in found
    assert set(found.values()) == {0.0}, found


def test_stock_painter_follows_the_stock_graph_in_every_setting() -> None:
    found = inside("painter_settings")
    size, shape = found.pop("size")
    assert size == 0 and shape == [120, 96, 3]
    assert {name: apart for name, (apart, _) in found.items()} == dict.fromkeys(found, 0.0)
    assert min(moved for _, moved in found.values()) > 0.1, "a setting without effect would have passed"
    assert {"lora", "control", "denoise", "negative", "ancestral", "picture"} <= set(found)


def test_stories_turns_and_sheets_of_a_stock_painter_are_the_stock_graphs(told: dict[str, Any]) -> None:
    assert told["story"] == [0.0, 0.0] and told["sheet"] == [0.0] * 4 and all(told["alike"])
    apart, versions = told["turn"]
    assert apart == 0 and versions == 3, "what was there, and two variants"


def test_the_starter_on_two_wires_is_the_starter_on_four(told: dict[str, Any]) -> None:
    same, words_alike, pictures = told["two wires"]
    assert same and pictures == 2 and told["starter sheet"]
    assert words_alike, "the words are the same for every painter"


def test_the_next_picture_is_what_the_story_would_paint(told: dict[str, Any]) -> None:
    assert told["next"] == [True, True, True, [1, 128, 128, 3], 1, [1.0], "1", 0, False, 1]
    # The first picture of all has a grey one of weight 0 to look at, so that what is connected runs all the same.
    assert told["first"] == ["a fox \\(red\\), ink", 3, [1, 64, 64, 3], [0.0], False]


def test_a_loop_that_carries_a_conversation_ends_when_every_picture_is_painted() -> None:
    found = inside("painter_loop")
    captions, _, shown, left, count = (list(each) for each in zip(*found["rounds"], strict=True))
    assert captions == ["a fox", "an owl", "a bear"] and left == [True, True, False] and count == [3, 2, 1]
    assert shown == pytest.approx([0.5, 0.25, 0.375]), "nothing; the first; the first and the last"
    assert found["alike"] and found["open"] == 0 and found["seeds"]
    assert toys.one_sentence(found["after"])


def test_references_are_the_stock_graphs_with_the_gate_of_the_story() -> None:
    found = inside("painter_references")
    assert [apart for apart, _ in found.values()] == [0.0] * 6, found
    shut, half, whole = (found[f"latents {gate}"][1] for gate in (0.0, 0.5, 1.0))
    assert shut == 0 < half and whole > 0, "a shut gate is the graph without references, to the bit"
    assert found["m3"][1] > 0.1 and found["ip-adapter 0.7"][1] > 0.01 and found["ip-adapter 0.0"][1] == 0


def test_text_encoders_of_edit_models_see_references_as_in_the_stock_graphs() -> None:
    found = inside("painter_sight")
    assert found.pop("takes pictures") == [False, True, False]
    assert {each.split("_")[0] for each in found} == {"qwen", "longcat", "boogu", "mage", "joyimage", "z"}
    for name, (*apart, moved) in found.items():
        # At gate 0, 0.5 and 1, and with references of weight 0, as the graph without references.
        assert apart == [0.0] * 4 and moved > 0.01, name


def test_the_models_of_a_story_make_room_for_one_another_once() -> None:
    found = inside("painter_ahead")
    # How far from pictures whose captions are encoded one by one; switches from CLIP to MODEL or back; encodes of the
    # user's picture before anything is painted; what is still kept afterwards.
    assert found["words"] == [0.0, 1, 0, 0]
    assert found["latents"] == [0.0, 1, 1, 0] and found["adaptive"] == [0.0, 1, 1, 0]
    # What was painted stays when the next picture does not come.
    assert found["stopped"] == 2 and found["stopped while it reads"] == 2
    painted, said = found["full"]
    assert painted == 2 and said.startswith("A picture does not fit in memory")


def test_what_a_painter_lacks_is_said_in_one_sentence(told: dict[str, Any]) -> None:
    words = (
        "Take Turn: decoder paints what an M3-Adapter makes of the words: connect adapter and vision_encoder",
        "Take Turn: The user shows pictures, but nothing encodes them: connect vision_encoder",
        "Gate Sweep: A painter paints a picture of a conversation: connect conversation",
        "Gate Sweep: decoder paints what an M3-Adapter makes: connect adapter too",
        "Gate Sweep: This painter asks the language model what a picture is about: connect language_model",
        "Encode Text: decoder is a stock model of the kind SDXL, by euler, a painter for Tell Story",
        "Take Turn: A picture of 4 x 128 pixels is too small",
    )
    for said, begins in zip(told["refusals"], words, strict=True):
        assert said.startswith(begins) and toys.one_sentence(said), said


def test_parts_that_do_not_fit_are_refused_before_anything_is_written() -> None:
    found = inside("painter_misfits")
    assert found.pop("references of twelve") == "8"
    words = {
        "inpainting": "model is for inpainting",
        "video": "model is a video model",
        "clip": "and the model reads 12: connect the CLIP of the model",
        "clip of another": "clip makes embeddings of width 12",
        "vae": "vae makes latents of 16 channels",
        "no vae": "vae is None",
        "no clip": "clip is None",
        "pictures": "image holds 2 pictures",
        "ip-adapter alone": "connect ip_adapter too",
        "adapter alone": "connect vision_encoder too",
        "adapter of another": "M3-Adapters are for SDXL models",
        "references of SDXL": "use Apply IP-Adapter",
        "references": "choose none or reference latents",
        "sampler": "sampler_name is",
        "tiny": "A picture of 1 x 1 pixels cannot be a reference",
        "narrow": "A picture of 8000 x 10 pixels cannot be a reference",
    }
    assert found.keys() == words.keys()
    for name, said in found.items():
        assert words[name] in said and toys.one_sentence(said), (name, said)
