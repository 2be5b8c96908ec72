"""How nodes handle all kinds of inputs, and how they report bad ones, in a real ComfyUI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graphs
from comfy_server import ComfyServer
from graphs import node
from runs import Event, picture, text
from tools.comfy import ExecutionFailed, PromptRejected


def shown(comfy: ComfyServer, graph: graphs.Graph, source: str = "user") -> Event:
    """Run a graph that ends in a conversation, and show it."""
    return comfy.run({**graph, "show": node("M2Chat_ShowConversation", conversation=[source, 0])})


# Inputs of all kinds


def test_a_message_shows_its_pictures(comfy: ComfyServer) -> None:
    graph = graphs.conversation("Look!", pictures__picture_0=["small", 0], pictures__picture_1=["large", 0])
    graph["small"] = node("EmptyImage", width=16, height=8, batch_size=3, color=0xFF0000)
    graph["large"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x0000FF)
    entry = shown(comfy, graph)
    assert text(entry) == "You: " + "[picture]\n" * 4 + "Look!"
    sizes = [picture(comfy, entry, "show", index).size for index in range(4)]
    assert sizes == [(16, 8)] * 3 + [(64, 64)]


def test_transparency_is_laid_over_white(comfy: ComfyServer) -> None:
    graph = graphs.conversation("", pictures__picture_0=["picture", 0])
    graph["black"] = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
    graph["mask"] = node("SolidMask", value=1.0, width=8, height=8)
    graph["picture"] = node("JoinImageWithAlpha", image=["black", 0], alpha=["mask", 0])
    assert picture(comfy, shown(comfy, graph), "show").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (8000, 10)])
def test_pictures_of_any_size_are_seen(comfy: ComfyServer, size: tuple[int, int]) -> None:
    graph = graphs.conversation("What is it?", pictures__picture_0=["picture", 0])
    graph["picture"] = node("EmptyImage", width=size[0], height=size[1], batch_size=1, color=0x808080)
    graph["reply"] = graphs.reply()
    entry = shown(comfy, graph, "reply")
    assert picture(comfy, entry, "show").size == size
    assert "M2Chat: " in text(entry)


@pytest.mark.parametrize(
    "message",
    [
        "\U0001f98a\U0001f469\u200d\U0001f680 \u2603\ufe0f!",
        "\u062b\u0639\u0644\u0628 \u0639\u0644\u0649",
        "</image><|end|>",
    ],
)
def test_any_script_is_told_and_exported(comfy: ComfyServer, message: str) -> None:
    # The starter would refuse these in words alone; a reply that is cut off has a picture, whatever was said.
    graph = {
        **graphs.story(premise=message, max_length=4),
        "export": node("M2Chat_ExportStory", conversation=["story", 0], filename_prefix="any"),
    }
    entry = comfy.run(graph)
    assert text(entry).startswith(f"You: {message}\n\nM2Chat: ")
    page = Path(text(entry, "export")).read_text("utf-8")
    assert message.replace("<", "&lt;").replace(">", "&gt;") in page


def test_an_endless_prompt_is_shortened_for_the_model_only(comfy: ComfyServer) -> None:
    premise = "A fox walks on and on. " * 2174
    entry = comfy.run(graphs.story(premise=premise))
    assert len(premise) > 50_000 and text(entry).startswith(f"You: {premise.strip()}\n")


# Mistakes


def refused(comfy: ComfyServer, graph: graphs.Graph) -> str:
    """ComfyUI's error for a graph that it refuses."""
    with pytest.raises(PromptRejected) as error:
        comfy.queue(graph)
    return str(error.value)


def failed(comfy: ComfyServer, graph: graphs.Graph) -> str:
    """The node's error in a failed run."""
    with pytest.raises(ExecutionFailed) as error:
        comfy.run(graph)
    return error.value.details["exception_message"].strip()


