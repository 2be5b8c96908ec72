"""The templates at first sight: what a person sees on opening one on a small screen, in every look of ComfyUI."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import graphs
import looks
from chat_page import CONTRAST
from comfy_server import ComfyServer
from looks import Look
from tools import environment
from tools.templates import edit, files, painters, sdxl, starter, zimage

TEMPLATES = environment.REPO / "workflows"
# Set to a folder, it takes screenshots of the templates there.
SCREENSHOTS = "M2CHAT_SCREENSHOTS"
PATIENCE = 120_000
WIDTH, HEIGHT = 1280, 720
LEAST = 0.7  # of their own size: letters of 14 pixels are then 10 high, and below 0.57 the classic canvas draws none

# What the page shows of each node, title included, in its own pixels, and how a template comes to be shown.
OPEN = """async ([workflow, name]) => {
  await app.loadGraphData(workflow, true, true, name, { openSource: "template" });
  for (let last, now = ""; last !== now || !now; ) {
    await new Promise(done => setTimeout(done, 300));
    [last, now] = [now, JSON.stringify([app.canvas.ds.scale, ...app.canvas.ds.offset])];
  }
}"""
SEEN = """() => {
  const { scale, offset } = app.canvas.ds;
  const nodes = app.graph.nodes.map(node => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const [x, y, width, height] = node.boundingRect;
    const box = drawn ? [drawn.x, drawn.y, drawn.width, drawn.height]
      : [(x + offset[0]) * scale, (y + offset[1]) * scale, width * scale, height * scale];
    return { title: node.title, type: node.type, box, low: app.canvas.low_quality && !drawn };
  });
  return { scale, nodes };
}"""


def template(name: str) -> dict[str, Any]:
    """Read a template."""
    return json.loads((TEMPLATES / f"{name}.json").read_text("utf-8"))


def nodes_of(name: str) -> list[dict[str, Any]]:
    """All nodes of a template, those in its subgraphs too."""
    return [node for canvas in graphs.canvases(template(name)) for node in canvas["nodes"]]


def test_templates_are_what_is_written_of_them(comfy: ComfyServer) -> None:
    info = comfy.object_info()
    made = (*starter.ALL, *sdxl.ALL, *painters.ALL, *zimage.ALL, *edit.ALL)
    written = {make.__name__: make(info) for make in made}
    assert sorted(written) == graphs.NAMES
    for name in graphs.NAMES:
        assert written[name] == template(name), "run python -m tools.templates"


@pytest.mark.both_looks
@pytest.mark.parametrize("look", looks.ALL, ids=str, indirect=True)
def test_the_page_has_the_front_end_and_the_nodes_that_were_asked_for(look_page: Page, look: Look) -> None:
    version = look_page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")
    pinned = environment.FRONT_END_PIN.read_text("utf-8").splitlines()[-1].split()[0].partition("==")[2]
    assert (version == pinned) == look.newest and version
    look_page.evaluate("app.graph.clear(); void app.graph.add(LiteGraph.createNode('M2Chat_LoadStarter'))")
    look_page.wait_for_timeout(500)
    assert look_page.locator("[data-node-id]").count() == look.nodes_2
    # The pack's own scripts come from the server, whatever the front end.
    assert look_page.evaluate("app.extensions.filter(each => each.name.startsWith('M2Chat')).length") >= 2


@pytest.mark.both_looks
@pytest.mark.parametrize("look", looks.ALL, ids=str, indirect=True)
def test_every_template_is_read_at_first_sight(look_page: Page, look: Look) -> None:
    for name in graphs.NAMES:
        look_page.evaluate(OPEN, [template(name), name])
        seen = look_page.evaluate(SEEN)
        if folder := os.environ.get(SCREENSHOTS):
            look_page.screenshot(path=Path(folder) / f"{name}-{look}.png")
        assert seen["scale"] >= LEAST, (name, seen["scale"])
        boxes = []
        for node in seen["nodes"]:
            x, y, width, height = node["box"]
            assert not node["low"], (name, node, "drawn as a grey box")
            assert min(x, y) >= 0 and x + width <= WIDTH and y + height <= HEIGHT, (name, node)
            assert width >= 180 and height >= 40, (name, node)
            boxes.append((node["title"], (x, y, x + width, y + height)))
        for index, (one, a) in enumerate(boxes):
            for other, b in boxes[index + 1 :]:
                apart = a[0] >= b[2] - 1 or b[0] >= a[2] - 1 or a[1] >= b[3] - 1 or b[1] >= a[3] - 1
                assert apart, (name, one, other)
        if look.nodes_2:
            text = look_page.locator("[data-node-id='1'] p").first
            assert text.evaluate(CONTRAST) >= 4.5, (name, "its note is hard to read")
        saved = look_page.evaluate("async () => (await app.graphToPrompt()).workflow.nodes")
        assert [node.get("bgcolor") for node in saved if node["type"] == "MarkdownNote"] == [
            node["bgcolor"] for node in template(name)["nodes"] if node["type"] == "MarkdownNote"
        ], "another colour after a reload"
        prompt = look_page.evaluate("async () => (await app.graphToPrompt()).output")
        twin = graphs.load(graphs.WORKFLOWS / f"{name}.json")
        assert {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()} == {
            key: (node["class_type"], node["inputs"]) for key, node in twin.items()
        }, name


def test_every_type_of_wire_has_a_colour_of_its_own(look_page: Page, comfy: ComfyServer) -> None:
    types = {
        kind
        for name, info in comfy.object_info().items()
        if name.startswith("M2Chat_")
        for kind in info["output"]
        if kind.startswith("M2CHAT_")
    }
    for palette in ("light", "dark"):
        look_page.evaluate("id => app.extensionManager.setting.set('Comfy.ColorPalette', id)", palette)
        look_page.wait_for_timeout(500)
        colours = look_page.evaluate(
            """types => [
              types.map(type => LGraphCanvas.link_type_colors[type]),
              types.map(type => app.canvas.default_connection_color_byType[type]),
              types.map(type => getComputedStyle(document.body).getPropertyValue(`--color-datatype-${type}`)),
            ]""",
            sorted(types),
        )
        links, slots, dots = colours
        assert len(set(links)) == len(types) and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in links)
        assert links == slots == dots


def test_the_simplest_template_stands_first(look_page: Page) -> None:
    listed = look_page.evaluate("async () => (await import('/scripts/api.js')).api.getWorkflowTemplates()")["m2chat"]
    assert listed[:3] == ["storybook", "gate", "dialogue"] and sorted(listed) == graphs.NAMES
    # Whatever the pack's folder is called: ComfyUI lists the templates by its name, and serves scripts by its address.
    address = "http://there/extensions/M%C2%B2Chat%20for%20ComfyUI/source.js"
    source = "async address => (await import('/extensions/m2chat/source.js')).sourceOf(address)"
    assert look_page.evaluate(source, address) == "M²Chat for ComfyUI"


@pytest.mark.parametrize("name", graphs.NAMES)
def test_a_note_is_legible_and_names_are_words(name: str) -> None:
    for node in nodes_of(name):
        if node["type"] == "MarkdownNote":
            (text,) = node["widgets_values"]
            assert "`" not in text, "Nodes 2.0 shows code blue on brown"
            known = [file for file in vars(files).values() if isinstance(file, dict) and "directory" in file]
            for stem in sorted((Path(file["name"]).stem for file in known), key=len, reverse=True):
                text = text.replace(stem, "")
            assert "_" not in text, "a name for people"
        assert "_" not in node.get("title", "")
        for slot in [*node.get("inputs", []), *node.get("outputs", [])]:
            assert "_" not in slot.get("label", "")


# Files


@pytest.mark.parametrize("name", graphs.NAMES)
def test_every_public_file_says_where_it_is_to_be_had(name: str, comfy: ComfyServer) -> None:
    folders = comfy.get("/models")
    for node in nodes_of(name):
        meant = [value for value in node.get("widgets_values", []) if str(value).endswith(".safetensors")]
        models = {model["name"]: model for model in node["properties"].get("models", [])}
        if node["type"] == "M2Chat_LoadAdapter":  # no such file has been published
            assert not models
            continue
        # ComfyUI finds the file that is missing by what the node lists, with the folder in front where it lists that.
        assert set(models) == set(meant), node["type"]
        for listed, model in models.items():
            assert model["directory"] in folders
            assert listed.removeprefix(f"{model['directory']}/") == listed.rpartition("/")[2]
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(".safetensors")
            hashed = ("hash" in model, "hash_type" in model)  # ComfyUI's own templates state none for most files
            assert not any(hashed) or (model["hash_type"] == "SHA256" and re.fullmatch("[0-9a-f]{64}", model["hash"]))


def test_the_checkpoint_is_the_one_that_most_people_have() -> None:
    loaders = [node for name in graphs.NAMES for node in nodes_of(name)]
    chosen = {
        node["widgets_values"][0].rpartition("/")[2]
        for node in loaders
        if node["type"] in ("CheckpointLoaderSimple", "M2Chat_LoadDecoder")
    }
    assert chosen == {files.SDXL["name"]} == {"sd_xl_base_1.0.safetensors"}


@pytest.fixture(scope="module", autouse=True)
def no_public_file_is_there(comfy: ComfyServer) -> Iterator[None]:
    """Other tests put small models under the names of public files; these pages must not see them."""
    models = comfy.base / "models"
    known = [
        model for name in graphs.NAMES for node in nodes_of(name) for model in node["properties"].get("models", [])
    ]
    there = {path for model in known for path in models.rglob(model["name"]) if path.is_file()}
    for path in there:
        path.rename(path.with_name(f"{path.name}.away"))
    yield
    for path in there:
        path.with_name(f"{path.name}.away").rename(path)


def test_comfyui_offers_the_files_that_are_missing(look_page: Page) -> None:
    name = "sdxl_consistent_story"
    look_page.evaluate(OPEN, [template(name), name])
    look_page.get_by_role("button", name="View details").first.click(timeout=PATIENCE)
    for model in {model["name"] for node in nodes_of(name) for model in node["properties"].get("models", [])}:
        look_page.get_by_text(model, exact=True).first.wait_for(timeout=PATIENCE)
    assert look_page.get_by_role("button", name=re.compile("^Download")).count() >= 4
