"""What nodes show stays shown: when a run has ended, after a reload, between tabs, from the cache, after an undo."""

from __future__ import annotations

import json
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import graphs
import looks
from comfy_server import ComfyServer
from graphs import node
from tools import environment

PATIENCE = 300_000
WEB = environment.REPO / "web"
READY = "window.app?.extensionManager?.setting && window.app.graph?.nodes?.length"
TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
# The visible output of each node.
SHOWN = """() => Object.fromEntries(app.graph.nodes.flatMap(node => {
  const element = node.widgets?.find(widget => widget.name === 'm2chat_shown')?.element;
  return element?.isConnected && element.checkVisibility() ? [[node.type.slice(7), element.innerText]] : [];
}))"""
SAID = "<b onclick='window.hurt = 1'>A fox</b> <img src='nowhere' onerror='window.hurt = 1'> on the beach."
FIXED = (
    "for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])"
    " if (widget.name === 'control_after_generate') widget.value = 'fixed'"
)
# The text on the story's node after each update sent during the run.
WATCH = """() => { window.grown = []; app.api.addEventListener('progress_text', () => setTimeout(() => {
  const story = app.graph.nodes.find(node => node.type === 'M2Chat_Story');
  window.grown.push(story.widgets.filter(widget => widget.isVisible?.() && typeof widget.value === 'string')
    .map(widget => [widget.name, widget.value]).filter(([name]) => name !== 'premise' && name !== 'outline'));
})) }"""


def story(seed: int) -> graphs.Graph:
    """A story of two panels, with a node of every kind that shows text beside it."""
    lines = f"{SAID}\nIt is night."
    told = {"premise": "A fox.", "panels": 2, "gate": 1.0, "seed": ["seed", 0], "outline": ["outline", 0]}
    told["max_length"] = 8  # of such an outline the starter would say that it is no story, if it came to an end
    return {
        "load": node("M2Chat_LoadStarter"),
        "seed": node("M2Chat_TurnSeed", seed=seed, panel=1, reroll=0),
        "outline": node("M2Chat_Outline", premise="A fox.", panels=2, seed=0, lines=lines),
        "story": node("M2Chat_Story", **graphs.MODELS, **told, **graphs.PAINT),
        "save": node("M2Chat_SaveSession", conversation=["story", 0], name="shown"),
        "show": node("M2Chat_ShowConversation", conversation=["save", 0]),
        "export": node("M2Chat_ExportStory", conversation=["story", 0], filename_prefix="M2Chat/shown", format="html"),
    }


def run(page: Page) -> None:
    """Press Run, and wait for its end."""
    page.evaluate("window.ended = false; app.api.addEventListener('execution_success', () => (window.ended = true))")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait_for_function("window.ended", timeout=PATIENCE)
    page.wait_for_timeout(400)  # what front ends clear away at the end of a job is gone by then


@pytest.fixture(scope="module")
def told(look_page: Page, look: looks.Look) -> Iterator[tuple[Page, dict[str, str]]]:
    """The page with the story told, and what its nodes show then."""
    page = look_page
    page.evaluate("graph => app.loadApiJson(graph, 'told')", graphs.numbered(story(looks.ALL.index(look))))
    page.wait_for_timeout(300)
    page.evaluate(FIXED)
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.evaluate(WATCH)
    run(page)
    return page, page.evaluate(SHOWN)


