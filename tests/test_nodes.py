"""The nodes in a real ComfyUI: what they do, what runs again, and how they are stopped."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import graphs
from comfy_server import ComfyServer
from graphs import MODELS, PAINT, node
from m3adapter.adapter import gate_map
from m3adapter.conversation.seeds import turn_seed
from m3adapter.values import MAX_STRENGTH
from runs import Event, picture, ran, same, text
from tools import environment

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


def order_of(info: dict[str, Any]) -> list[list[Any]]:
    """A node's inputs in the order of a workflow's widget values: name, type, nested inputs."""
    found = []
    for required in ("required", "optional"):
        for name, (kind, *more) in info.get(required, {}).items():
            entry, options = [name, kind], more[0] if more else {}
            if kind == "COMFY_DYNAMICCOMBO_V3":
                entry.append({option["key"]: order_of(option["inputs"]) for option in options["options"]})
            elif kind == "COMFY_AUTOGROW_V3":
                entry.append(order_of(options["template"]["input"]))
            elif options.get("control_after_generate"):  # it is a widget, too
                entry.append("control_after_generate")
            found.append(entry)
    return found


def widgets(inputs: list[list[Any]]) -> list[list[Any]]:
    """Those of a node's inputs that have values of their own in a workflow."""
    values = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
    return [entry for entry in inputs if entry[1] in values]


# What a user finds


def test_old_workflows_find_their_inputs_and_outputs(nodes: dict[str, Any]) -> None:
    """Against tests/promised_nodes.json, as the nodes once were: add what is new to it, and change nothing in it."""
    promised = json.loads(Path(__file__).with_name("promised_nodes.json").read_text("utf-8"))
    for name, then in promised.items():
        inputs = order_of(nodes[name]["input"])
        for once, now in zip(then["inputs"], inputs, strict=False):
            if len(once) == 3 and isinstance(once[2], dict):  # choices may be added, and nothing inside one
                now[2] = {choice: now[2].get(choice) for choice in once[2]}
        # Widgets keep their places; sockets keep their names, by which a page finds them when one is optional now.
        once, now = widgets(then["inputs"]), widgets(inputs)
        assert now[: len(once)] == once, name
        assert all(entry in inputs for entry in then["inputs"]), name
        outputs = [list(each) for each in zip(nodes[name]["output_name"], nodes[name]["output"], strict=True)]
        assert outputs[: len(then["outputs"])] == then["outputs"], name


def test_every_node_is_explained(nodes: dict[str, Any]) -> None:
    assert nodes
    for name, info in nodes.items():
        assert info["category"].startswith("M2Chat/") and info["description"] and info["search_aliases"], name
        assert not info["display_name"].startswith("M2Chat_"), name
        hidden = info["input"].pop("hidden", {})
        assert "unique_id" not in hidden, f"{name}: two equal nodes could not share a result"
        for given, options in inputs_of(info["input"]):
            assert options.get("tooltip"), f"{name}: input {given} has no tooltip"
        assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"]), name
        assert info["output"], name


def test_the_gate_has_one_limit_in_nodes_chat_and_library(nodes: dict[str, Any]) -> None:
    inputs = [given for info in nodes.values() for given in inputs_of(info["input"])]
    limits = [options["max"] for name, options in inputs if name in ("gate", "lowest") and "max" in options]
    assert len(limits) >= 6 and set(limits) == {MAX_STRENGTH}
    kept = (environment.REPO / "web" / "chat" / "kept.js").read_text("utf-8")
    assert re.findall(r"MAX_GATE = (.+);", kept) == [f"{MAX_STRENGTH:g}"]


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


def test_every_page_of_help_shows_a_picture_of_its_node() -> None:
    docs = environment.REPO / "web" / "docs"
    pages = {path.stem: path.read_text("utf-8") for path in docs.glob("*.md")}
    for name, page in pages.items():
        assert re.findall(r"!\[[^]]+\]\(([^)]*)\)|<img", page) == [f"images/{name}.webp"], name
        with Image.open(docs / "images" / f"{name}.webp") as picture:
            assert picture.format == "WEBP" and 200 <= picture.width <= 1024, name
            picture.load()
    files = sorted((docs / "images").iterdir())
    assert [path.name for path in files] == sorted(f"{name}.webp" for name in pages), "a picture of no page"
    assert sum(path.stat().st_size for path in files) < 600_000


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
    assert float(text(entry, "mean")) == pytest.approx(0.25 * graphs.open_gate(), rel=1e-3), (
        "of how far the starter's gate opens"
    )
    assert picture(comfy, entry, "map").size == (gate_map.WIDTH, gate_map.HEIGHT)
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
    # UNet and VAE each on their own; not the vision encoder: the first picture of a story has none to look at
    assert comfy.log.read_text("utf-8").count(LOADED) == loads + 4


