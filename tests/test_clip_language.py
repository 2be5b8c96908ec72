"""ComfyUI's own text encoders as language models: they write and read what the engine does with the same tokens."""

from __future__ import annotations

from typing import Any

import pytest

from runs import inside

pytestmark = pytest.mark.comfy

MAKES = ("Qwen3", "Qwen3.5", "Gemma3", "Gemma4")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The results of all families, from one process."""
    return inside("clip_language", *MAKES)


@pytest.mark.parametrize("make", MAKES)
def test_a_stock_model_writes_what_the_engine_generates(found: dict[str, Any], make: str) -> None:
    made = found[make]
    assert made["written"] == made["expected"] and len(set(made["written"])) > 1
    assert made["chunks"] > 1 or make == "Gemma4", "it streams; but most tokens of the toy Gemma 4 are no characters"
    one, again, other = made["seeded"]
    assert one == again != other
    assert made["stopped"]


@pytest.mark.parametrize("make", MAKES)
def test_a_stock_model_is_asked_as_its_family_asks(found: dict[str, Any], make: str) -> None:
    begin, opening, marks = {
        "Qwen3": ("<|im_start|>system\nYou tell", "<|im_start|>assistant\n<think>\n\n</think>\n\n", 2),
        "Qwen3.5": ("<|im_start|>system\nYou tell", "<|im_start|>assistant\n<think>\n\n</think>\n\n", 2),
        "Gemma3": ("<start_of_turn>user\nYou tell", "<start_of_turn>model\n", 2),
        "Gemma4": ("<bos><|turn>system\nYou tell", "<|turn>model\n<|channel>thought\n<channel|>", 2),
    }[make]
    made = found[make]
    assert made["prompt"].startswith(begin) and made["prompt"].endswith(opening)
    if make == "Gemma4":  # it thinks if the system's turn says so
        assert made["thinking"].startswith("<bos><|turn>system\n<|think|>\nYou tell")
        assert made["thinking"].endswith("<|turn>model\n")
    elif make == "Gemma3":
        assert made["thinking"] == made["prompt"]
    else:
        assert made["thinking"] == made["prompt"].removesuffix("<think>\n\n</think>\n\n")
    turns = 11 if make != "Gemma3" else 10  # it has no system turn
    start = ["<bos>"] * make.startswith("Gemma")
    assert len(made["special"]) == len(start) + marks * turns - 1, "what people write is no mark"
    assert made["special"][: len(start)] == start


@pytest.mark.parametrize("make", MAKES)
def test_a_stock_model_reads_the_slot(found: dict[str, Any], make: str) -> None:
    made = found[make]
    assert made["width"] == 32 and made["caption"] == "a fox"
    assert made.get("apart", 0) < 1e-4 < 0.1 < made["scale"]
    assert made["moved"] > 0.1, "the image tokens count"
    assert made["managed"], "its own patcher has loaded it"


@pytest.mark.parametrize("make", MAKES)
def test_a_stock_model_reads_nothing_twice_if_it_keeps_nothing_but_keys_and_values(
    found: dict[str, Any], make: str
) -> None:
    made = found[make]
    assert made["blocks"] == (2 if make == "Qwen3" else 0)
    assert made["same"], "whether it remembers or not"
    assert made["whole"][0] and made["whole"][1] < 4e-4, "and all but the last digits as a whole"
    assert made["left"] == 0, "it forgets when its weights leave the device"


def test_a_stock_qwen_is_the_one_of_transformers(found: dict[str, Any]) -> None:
    other = found["Qwen3"]["transformers"]
    assert other["ids"] and other["said"] and other["apart"] < 1e-3


def test_a_new_adapter_paints_the_captions_of_a_stock_model(found: dict[str, Any]) -> None:
    assert found["same"]


def test_a_clip_that_cannot_write_is_refused(found: dict[str, Any]) -> None:
    assert found["refusal"] == (
        "Language Model from CLIP: This CLIP reads prompts and cannot write: load one whose text encoder is a "
        "language model, such as the Qwen of Z-Image or the Gemma of LTX."
    )
