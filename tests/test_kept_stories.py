"""What nodes report and keep when a story fails halfway, or a conversation is longer than the context."""

from __future__ import annotations

from typing import Any

import pytest

from runs import inside

pytestmark = pytest.mark.comfy

REASON = "the language model thought, and then said nothing: try another seed or model."
SHORTENED = "The conversation is longer than the language model's context: 1 turn is shortened."


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return inside("early_end", "A fox finds a kite on the beach. " * 400)


@pytest.mark.parametrize("kind", ["told", "written"])
def test_a_node_gives_what_was_told_before_a_later_panel_failed(found: dict[str, Any], kind: str) -> None:
    kept = found[f"{kind} 3"]
    note = f"The story ends after 2 of 3 panels, for {REASON}"
    assert kept["ui"]["notes"] == [note] and kept["ui"]["text"], kept
    assert min(kept["lists"]) == 2, "panels, texts and thoughts of two"
    assert found["logged"].count(f"M2Chat: {note}") == 2


@pytest.mark.parametrize(("kind", "name"), [("told", "Tell Story"), ("written", "Write Story")])
def test_a_first_panel_that_fails_is_an_error(found: dict[str, Any], kind: str, name: str) -> None:
    assert found[f"{kind} 1"] == {"error": f"{name}: T{REASON[1:]}"}


@pytest.mark.parametrize("kind", ["turn", "reply", "story"])
def test_a_node_shows_what_of_the_conversation_did_not_fit(found: dict[str, Any], kind: str) -> None:
    assert found[kind]["ui"]["notes"] == [SHORTENED]
    assert "notes" not in found["short"]["ui"]


def test_encode_slot_shows_what_its_own_prompt_left_out(found: dict[str, Any]) -> None:
    assert found["slot"]["ui"] == {"text": [SHORTENED]} and found["short slot"]["ui"] == {"text": []}


def test_a_node_that_refuses_its_inputs_builds_its_schema_once(found: dict[str, Any]) -> None:
    assert found["wrong"] == {"error": "Tell Story: premise is 5: give a text."} and found["built"] == 1
