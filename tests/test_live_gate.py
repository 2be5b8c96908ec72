"""The live gate in ComfyUI's page: turning the gate paints a preview, then the picture, and runs nothing else."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page

import graphs
from comfy_server import ComfyServer
from test_browser import PATIENCE, TEMPLATES, page, run

__all__ = ["page"]

RECORD = """() => {
  if (window.ran) return window.ran.length = 0;
  window.ran = [];
  for (const name of ['execution_start', 'executing', 'execution_success', 'execution_interrupted'])
    app.api.addEventListener(name, ({ detail }) => window.ran.push([name, detail?.node ?? detail]));
}"""
SWITCH = "value => { const live = window.turned.widgets.find(w => w.name === 'live'); live.value = value; }"
TURN = """value => {
  window.turned ??= app.graph.nodes.find(n => n.type === 'M2Chat_FuseM3Adapter');
  const widget = window.turned.widgets.find(w => w.name === 'gate');
  widget.value = value;
  widget.callback(value);
}"""


@pytest.fixture
def turned(page: Page) -> Page:
    """The page with the gate workflow, run once, and a record of what runs after that."""
    workflow = json.loads((TEMPLATES / "gate.json").read_text("utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    run(page, 3)
    page.evaluate("delete window.turned")
    page.evaluate(RECORD)
    return page


def test_turning_the_gate_paints_twice_what_lies_behind_it(comfy: ComfyServer, turned: Page) -> None:
    page = turned
    page.evaluate("window.turned = app.graph.nodes.find(n => n.type === 'M2Chat_FuseM3Adapter')")
    assert page.evaluate("window.turned.widgets.find(w => w.name === 'live').value"), "the template has it on"
    page.evaluate(SWITCH, False)
    page.evaluate(TURN, 0.5)
    page.wait_for_timeout(1500)
    assert page.evaluate("window.ran") == [], "switched off"
    page.evaluate(SWITCH, True)
    for value in (0.55, 0.6, 0.65):
        page.evaluate(TURN, value)
    page.wait_for_function("window.ran.filter(([name]) => name === 'execution_success').length === 2", timeout=PATIENCE)
    ids = page.evaluate(
        "[...new Set(window.ran.filter(([name, id]) => name === 'executing' && id).map(([, id]) => String(id)))]"
    )
    history = sorted(comfy.get("/history").values(), key=lambda entry: entry["prompt"][0])[-2:]
    types = sorted(node["class_type"] for name, node in history[-1]["prompt"][2].items() if name in ids)
    assert types == ["M2Chat_Decode", "M2Chat_FuseM3Adapter", "PreviewImage", "PreviewImage"]
    painted = [
        {node["class_type"]: node["inputs"] for name, node in entry["prompt"][2].items() if name in ids}
        for entry in history
    ]
    assert [inputs["M2Chat_Decode"]["steps"] for inputs in painted] == [4, 8]
    assert [inputs["M2Chat_FuseM3Adapter"]["gate"] for inputs in painted] == [0.65, 0.65]


def test_a_turn_takes_back_what_the_last_one_queued(turned: Page) -> None:
    page = turned
    page.evaluate(TURN, 0.2)
    page.wait_for_function("window.ran.some(([name]) => name === 'executing')", timeout=PATIENCE)
    page.evaluate(TURN, 0.3)
    page.wait_for_function("window.ran.filter(([name]) => name === 'execution_success').length >= 2", timeout=PATIENCE)
    page.wait_for_function("app.ui.lastQueueSize === 0", timeout=PATIENCE)
    endings = page.evaluate(
        "window.ran.map(([name]) => name).filter(n => n.startsWith('execution_') && n !== 'execution_start')"
    )
    assert endings[-2:] == ["execution_success"] * 2 and len(endings) <= 3


def test_a_preview_that_cannot_be_queued_says_so_once(page: Page) -> None:
    workflow = json.loads((TEMPLATES / "gate.json").read_text("utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.evaluate("delete window.turned")
    unhandled: list[str] = []
    page.on("pageerror", lambda error: unhandled.append(str(error)))
    toast = page.get_by_text("ComfyUI answered 500 Internal Server Error to /prompt.")
    page.route("**/api/prompt", lambda route: route.fulfill(status=500, body="<html>Proxy</html>"))
    for value in (0.2, 0.3):
        page.evaluate(TURN, value)
        page.wait_for_timeout(1000)  # both the preview and the picture
    assert toast.count() == 1 and toast.is_visible()
    page.unroute("**/api/prompt")
    page.route("**/api/prompt", lambda route: route.abort())
    page.evaluate(TURN, 0.4)
    page.get_by_text("ComfyUI does not answer: restart it").first.wait_for()
    page.wait_for_timeout(800)
    page.unroute("**/api/prompt")
    # A removed gate paints nothing, whichever node has its id by then.
    queued: list[str] = []
    page.on("request", lambda request: queued.append(request.url) if request.url.endswith("/api/prompt") else None)
    again = "const kept = app.graph.serialize(); app.graph.clear(); app.graph.configure(kept)"
    page.evaluate(f"value => {{ ({TURN})(value); {again} }}", 0.5)
    page.wait_for_timeout(1000)
    assert not unhandled and not queued


def test_the_switch_is_not_part_of_the_workflow(page: Page) -> None:
    workflow = json.loads((TEMPLATES / "gate.json").read_text("utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    before = page.evaluate("app.graph.serialize().nodes.map(node => node.widgets_values)")
    page.evaluate(
        "app.graph.nodes.filter(n => n.type === 'M2Chat_FuseM3Adapter')"
        ".forEach(n => { const live = n.widgets.find(w => w.name === 'live'); live.value = !live.value; })"
    )
    assert page.evaluate("app.graph.serialize().nodes.map(node => node.widgets_values)") == before
    given = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert not any("live" in node["inputs"] for node in given.values())


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_other_widgets_keep_their_values(page: Page, mode: str) -> None:
    graph = graphs.blocks(**({"mode": "fixed", "mode__value": 0.25} if mode == "fixed" else {}))
    page.evaluate("graph => app.loadApiJson(graph, 'test')", graph)
    saved = page.evaluate("app.graph.serialize()")
    page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    given = page.evaluate("async () => (await app.graphToPrompt()).output")
    inputs = next(node["inputs"] for node in given.values() if node["class_type"] == "M2Chat_FuseM3Adapter")
    assert inputs["gate"] == 1.0 and inputs["mode"] == mode and inputs.get("mode.value", 0.25) == 0.25


def test_a_gate_on_references_paints_again_by_the_stock_sampler(comfy: ComfyServer, page: Page) -> None:
    node = graphs.node
    graph = {
        "toy": node("ToyPainter", family="flux2_klein"),
        "gate": node("M2Chat_GateReferences", model=["toy", 0], gate=1.0, start_percent=0.0, end_percent=1.0),
        "grey": node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080),
        "latent": node("VAEEncode", pixels=["grey", 0], vae=["toy", 2]),
        "said": node("CLIPTextEncode", clip=["toy", 1], text="a fox"),
        "sees": node("ReferenceLatent", conditioning=["said", 0], latent=["latent", 0]),
        "empty": node("EmptyFlux2LatentImage", width=64, height=64, batch_size=1),
        "sample": node(
            "KSampler", model=["gate", 0], positive=["sees", 0], negative=["said", 0], latent_image=["empty", 0],
            seed=1, steps=6, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["toy", 2]),
        "picture": node("PreviewImage", images=["decode", 0]),
    }  # fmt: skip
    page.evaluate("graph => app.loadApiJson(graph, 'test')", graphs.numbered(graph))
    page.evaluate("window.turned = app.graph.nodes.find(n => n.type === 'M2Chat_GateReferences')")
    page.evaluate(RECORD)
    page.evaluate(SWITCH, True)
    page.evaluate(TURN, 0.4)
    page.wait_for_function("window.ran.filter(([name]) => name === 'execution_success').length === 2", timeout=PATIENCE)
    history = sorted(comfy.get("/history").values(), key=lambda entry: entry["prompt"][0])[-2:]
    ran = [{each["class_type"]: each["inputs"] for each in entry["prompt"][2].values()} for entry in history]
    assert [each["KSampler"]["steps"] for each in ran] == [4, 6]
    assert [each["M2Chat_GateReferences"]["gate"] for each in ran] == [0.4, 0.4]
