"""The blueprints of subgraphs/: each is one node of ComfyUI's node library, made of nodes that exist, and it runs."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, TimeoutError

import graphs
from comfy_server import ComfyServer
from graphs import INPUT, OUTPUT, Graph, node
from test_browser import PATIENCE, page, run
from tools import environment

__all__ = ["page"]

BLUEPRINTS = environment.REPO / "subgraphs"
NAMES = sorted(path.stem for path in BLUEPRINTS.glob("*.json"))

REPLIED = {**graphs.conversation(), "reply": graphs.reply()}
# What stands on the canvas before a blueprint is put there.
BESIDE: dict[str, Graph] = {
    "M2Chat Picture": REPLIED,
    "M2Chat Exchange": {
        "load": node("M2Chat_LoadStarter"),
        "start": node("M2Chat_Conversation"),
        "shown": node("EmptyImage", width=64, height=64, batch_size=1, color=255),
    },
    "M2Chat Panel": {
        "load": node("M2Chat_LoadStarter"),
        "start": node("M2Chat_Conversation"),
        "stock": node("M2Chat_LoadStarterStock"),
    },
    "M2Chat Starter Story": {},
    "M2Chat Stock Picture": {**REPLIED, "stock": node("M2Chat_LoadStarterStock")},
}
# Values other than the blueprints' own, for the widgets that they expose.
VALUES = {"text": "A fox on the beach.", "premise": "An owl in the forest.", "panels": 1, "gate": 0.5, "seed": 3}
VALUES |= {"steps": 2, "width": 64, "height": 96}

# Wires the blueprint's sockets to the last output of their type, its outputs to nodes that show them, and turns its
# widgets.
WIRE = """values => {
  const node = app.graph.nodes.find(node => node.isSubgraphNode());
  const others = app.graph.nodes.filter(other => other !== node).reverse();
  node.inputs.forEach((input, index) => {
    if (input.widget) return;
    const fits = output => output.type === input.type;
    const source = others.find(other => other.outputs.some(fits));
    source.connect(source.outputs.findIndex(fits), node, index);
  });
  const shows = {
    M2CHAT_CONVERSATION: 'M2Chat_ShowConversation', IMAGE: 'PreviewImage', STRING: 'PreviewAny', BOOLEAN: 'PreviewAny',
  };
  node.outputs.forEach((output, index) => {
    const sink = LiteGraph.createNode(shows[output.type]);
    app.graph.add(sink);
    sink.title = output.name;
    node.connect(index, sink, 0);
  });
  for (const widget of node.widgets) widget.value = values[widget.name];
}"""
# What each link says about its end, and what the end says.
LINKS = """[...app.graph.nodes.find(node => node.isSubgraphNode()).subgraph.links.values()].map(link => {
  const target = app.graph.nodes.find(node => node.isSubgraphNode()).subgraph.getNodeById(link.target_id);
  return [link.id, target ? target.inputs[link.target_slot].link : link.id];
})"""


def blueprint(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node of a blueprint, and the subgraph in it."""
    workflow = json.loads((BLUEPRINTS / f"{name}.json").read_text("utf-8"))
    (outside,), (inside,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert workflow["version"] == 0.4 and workflow["links"] == []
    assert workflow["last_node_id"] == outside["id"] and workflow["extra"]["BlueprintSearchAliases"]
    return outside, inside


def targets(subgraph: dict[str, Any], index: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The nodes that an input of a subgraph goes to, each with the input of its own."""
    by_id = {inner["id"]: inner for inner in subgraph["nodes"]}
    ends = [link[2:4] for link in graphs.subgraph_links(subgraph).values() if link[:2] == (INPUT, index)]
    return [(by_id[target], by_id[target]["inputs"][slot]) for target, slot in ends]


@pytest.fixture(scope="module")
def nodes(comfy: ComfyServer) -> dict[str, Any]:
    """The descriptions of all nodes."""
    return comfy.object_info()


def test_every_id_is_its_own() -> None:
    assert set(BESIDE) == set(NAMES)
    insides = [blueprint(name)[1] for name in NAMES]
    slots = [slot["id"] for inside in insides for way in ("inputs", "outputs") for slot in inside[way]]
    ids = slots + [inside["id"] for inside in insides]
    assert len(set(ids)) == len(ids) and all(str(uuid.UUID(given)) == given for given in ids)


@pytest.mark.parametrize("name", NAMES)
def test_the_node_outside_is_the_subgraph_inside(name: str) -> None:
    outside, inside = blueprint(name)
    assert outside["type"] == inside["id"] and outside["title"] == inside["name"] == name
    assert inside["category"] == "M2Chat" and inside["description"].endswith(".")
    for way in ("inputs", "outputs"):
        said = [(slot["name"], slot["type"], slot.get("label")) for slot in outside[way]]
        assert said == [(slot["name"], slot["type"], slot.get("label")) for slot in inside[way]]
        assert not any("_" in slot.get("label", slot["name"]) for slot in inside[way]), "no name for people"
    widgets = [any("widget" in given for _, given in targets(inside, k)) for k in range(len(inside["inputs"]))]
    assert ["widget" in given for given in outside["inputs"]] == widgets
    assert widgets == sorted(widgets), "sockets stand above widgets"


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprint_fits_the_nodes(nodes: dict[str, Any], name: str) -> None:
    _, inside = blueprint(name)
    graphs.check_subgraph(inside, nodes)


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprint_reads_from_left_to_right(name: str) -> None:
    _, inside = blueprint(name)
    assert not graphs.overlapping(inside["nodes"])
    span = {given["id"]: (given["pos"][0], given["pos"][0] + given["size"][0]) for given in inside["nodes"]}
    for slots, id in (("inputNode", INPUT), ("outputNode", OUTPUT)):
        x, _, width, _ = inside[slots]["bounding"]
        span[id] = (x, x + width)
    assert all(span[source][1] < span[target][0] for source, _, target, _, _ in graphs.subgraph_links(inside).values())


def test_the_server_offers_the_blueprints(comfy: ComfyServer) -> None:
    offered = comfy.get("/global_subgraphs")
    ours = {entry["name"]: id for id, entry in offered.items() if entry["info"]["node_pack"] == "custom_nodes.m2chat"}
    assert sorted(ours) == NAMES
    for name, id in ours.items():
        assert comfy.get(f"/global_subgraphs/{id}")["data"] == (BLUEPRINTS / f"{name}.json").read_text("utf-8")


def search_nodes(page: Page) -> Locator:
    """The field of the node search, opened by a double click: a second one if the page was too busy."""
    field = page.locator("[role=search] input").first
    for _ in range(3):
        page.mouse.dblclick(900, 600)
        with suppress(TimeoutError):
            field.wait_for(timeout=5000)
            break
    return field


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprint_is_found_placed_wired_and_run(comfy: ComfyServer, page: Page, name: str) -> None:
    outside, inside = blueprint(name)
    page.evaluate("app.graph.clear()")
    page.evaluate("graph => app.loadApiJson(graph, 'test')", graphs.numbered(BESIDE[name]))
    page.evaluate("app.canvas.ds.offset = [5000, 5000]; app.canvas.setDirty(true, true)")  # away from these nodes
    page.wait_for_timeout(500)
    search_nodes(page).fill(name)
    page.get_by_role("option").filter(has=page.get_by_text(name, exact=True)).first.click(timeout=PATIENCE)
    page.locator("[role=search]").wait_for(state="hidden", timeout=PATIENCE)
    page.mouse.move(900, 600)
    page.wait_for_timeout(500)  # until the node hangs below the pointer, which else may click on one of its widgets
    page.mouse.click(900, 600)
    page.wait_for_function("app.graph.nodes.some(node => node.isSubgraphNode() && !node.flags.ghost)", timeout=PATIENCE)
    assert all(link == given for link, given in page.evaluate(LINKS))

    page.evaluate(WIRE, VALUES)
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    asked = {given["class_type"]: given["inputs"] for given in prompt.values()}
    for index, slot in enumerate(inside["inputs"]):
        values = [asked[inner["type"]][given["name"]] for inner, given in targets(inside, index)]
        turned = "widget" in outside["inputs"][index]
        assert values, slot["name"]
        for value in values:
            assert value == VALUES[slot["name"]] if turned else isinstance(value, list), slot["name"]

    run(page, len(inside["outputs"]))
    shown = page.evaluate("Object.fromEntries(app.graph.nodes.map(node => [node.title, app.nodeOutputs[node.id]]))")
    for slot in inside["outputs"]:
        assert shown[slot["name"]][{"STRING": "text", "BOOLEAN": "text"}.get(slot["type"], "images")], slot["name"]
    picture = next(slot["name"] for slot in inside["outputs"] if slot["name"].startswith("picture"))
    with Image.open(io.BytesIO(comfy.view(**shown[picture]["images"][0]))) as painted:
        sized = any(given.get("height") == VALUES["height"] for given in asked.values())
        assert painted.size == ((64, 96) if sized else (128, 128))
        assert len(painted.getcolors(2**24)) > 1000
