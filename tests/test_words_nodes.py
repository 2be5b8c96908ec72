"""The nodes of the character sheet and of descriptions in a running ComfyUI."""

from __future__ import annotations

import pytest

import graphs
from comfy_server import ComfyServer
from graphs import node
from m3adapter.conversation.conversation import Conversation, Picture
from m3adapter.conversation.sessions import Sessions
from runs import text
from test_inputs import failed
from test_session_routes import ask, path, sessions  # noqa: F401  # a fixture
from tools.comfy import PromptRejected

pytestmark = pytest.mark.comfy


def test_captions_of_a_written_story_carry_the_typed_sheet(comfy: ComfyServer) -> None:
    graph = {
        "load": node("M2Chat_LoadStarter"),
        "sheet": node("M2Chat_CharacterSheet", premise="", seed=0, lines="1. Fox: small and blue\n\n* owl: white"),
        "story": node(
            "M2Chat_WriteStory", language_model=["load", 0], premise="A fox who finds a kite on the beach.", panels=1,
            seed=5, max_length=48, conversation=["sheet", 0],
        ),
        "again": node(
            "M2Chat_CharacterSheet", premise="", seed=0, lines="", language_model=["load", 0], conversation=["story", 0]
        ),
        "captions": node("PreviewAny", source=["story", 1]),
        "kept": node("PreviewAny", source=["again", 1]),
        "told": node("M2Chat_ShowConversation", conversation=["story", 0]),
    }  # fmt: skip
    entry = comfy.run(graph)
    assert text(entry, "sheet") == text(entry, "again") == text(entry, "kept") == "Fox: small and blue\nowl: white"
    captions = entry["outputs"]["captions"]["text"]
    assert all("fox" in caption and caption.count("small and blue") == 1 for caption in captions)
    assert "small and blue" not in text(entry, "told"), "the captions themselves stay"
    with pytest.raises(PromptRejected, match="line 'a fox': write it as name: looks"):
        comfy.queue(graphs.changed(graph, "sheet", lines="a fox"))
    unwritten = {"sheet": node("M2Chat_CharacterSheet", premise="A fox.", seed=0, lines="")}
    assert failed(comfy, {**unwritten, "show": node("PreviewAny", source=["sheet", 1])}) == (
        "Character Sheet: Nothing can write the character sheet: connect language_model, or type its lines."
    )


def test_a_model_that_does_not_see_describes_nothing(comfy: ComfyServer) -> None:
    graph = {**graphs.story(), "look": node(
        "M2Chat_DescribePictures", language_model=["load", 0], conversation=["story", 0], which="new",
        question="What is it?", seed=0,
    )}  # fmt: skip
    del graph["show"]
    assert failed(comfy, {**graph, "said": node("PreviewAny", source=["look", 1])}) == (
        "Describe Pictures: The language model cannot look at pictures by itself: use a vision-language model, such as "
        "Qwen3-VL or Gemma 3."
    )


def test_a_page_that_does_not_know_of_looks_leaves_them(comfy: ComfyServer, sessions: Sessions) -> None:  # noqa: F811
    told = Conversation().with_looks({"fox": "blue"}).user("Tell.").assistant([Picture("a fox")])
    sessions.save("fox", told)
    _, loaded = ask(comfy, "GET", path("fox"))
    assert loaded["cast"] == [{"name": "fox", "pictures": [], "looks": "blue"}]
    loaded["cast"][0]["looks"] = "red"
    assert ask(comfy, "PUT", path("fox"), loaded)[0] == 200
    assert sessions.load("fox").conversation.cast[0].looks == "red"
    del loaded["cast"][0]["looks"]
    assert ask(comfy, "PUT", path("fox"), {**loaded, "revision": 2})[0] == 200
    assert sessions.load("fox").conversation.cast[0].looks == "red"