@pytest.mark.parametrize("premise", ["", " \n\t "])
def test_an_empty_premise_is_refused_before_anything_runs(comfy: ComfyServer, premise: str) -> None:
    assert "The premise is empty: say in a sentence what the story is about." in refused(
        comfy, graphs.story(premise=premise)
    )


@pytest.mark.parametrize(("panels", "reason"), [(0, "smaller than min of 1"), (1000, "bigger than max of 32")])
def test_panels_have_bounds(comfy: ComfyServer, panels: int, reason: str) -> None:
    message = refused(comfy, graphs.story(panels=panels))
    assert "M2Chat_Story" in message and f"Value {panels} {reason}: panels" in message


def test_what_comes_over_a_wire_has_the_same_bounds(comfy: ComfyServer) -> None:
    graph = {**graphs.story(panels=["number", 0]), "number": node("PrimitiveInt", value=1000)}
    assert failed(comfy, graph) == "Tell Story: panels is 1000: give a whole number from 1 to 32."
    graph = {**graphs.story(premise=["words", 0]), "words": node("PrimitiveString", value=" ")}
    assert failed(comfy, graph) == "Tell Story: The premise is empty: say in a sentence what the story is about."


def test_roles_must_alternate(comfy: ComfyServer) -> None:
    graph = {**graphs.conversation(), "reply": graphs.reply()}
    graph["again"] = graphs.reply(conversation=["reply", 0])
    graph["show"] = node("M2Chat_ShowConversation", conversation=["again", 0])
    assert failed(comfy, graph) == "Reply: The conversation ends with the assistant's turn: add a user message first."
    graph["again"] = graphs.reply(conversation=["start", 0])
    assert failed(comfy, graph) == "Reply: There is nothing to reply to: add a user message first."
    graph["again"] = node("M2Chat_UserMessage", conversation=["user", 0], text="And another thing.")
    assert failed(comfy, graph).startswith("User Message: Two user messages follow one another: ")
    graph["again"] = node("M2Chat_UserMessage", conversation=["start", 0], text=" ")
    assert failed(comfy, graph) == "User Message: The user message is empty: write some text or add a picture."


def test_pictures_are_not_overlooked(comfy: ComfyServer) -> None:
    graph = graphs.conversation("Look!", pictures__picture_0=["picture", 0])
    graph["picture"] = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
    graph["reply"] = graphs.reply()
    del graph["reply"]["inputs"]["vision_encoder"]
    graph["show"] = node("M2Chat_ShowConversation", conversation=["reply", 0])
    assert failed(comfy, graph) == "Reply: The user shows pictures, but nothing encodes them: connect vision_encoder."


def test_slots_are_counted(comfy: ComfyServer) -> None:
    graph = graphs.changed(graphs.blocks(), "encode", slot=7)
    assert re.fullmatch(r"Encode Slot: slot is 7, but .* can be painted: choose 0.*\.", failed(comfy, graph))
    graph["encode"]["inputs"].update(slot=0, conversation=["user", 0])
    assert failed(comfy, graph).startswith("Encode Slot: The conversation has no picture to be painted: ")
    graph = {**graphs.conversation(), "reply": graphs.reply()}
    graph["three"] = node("EmptyImage", width=8, height=8, batch_size=3, color=0)
    graph["place"] = node("M2Chat_PlacePicture", conversation=["reply", 0], slot=0, image=["three", 0])
    graph["show"] = node("M2Chat_ShowConversation", conversation=["place", 0])
    assert failed(comfy, graph).startswith("Place Picture: image holds 3 pictures, but a slot takes only one: ")


def test_nothing_is_written_outside_the_output_folder(comfy: ComfyServer) -> None:
    graph = graphs.conversation()
    graph["export"] = node("M2Chat_ExportStory", conversation=["user", 0], filename_prefix="../../out")
    assert "outside the output folder" in failed(comfy, graph)
    graph["export"]["inputs"].update(conversation=["start", 0], filename_prefix="out")
    assert failed(comfy, graph) == "Export Story: The conversation is empty: there is nothing to write."