def go_to(page: Page, name: str) -> None:
    """Go from tab to tab until that workflow is on the canvas."""
    for _ in range(6):
        page.evaluate("app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
        page.wait_for_timeout(1000)
        if page.evaluate("app.extensionManager.workflow.activeWorkflow.filename") == name:
            return
    raise AssertionError(f"no tab has the workflow {name}")


def stays(page: Page, before: dict[str, str]) -> None:
    """Assert that everything shown before is still shown."""
    page.wait_for_function(
        f"before => {{ const now = ({SHOWN})(); return Object.keys(before).every(key => now[key] === before[key]) }}",
        arg=before,
        timeout=20_000,
    )


def test_texts_paths_and_pictures_stand_on_their_nodes_when_the_run_has_ended(
    told: tuple[Page, dict[str, str]], comfy: ComfyServer
) -> None:
    page, shown = told
    assert set(shown) == {"TurnSeed", "Outline", "Story", "SaveSession", "ShowConversation", "ExportStory"}
    assert shown["Outline"].startswith(SAID) and shown["SaveSession"].startswith("Saved as 'shown'")
    path = Path(shown["ExportStory"].splitlines()[-1])
    assert path.name == "story.html" and path.is_file()
    # Text, picture, caption, in order; what looks like markup is text.
    order = page.locator(".m2chat-shown-turn > *").evaluate_all("all => all.map(element => element.localName)")
    assert order[:2] == ["h4", "div"] and "figure" in order and order.index("figure") > order.index("div")
    conversation = page.locator(".m2chat-shown", has=page.locator(".m2chat-shown-turn"))
    assert SAID in conversation.inner_text() and page.evaluate("window.hurt") is None
    assert all(part in conversation.inner_text() for part in shown["Story"].split("\n\n"))
    image = conversation.locator("img").first.element_handle()
    page.wait_for_function("image => image.naturalWidth", arg=image, timeout=PATIENCE)


def test_a_text_grows_where_its_result_will_stand(told: tuple[Page, dict[str, str]]) -> None:
    page, shown = told
    grown = [dict(widgets) for widgets in page.evaluate("window.grown") if widgets]
    assert {name for widgets in grown for name in widgets} == {"m2chat_shown"}  # and not in ComfyUI's widget as well
    texts = list(dict.fromkeys(widgets["m2chat_shown"] for widgets in grown))
    assert len(texts) >= 2 and sorted(texts, key=len) == texts
    assert shown["Story"].startswith(texts[0])


def test_it_stays_between_tabs(told: tuple[Page, dict[str, str]]) -> None:
    page, shown = told
    page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("app.graph.nodes.length === 0", timeout=PATIENCE)
    go_to(page, "told")
    stays(page, shown)


def test_it_stays_after_an_undo(told: tuple[Page, dict[str, str]]) -> None:
    page, shown = told
    page.evaluate(f"app.graph.nodes[0].pos = [7, 7]; ({TRACKER}).captureCanvasState?.() ?? ({TRACKER}).checkState?.()")
    page.evaluate(f"({TRACKER}).undo()")
    page.wait_for_function("app.graph.nodes.length && app.graph.nodes[0].pos[0] !== 7", timeout=PATIENCE)
    stays(page, shown)


def test_it_is_there_after_a_reload_and_a_run_in_which_nothing_had_to_be_done(
    told: tuple[Page, dict[str, str]],
) -> None:
    page, shown = told
    page.reload()
    page.wait_for_function(READY, timeout=PATIENCE)
    stays(page, shown)
    page.evaluate("localStorage.clear(); app.nodeOutputs = {}")
    page.evaluate("for (const node of app.graph.nodes) node.widgets?.find(w => w.name === 'm2chat_shown')?.show({})")
    run(page)
    stays(page, shown)


@pytest.mark.parametrize("look", looks.FRONT_ENDS, ids=str, indirect=True)
def test_a_run_shows_nothing_on_another_workflow(told: tuple[Page, dict[str, str]]) -> None:
    page, _ = told
    page.evaluate("app.graph.nodes.find(n => n.type === 'M2Chat_TurnSeed').widgets[0].value = 77")
    page.evaluate("window.queued = 0; app.api.addEventListener('execution_start', () => (window.queued = 1))")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait_for_function("window.queued", timeout=PATIENCE)
    page.evaluate("graph => app.loadApiJson(graph, 'other')", graphs.numbered(story(0)))
    page.wait_for_function("app.ui.lastQueueSize === 0", timeout=PATIENCE)
    page.wait_for_timeout(500)
    assert not "".join(page.evaluate(SHOWN).values())
    go_to(page, "told")
    assert page.evaluate(SHOWN)["TurnSeed"] == "77"
    go_to(page, "other")
    assert not "".join(page.evaluate(SHOWN).values())
    go_to(page, "told")


def test_a_click_enlarges_a_picture(told: tuple[Page, dict[str, str]]) -> None:
    page, _ = told
    page.locator(".m2chat-shown-picture").first.click()
    large = page.locator("dialog.m2chat-lightbox")
    size = large.locator("img").evaluate("image => image.getBoundingClientRect().height")
    assert size > 500 and large.locator("img").get_attribute("alt")
    first = large.locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert large.locator("img").get_attribute("src") != first
    page.keyboard.press("Escape")
    large.wait_for(state="detached")


def test_the_exported_page_opens_beside_comfyui(told: tuple[Page, dict[str, str]]) -> None:
    page, _ = told
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open story.html").click()
    story = opened.value
    story.wait_for_load_state()
    assert SAID in story.locator("body").inner_text()
    assert story.evaluate("document.images.length && [...document.images].every(image => image.naturalWidth)")
    story.close()


# Without a page


def texts(entry: dict[str, Any]) -> dict[str, list[str]]:
    """What a run's nodes show, by their ids."""
    return {key: output["text"] for key, output in entry["outputs"].items() if output.get("text")}


def test_a_run_from_the_cache_says_what_every_node_shows(comfy: ComfyServer) -> None:
    graph = graphs.conversation()
    graph["reply"] = graphs.reply()
    graph["written"] = node("M2Chat_WriteStory", **graphs.LANGUAGE, premise="A fox.", panels=1, seed=1, max_length=24)
    said = {"conversation": ["reply", 0], "text": "And then?", "gate": 1.0, "seed": 3}
    graph["turn"] = node("M2Chat_Turn", **graphs.MODELS, **said, **graphs.PAINT)
    graph["show"] = node("M2Chat_ShowConversation", conversation=["turn", 0])
    graph["other"] = node("M2Chat_ShowConversation", conversation=["written", 0])
    first = texts(comfy.run(graph))
    assert set(first) == {"reply", "written", "turn", "show", "other"}
    assert texts(comfy.run(graph)) == first


def test_a_conversation_is_shown_in_its_order(comfy: ComfyServer) -> None:
    graph = graphs.conversation("A fox.", pictures__picture_0=["picture", 0])
    graph["picture"] = node("EmptyImage", width=8, height=8, batch_size=2, color=255)
    del graph["load"]
    graph["show"] = node("M2Chat_ShowConversation", conversation=["user", 0])
    output = comfy.run(graph)["outputs"]["show"]
    (turn,) = output["turns"]
    assert turn["role"] == "user"
    assert sorted(next(iter(segment)) for segment in turn["segments"]) == ["picture", "picture", "text"]
    assert [segment["picture"] for segment in turn["segments"] if "picture" in segment] == output["images"]


def test_only_web_pages_of_the_output_folder_are_shown_and_they_can_do_nothing(
    comfy: ComfyServer, browser: Browser
) -> None:
    (comfy.base / "user" / "secret.html").write_text("secret", "utf-8")
    (comfy.output_dir / "note.txt").write_text("note", "utf-8")
    script = "document.title = 'ran'; fetch('/system_stats').then(() => (document.title = 'asked'))"
    (comfy.output_dir / "bad.html").write_text(f"<title>bad</title><script>{script}</script>", "utf-8")
    for path in ("%2e%2e/user/secret.html", "..%2fuser%2fsecret.html", "note.txt", "M2Chat", "none.html", "%00.html"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            comfy.request(f"/m2chat/pages/{path}")
    page = browser.new_page()
    policy = page.goto(f"{comfy.url}/m2chat/pages/bad.html").headers["content-security-policy"]
    page.wait_for_timeout(300)
    assert page.title() == "bad" and policy.startswith("sandbox;")
    page.close()


def test_a_text_is_never_markup_in_what_shows_it() -> None:
    for path in (WEB / "shown.js", *(WEB / "shown").glob("*.js")):
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser", path.read_text("utf-8"))
        assert not found, path


@pytest.mark.parametrize("look", looks.FRONT_ENDS[:1], ids=str, indirect=True)
def test_what_the_browser_keeps_may_be_broken(look_page: Page) -> None:
    page = look_page
    page.evaluate("graph => app.loadApiJson(graph, 'broken')", graphs.numbered(story(0)))
    page.wait_for_timeout(300)
    mark = page.evaluate("app.graph.extra.m2chatShown")
    workflow = page.evaluate("app.graph.serialize()")
    for kept in (
        "{",
        "null",
        "[]",
        '{"outputs": 3}',
        json.dumps({"outputs": {"3": 5, "4": {"text": "no list"}, "6": {"turns": [7]}}}),
    ):
        page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [f"M2Chat.Shown.{mark}", kept])
        page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        assert page.evaluate("app.graph.nodes.length") == 7


@pytest.mark.parametrize("look", looks.FRONT_ENDS[:1], ids=str, indirect=True)
def test_notes_stand_before_the_text_are_no_markup_and_are_kept(look_page: Page) -> None:
    output = {"text": ["A fox ran."], "notes": ["The story ends after 2 of 3 panels, for <b>it</b> failed."]}
    shown, kept = look_page.evaluate(
        """async (output) => {
          const [view, memory] = await Promise.all(
            ["view", "memory"].map((name) => import(`/extensions/m2chat/shown/${name}.js`)));
          return [view.elementsOf(output).map((each) => each.textContent), memory.shownOf(output)];
        }""",
        output,
    )
    assert shown == [*output["notes"], *output["text"]] and kept == output