def test_text_and_previews_come_while_it_runs(comfy: ComfyServer) -> None:
    # Previews come at most four times a second: there are enough steps for two on a fast machine, too.
    events = comfy.events(graphs.story(seed=31, panels=2, steps=20), previews="latent2rgb")
    texts = [event["data"]["text"] for event in events if event["type"] == "progress_text"]
    shown = [Image.open(io.BytesIO(event["data"]["image"])) for event in events if event["type"] == "preview"]
    assert len(shown) >= 2 and {image.size for image in shown} == {(512, 512)}, "as large as --preview-size says"
    assert len(texts) >= 2 and texts[-1].startswith("You: ")  # the last one is that of Show Conversation
    nodes = {event["data"]["node"] for event in events if event["type"] == "progress_text"}
    assert nodes == {"story", "show"}
    bar = [event["data"] for event in events if event["type"] == "progress" and event["data"]["node"] == "story"]
    assert bar[-1]["value"] == bar[-1]["max"] == 50, "a quarter of a picture for the words of each panel"


def test_no_preview_is_made_where_nobody_asks_for_one(comfy: ComfyServer) -> None:
    for seed, how in ((33, None), (34, "none")):
        events = comfy.events(graphs.story(seed=seed, steps=2), previews=how)
        assert not [event for event in events if event["type"] == "preview"], how
        assert [event for event in events if event["type"] == "progress" and event["data"]["node"] == "story"], how


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

    comfy.events(graph, on_event, previews="auto")
    return after, time.monotonic() - started


@pytest.mark.parametrize("name", ["story", "decode"])
def test_painting_stops_within_a_step(comfy: ComfyServer, name: str) -> None:
    graph = graphs.story(seed=41, panels=2) if name == "story" else graphs.blocks(seed=41)
    comfy.run(graph)
    graph = graphs.changed(graph, name, seed=42, steps=500)
    after, _ = interrupted(comfy, graph, "preview")
    assert [event["data"]["node_id"] for event in after if event["type"] == "execution_interrupted"] == [name]
    steps = [event["data"]["value"] for event in after if event["type"] == "progress"]
    assert not steps or steps[-1] - steps[0] <= 1
    if name == "story":
        saved_as_far_as_it_was_told(comfy, after[-1]["data"]["prompt_id"])
    assert comfy.run(graphs.changed(graph, name, steps=2))


def saved_as_far_as_it_was_told(comfy: ComfyServer, prompt: str) -> None:
    """What a page can still save of a story that was interrupted while its first picture was painted, but once."""
    body = json.dumps({"revision": 0, "prompt": prompt}).encode()
    told = json.loads(comfy.request("/m2chat/sessions/stopped%20story/stopped", body))
    assert [turn["role"] for turn in told["turns"]] == ["user", "assistant"] * 2 and told["revision"] == 1
    pictures = [segment for turn in told["turns"] for segment in turn["segments"] if segment["type"] == "picture"]
    assert pictures and all(picture["file"] is None for picture in pictures)
    assert json.loads(comfy.request("/m2chat/sessions/stopped%20story/stopped", body)) == {}


def test_writing_stops_within_a_token(comfy: ComfyServer) -> None:
    graph = {**graphs.conversation(), "reply": graphs.reply(51, max_length=4000)}
    graph["show"] = node("M2Chat_ShowConversation", conversation=["reply", 0])
    after, seconds = interrupted(comfy, graph, "progress")
    stopped = [event for event in after if event["type"] == "execution_interrupted"]
    if not stopped:
        assert seconds < 1.0  # the reply was over just then
    else:
        assert stopped[0]["data"]["node_id"] == "reply" and seconds < 2.0


def test_no_node_is_called_as_one_of_the_core_or_of_another_of_ours(comfy: ComfyServer) -> None:
    shown = {name: info["display_name"] for name, info in comfy.object_info().items()}
    ours = [title for name, title in shown.items() if name.startswith("M2Chat_")]
    core = {(title or name).lower() for name, title in shown.items() if not name.startswith("M2Chat_")}
    # The nodes of paid services are not loaded here.
    for path in (environment.ENGINE / "comfy_api_nodes").rglob("*.py"):
        core |= {title.lower() for title in re.findall(r'display_name="([^"]+)"', path.read_text("utf-8"))}
    assert len(set(ours)) == len(ours) and not {title.lower() for title in ours} & core
