"""ComfyUI's own vision-language models see pictures as the engine shows them to them."""

from __future__ import annotations

from typing import Any

import pytest

from runs import inside

pytestmark = pytest.mark.comfy

MAKES = ("Qwen2.5-VL", "Qwen3-VL", "Qwen3.5", "Gemma3", "Gemma4", "Gemma4-12B")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The results of all families, from one process."""
    return inside("clip_sight", *MAKES)


@pytest.mark.parametrize("make", MAKES)
def test_a_stock_model_sees_two_pictures_in_one_conversation(found: dict[str, Any], make: str) -> None:
    made = found[make]
    assert made["sees"] == "natively"
    assert len(made["sizes"]) == 2 and min(made["sizes"]) > 0
    assert made["places"] == sum(made["sizes"]), "what people write is no picture"


@pytest.mark.parametrize("make", MAKES)
def test_a_swapped_picture_changes_the_reply(found: dict[str, Any], make: str) -> None:
    made = found[make]
    one, again, swapped = made["replies"]
    assert one == again != swapped and min(made["moved"]) > 1e-3
    assert made["cramped"] == one and made["held"] == 1, "whatever is remembered"
    assert made["slot"] > 1e-3, "and what it knows of the next picture"


@pytest.mark.parametrize("make", ["Qwen3-VL", "Gemma3", "Gemma4", "Gemma4-12B"])
def test_a_stock_model_says_of_pictures_what_the_engine_generates(found: dict[str, Any], make: str) -> None:
    assert found[make]["written"] == found[make]["generated"]


@pytest.mark.parametrize("make", ["Qwen2.5-VL", "Qwen3-VL", "Qwen3.5", "Gemma3"])
def test_a_stock_model_reads_pictures_as_the_engine_encodes_them(found: dict[str, Any], make: str) -> None:
    assert found[make]["read"] < 1e-4


@pytest.mark.parametrize("make", MAKES)
def test_a_picture_of_any_shape_is_seen(found: dict[str, Any], make: str) -> None:
    assert all(0 < size <= 2000 for size in found[make]["odd"])


@pytest.mark.parametrize("make", MAKES)
def test_a_file_without_a_vision_tower_does_not_see(found: dict[str, Any], make: str) -> None:
    assert found[make]["blind"] == "not at all"
    assert found[make]["refusal"] == (
        "Language Model from CLIP: own_pictures is on, but this language model does not see pictures by itself: "
        "switch it off, or load a vision-language model such as Qwen3-VL."
    )
    assert found[make]["words"], "words alone are read as by a model that does not see"
    assert found[make]["left"] == 0, "what was seen is forgotten when the weights leave the device"
