"""The pack in ComfyUI's page: a new user opens a template, presses Run and reads a story."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import graphs
from comfy_server import ComfyServer
from tools import chromium, environment

# The folder for screenshots of the workflows, run as they are; the test's own folder by default.
SCREENSHOTS = "M2CHAT_SCREENSHOTS"
TEMPLATES = environment.REPO / "workflows"
PATIENCE = 120_000


@pytest.fixture(scope="module")
def page(comfy: ComfyServer, browser: Browser) -> Iterator[Page]:
    """ComfyUI's page, ready for use."""
    page = chromium.open_page(browser, comfy.url, 1900, 1100)
    yield page
    page.close()


def run(page: Page, outputs: int) -> None:
    """Press Run and wait until that many nodes have something to show."""
    page.evaluate("app.nodeOutputs = {}")
    page.get_by_role("button", name="Run", exact=True).first.click()
    shown = "count => Object.values(app.nodeOutputs).filter(o => o.images || o.text).length >= count"
    page.wait_for_function(shown, arg=outputs, timeout=10 * PATIENCE)
    page.wait_for_function("app.ui.lastQueueSize === 0", timeout=PATIENCE)
    page.wait_for_timeout(1500)  # until the last pictures are drawn


def screenshot(page: Page, path: Path) -> None:
    """A screenshot in which files appear by name only, without their folders on this machine."""
    page.evaluate(
        "for (const node of app.graph.nodes.filter(node => node.type === 'M2Chat_ExportStory'))"
        " for (const words of node.widgets.at(-1).element?.querySelectorAll('.m2chat-shown-words') ?? [])"
        " words.textContent = words.textContent.replace(/^.*[\\\\/](?=[^\\\\/]+[\\\\/][^\\\\/]+$)/s, '')"
    )
    page.wait_for_timeout(500)
    page.screenshot(path=path)


def open_template(page: Page, name: str) -> None:
    """Choose one of the pack's templates in the template browser."""
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("m2chat", exact=True).first.click(timeout=PATIENCE)
    for other in graphs.NAMES:
        page.get_by_text(other, exact=True).first.wait_for(timeout=PATIENCE)
    page.get_by_text(name, exact=True).first.click()
    page.wait_for_function("app.graph.nodes.some(node => node.type === 'M2Chat_LoadStarter')", timeout=PATIENCE)


def test_the_storybook_is_found_opened_and_told(page: Page, tmp_path: Path) -> None:
    open_template(page, "storybook")
    assert page.evaluate("app.graph.nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).length") == 0
    folder = Path(os.environ.get(SCREENSHOTS, tmp_path))
    if folder == tmp_path:
        page.evaluate(
            "for (const widget of app.graph.nodes.find(node => node.type === 'M2Chat_Story').widgets)"
            " widget.value = { panels: 2, steps: 2 }[widget.name] ?? widget.value"
        )
    run(page, 3)
    read = "type => app.nodeOutputs[app.graph.nodes.find(node => node.type === type).id]"
    story = page.evaluate(read, "M2Chat_ShowConversation")
    assert story["text"][0].startswith("You: ") and len(story["images"]) >= 2
    assert page.evaluate(read, "M2Chat_ExportStory")["text"][0].endswith("story.html")
    text = "node => node.widgets?.some(widget => widget.name === 'm2chat_shown' && widget.value)"
    told = page.evaluate(f"app.graph.nodes.filter({text}).map(node => node.type)")
    assert set(told) == {"M2Chat_Story", "M2Chat_ShowConversation", "M2Chat_ExportStory"}
    screenshot(page, folder / "storybook.png")


@pytest.mark.parametrize("name", graphs.NAMES)
def test_a_template_in_the_page_is_its_twin(page: Page, name: str) -> None:
    page.evaluate(
        "workflow => app.loadGraphData(workflow)", json.loads((TEMPLATES / f"{name}.json").read_text("utf-8"))
    )
    given = page.evaluate("async () => (await app.graphToPrompt()).output")
    twin = graphs.load(graphs.WORKFLOWS / f"{name}.json")
    assert {key: (node["class_type"], node["inputs"]) for key, node in given.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in twin.items()
    }
    if folder := os.environ.get(SCREENSHOTS):
        outputs = sum(node["class_type"] in ("PreviewImage", "M2Chat_ShowConversation") for node in twin.values())
        run(page, outputs)
        screenshot(page, Path(folder) / f"{name}.png")


def test_a_picture_of_an_exported_story_brings_its_workflow_back(page: Page) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", json.loads((TEMPLATES / "book.json").read_text("utf-8")))
    page.evaluate(
        "for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])"
        " widget.value = { panels: 1, steps: 2, page_width: 512, premise: 'A fox.' }[widget.name] ?? widget.value"
    )
    run(page, 3)
    kinds = "app.graph.nodes.map(node => node.type).sort()"
    before = page.evaluate(kinds)
    images = page.evaluate(
        "app.graph.nodes.map(node => app.nodeOutputs[node.id]?.images?.[0]).filter(image => image?.type === 'output')"
    )
    assert {image["filename"].split("_")[0] for image in images} == {"comic", "panel"}
    for image in images:
        page.evaluate("app.graph.clear()")
        page.evaluate(
            "async image => { const data = await (await fetch('/view?' + new URLSearchParams(image))).blob();"
            " await app.handleFile(new File([data], image.filename, { type: 'image/png' })) }",
            image,
        )
        page.wait_for_function("count => app.graph.nodes.length === count", arg=len(before), timeout=PATIENCE)
        assert page.evaluate(kinds) == before
        premise = "app.graph.nodes.find(node => node.type === 'M2Chat_Story').widgets.find(w => w.name === 'premise')"
        assert page.evaluate(f"{premise}.value") == "A fox."


def test_what_people_write_is_shown_and_not_run(page: Page) -> None:
    said = "<img src='nowhere' onerror='window.hurt = true'><script>window.hurt = true</script>"
    graph = graphs.conversation(said)
    del graph["load"]
    graph["show"] = graphs.node("M2Chat_ShowConversation", conversation=["user", 0])
    page.evaluate("graph => app.loadApiJson(graph, 'test')", graphs.numbered(graph))
    run(page, 1)
    assert page.evaluate("app.nodeOutputs[3].text[0]") == f"You: {said}"
    assert said in page.locator(".m2chat-shown-turn").inner_text()
    assert page.evaluate("window.hurt") is None


def test_the_help_of_a_node_shows_its_picture(page: Page) -> None:
    page.evaluate(
        "app.graph.clear(); const node = LiteGraph.createNode('M2Chat_Decode'); app.graph.add(node);"
        " app.canvas.centerOnNode(node); app.canvas.selectItems([node])"
    )
    page.get_by_test_id("info-button").click(timeout=PATIENCE)
    picture = page.locator(".node-help-content img")
    picture.wait_for(timeout=PATIENCE)
    assert picture.get_attribute("src") == "/extensions/m2chat/docs/images/M2Chat_Decode.webp"
    page.wait_for_function("image => image.complete", arg=picture.element_handle(), timeout=PATIENCE)
    assert picture.evaluate("image => image.naturalWidth") > 0
