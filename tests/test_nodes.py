"""The nodes in a real ComfyUI: what they do, what runs again, how they are stopped, and what they say to bad inputs."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

import graphs
from comfy_server import ComfyServer
from graphs import MODELS, PAINT, node
from m3adapter.request import turn_seed
from tools import environment
from tools.comfy import ExecutionFailed, PromptRejected

Event = dict[str, Any]
LOADED = "loaded completely"


@pytest.fixture(scope="module")
def nodes(comfy: ComfyServer) -> dict[str, Any]:
    """The descriptions of the pack's nodes."""
    return {name: info for name, info in comfy.object_info().items() if name.startswith("M2Chat_")}


def inputs_of(info: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All inputs of a node, those inside dynamic ones included."""
    found = []
    for required in info.values():
        for name, (kind, options) in required.items():
            found.append((name, options))
            if kind == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    found += inputs_of(option["inputs"])
            if kind == "COMFY_AUTOGROW_V3":
                found += inputs_of(options["template"]["input"])
    return found


def ran(events: list[Event]) -> set[str]:
    """Which nodes a run executed."""
    return {event["data"]["node"] for event in events if event["type"] == "executing" and event["data"]["node"]}


def picture(comfy: ComfyServer, entry: Event, name: str, index: int = 0) -> Image.Image:
    """A picture that a node of a finished run shows."""
    return Image.open(io.BytesIO(comfy.view(**entry["outputs"][name]["images"][index]))).convert("RGB")


def same(one: Image.Image, other: Image.Image, tolerance: int = 0) -> bool:
    """Whether two pictures are equal, but for a tolerance in each 8-bit value."""
    difference = ImageChops.difference(one, other)
    return one.size == other.size and max(high for _, high in difference.getextrema()) <= tolerance


def text(entry: Event, name: str = "show") -> str:
    """The text that a node of a finished run shows."""
    return entry["outputs"][name]["text"][0]


def shown(comfy: ComfyServer, graph: graphs.Graph, source: str = "user") -> Event:
    """Run a graph that ends in a conversation, and show it."""
    return comfy.run({**graph, "show": node("M2Chat_ShowConversation", conversation=[source, 0])})


# What a user finds


def test_every_node_is_explained(nodes: dict[str, Any]) -> None:
    assert len(nodes) == 12
    for name, info in nodes.items():
        assert info["category"].startswith("M2Chat/") and info["description"] and info["search_aliases"], name
        assert not info["display_name"].startswith("M2Chat_"), name
        hidden = info["input"].pop("hidden", {})
        assert "unique_id" not in hidden, f"{name}: two equal nodes could not share a result"
        for given, options in inputs_of(info["input"]):
            assert options.get("tooltip"), f"{name}: input {given} has no tooltip"
        assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"]), name
        assert info["output"], name


def test_every_node_has_a_page_of_help(comfy: ComfyServer, nodes: dict[str, Any]) -> None:
    pages = {path.stem: path.read_text("utf-8") for path in (environment.REPO / "web" / "docs").glob("*.md")}
    assert pages.keys() == nodes.keys()
    for name, info in nodes.items():
        served = comfy.request(f"/extensions/m2chat/docs/{name}.md").decode()
        assert served == pages[name]
        for given, _ in inputs_of({key: value for key, value in info["input"].items() if key != "hidden"}):
            assert f"`{given}`" in served, f"the page of {name} does not mention its input {given}"
        for given in info["output_name"]:
            assert f"`{given}`" in served, f"the page of {name} does not mention its output {given}"


# What runs, and what runs again


def forget(comfy: ComfyServer, idle: graphs.Graph, memory: bool = True) -> None:
    """Unload the models and, if asked for, the cache. ComfyUI does it between two runs: `idle` is the first of them."""
    comfy.request("/free", json.dumps({"unload_models": True, "free_memory": memory}).encode())
    comfy.run(idle)


def test_a_story_has_panels_texts_and_captions(comfy: ComfyServer) -> None:
    graph = graphs.story(panels=2)
    graph["list"] = node("PreviewImage", images=["story", 1])
    graph["batch"] = node("PreviewImage", images=["story", 2])
    graph["texts"] = node("PreviewAny", source=["story", 3])
    graph["captions"] = node("PreviewAny", source=["story", 4])
    entry = comfy.run(graph)
    count = len(entry["outputs"]["batch"]["images"])
    assert count >= 2 and len(entry["outputs"]["list"]["images"]) == count
    assert len(entry["outputs"]["texts"]["text"]) == 2
    assert len(entry["outputs"]["captions"]["text"]) == count
    assert same(picture(comfy, entry, "batch"), picture(comfy, entry, "list"))
    assert text(entry).startswith("You: A fox on the beach.\n\nM2Chat: ")


def test_the_blocks_paint_what_the_story_paints(comfy: ComfyServer) -> None:
    seed = 5
    entry = comfy.run({**graphs.story(seed=seed, panels=2), "panels": node("PreviewImage", images=["story", 2])})
    first = comfy.run({**graphs.story(seed=seed), "panels": node("PreviewImage", images=["story", 2])})
    number = len(first["outputs"]["panels"]["images"])  # of the second panel's first picture
    graph = graphs.changed(graphs.blocks(seed=turn_seed(seed, 1)), "story", seed=seed)
    blocks = comfy.run(graphs.changed(graph, "reply", max_length=256))
    assert same(picture(comfy, entry, "panels", number), picture(comfy, blocks, "picture"))


def test_a_turn_replies_as_a_story_begins(comfy: ComfyServer) -> None:
    given = {"text": "A fox on the beach.", "gate": 1.0, "seed": 3, **PAINT}
    graph = {**graphs.story(seed=3), "start": node("M2Chat_Conversation")}
    graph["turn"] = node("M2Chat_Turn", **MODELS, conversation=["start", 0], **given)
    graph["said"] = node("M2Chat_ShowConversation", conversation=["turn", 0])
    graph["picture"] = node("PreviewImage", images=["turn", 1])
    entry = comfy.run(graph)
    if "[picture" in text(entry, "said"):
        assert text(entry, "said") == text(entry)
        assert same(picture(comfy, entry, "picture"), picture(comfy, entry, "show"))
    else:  # a story always has a picture; a turn only if the model wants one, and nothing fails without it
        assert "picture" not in entry["outputs"]


def test_another_gate_fuses_and_paints_again_and_nothing_else(comfy: ComfyServer) -> None:
    first, again = graphs.blocks(gate=0.25), graphs.blocks(gate=0.75)
    comfy.events(first)
    assert ran(comfy.events(again)) == {"fuse", "decode", "picture", "map", "mean"}
    assert ran(comfy.events(again)) == set()
    assert ran(comfy.events(graphs.changed(again, "decode", steps=3))) == {"decode", "picture"}


def test_a_fixed_gate_is_the_same_for_every_token(comfy: ComfyServer) -> None:
    entry = comfy.run(graphs.blocks(mode="fixed", mode__value=0.25))
    assert float(text(entry, "mean")) == pytest.approx(0.25)
    assert picture(comfy, entry, "map").size == (768, 288)
    assert float(text(comfy.run(graphs.blocks(gate=0.0)), "mean")) == 0


def test_a_seed_means_the_same_story_after_everything_was_forgotten(comfy: ComfyServer) -> None:
    before = comfy.run(graphs.story(seed=11))
    forget(
        comfy,
        {
            "idle": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "show": node("PreviewImage", images=["idle", 0]),
        },
    )
    events: list[Event] = []
    after = comfy.follow(graphs.story(seed=11), events.append)
    assert {"load", "story", "show"} <= ran(events)
    assert text(after) == text(before)
    assert same(picture(comfy, after, "show"), picture(comfy, before, "show"))
    assert text(comfy.run(graphs.story(seed=12))) != text(before)


def test_unloaded_models_come_back_from_the_cache(comfy: ComfyServer) -> None:
    graph = graphs.story(seed=21)
    comfy.run(graph)
    loads = comfy.log.read_text("utf-8").count(LOADED)
    forget(comfy, graph, memory=False)
    assert ran(comfy.events(graphs.changed(graph, "story", seed=22))) == {"story", "show"}
    assert comfy.log.read_text("utf-8").count(LOADED) == loads + 4


def test_text_and_previews_come_while_it_runs(comfy: ComfyServer) -> None:
    events = comfy.events(graphs.story(seed=31, panels=2, steps=3))
    texts = [event["data"]["text"] for event in events if event["type"] == "progress_text"]
    assert len([event for event in events if event["type"] == "preview"]) >= 2
    assert len(texts) >= 2 and texts[-1].startswith("You: ")  # the last one is that of Show Conversation
    nodes = {event["data"]["node"] for event in events if event["type"] == "progress_text"}
    assert nodes == {"story", "show"}
    bar = [event["data"] for event in events if event["type"] == "progress" and event["data"]["node"] == "story"]
    assert bar[-1]["value"] == bar[-1]["max"] == 6


# Stopping


def interrupted(comfy: ComfyServer, graph: graphs.Graph, when: str) -> tuple[list[Event], float]:
    """Interrupt a run at the first event of a kind; return the events after that, and how long they took."""
    after: list[Event] = []
    started = 0.0

    def on_event(event: Event) -> None:
        nonlocal started
        if started:
            after.append(event)
        elif event["type"] == when:
            comfy.interrupt()
            started = time.monotonic()

    comfy.events(graph, on_event)
    return after, time.monotonic() - started


@pytest.mark.parametrize("name", ["story", "decode"])
def test_painting_stops_within_a_step(comfy: ComfyServer, name: str) -> None:
    graph = graphs.story(seed=41) if name == "story" else graphs.blocks(seed=41)
    comfy.run(graph)
    graph = graphs.changed(graph, name, seed=42, steps=500)
    after, _ = interrupted(comfy, graph, "preview")
    assert [event["data"]["node_id"] for event in after if event["type"] == "execution_interrupted"] == [name]
    steps = [event["data"]["value"] for event in after if event["type"] == "progress"]
    assert not steps or steps[-1] - steps[0] <= 1
    assert comfy.run(graphs.changed(graph, name, steps=2))


def test_writing_stops_within_a_token(comfy: ComfyServer) -> None:
    graph = {**graphs.conversation(), "reply": graphs.reply(51, max_length=4000)}
    graph["show"] = node("M2Chat_ShowConversation", conversation=["reply", 0])
    after, seconds = interrupted(comfy, graph, "progress")
    stopped = [event for event in after if event["type"] == "execution_interrupted"]
    if not stopped:
        assert seconds < 1.0  # the reply was over just then
    else:
        assert stopped[0]["data"]["node_id"] == "reply" and seconds < 2.0


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
    graph = {
        **graphs.story(premise=message),
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


def test_stories_are_exported_side_by_side(comfy: ComfyServer) -> None:
    graph = {
        **graphs.story(),
        "export": node("M2Chat_ExportStory", conversation=["story", 0], filename_prefix="tales/fox"),
    }
    entry = comfy.run(graph)
    page = Path(text(entry, "export"))
    assert page == comfy.output_dir / "tales" / "fox_00001" / "story.html"
    assert {"story.html", "conversation.json", "panel_1.png"} <= {path.name for path in page.parent.iterdir()}
    # ComfyUI's previews cut off what an 8-bit value cannot hold, the export rounds it.
    assert same(picture(comfy, entry, "export"), picture(comfy, entry, "show"), tolerance=1)
    second = comfy.run(graphs.changed(graph, "story", seed=2))
    assert Path(text(second, "export")).parent.name == "fox_00002"


# Mistakes


def refused(comfy: ComfyServer, graph: graphs.Graph) -> str:
    """What ComfyUI says about a graph that it does not take."""
    with pytest.raises(PromptRejected) as error:
        comfy.queue(graph)
    return str(error.value)


def failed(comfy: ComfyServer, graph: graphs.Graph) -> str:
    """What the node says in a run that fails."""
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


def test_who_may_speak(comfy: ComfyServer) -> None:
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
    assert failed(comfy, graph) == "Reply: The user shows pictures, and nothing looks at them: connect vision_encoder."


def test_slots_are_counted(comfy: ComfyServer) -> None:
    graph = graphs.changed(graphs.blocks(), "encode", slot=7)
    assert re.fullmatch(r"Encode Slot: slot is 7, but .* can be painted: choose 0.*\.", failed(comfy, graph))
    graph["encode"]["inputs"].update(slot=0, conversation=["user", 0])
    assert failed(comfy, graph).startswith("Encode Slot: The conversation has no picture to be painted: ")
    graph = {**graphs.conversation(), "reply": graphs.reply()}
    graph["three"] = node("EmptyImage", width=8, height=8, batch_size=3, color=0)
    graph["place"] = node("M2Chat_PlacePicture", conversation=["reply", 0], slot=0, image=["three", 0])
    graph["show"] = node("M2Chat_ShowConversation", conversation=["place", 0])
    assert failed(comfy, graph).startswith("Place Picture: image holds 3 pictures, and a slot takes one: ")


def test_nothing_is_written_outside_the_output_folder(comfy: ComfyServer) -> None:
    graph = graphs.conversation()
    graph["export"] = node("M2Chat_ExportStory", conversation=["user", 0], filename_prefix="../../out")
    assert "outside the output folder" in failed(comfy, graph)
    graph["export"]["inputs"].update(conversation=["start", 0], filename_prefix="out")
    assert failed(comfy, graph) == "Export Story: The conversation is empty: there is nothing to write."
