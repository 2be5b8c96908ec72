"""What the chat panel queues is a job like any other, in both front ends: listed, with its pictures and workflow."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

import looks
from chat_page import ChatPage
from comfy_server import ComfyServer
from tools import environment

# The workflow on the canvas, and whether ComfyUI marks it as changed.
OPEN = """() => {
  const open = app.extensionManager.workflow.activeWorkflow;
  const tracker = open.changeTracker;
  tracker.captureCanvasState?.() ?? tracker.checkState?.();
  return [app.graph.serialize(), open.isModified];
}"""


def kinds(graph: dict) -> list[str]:
    return sorted(node["class_type"] for node in graph.values())


@pytest.mark.parametrize("look", looks.FRONT_ENDS, ids=str, indirect=True)
def test_a_message_is_a_job_with_pictures_and_a_workflow(
    comfy: ComfyServer, browser: Browser, look: looks.Look
) -> None:
    chat = ChatPage(browser, comfy.url, look=look)
    page = chat.page
    before = page.evaluate(OPEN)
    assert before[0]["nodes"] and "m2chatShown" not in before[0]["extra"]
    chat.panel.get_by_text("Models and painting").click()
    for label, side in (("Width", "64"), ("Height", "48")):
        chat.panel.get_by_label(label).fill(side)
        chat.panel.get_by_label(label).press("Tab")
    chat.say("A fox finds a kite on the beach.")
    assert not chat.has_error and page.evaluate(OPEN) == before
    size = chat.panel.locator(".m2chat-frame img").first.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert size == [64, 48]
    job = comfy.get("/api/jobs?sort_by=created_at&sort_order=desc")["jobs"][0]
    assert job["status"] == "completed" and job["preview_output"]["mediaType"] == "images"
    picture = job["preview_output"]["filename"]
    page.evaluate("app.extensionManager.command.execute('Workspace.ToggleSidebarTab.assets')")
    page.get_by_role("img", name=re.compile(re.escape(picture.removesuffix(".png")))).first.wait_for()
    queued = comfy.history(job["id"])["prompt"]
    workflow = queued[3]["extra_pnginfo"]["workflow"]
    assert workflow["id"] == job["workflow_id"]
    turn = next(node for node in queued[2].values() if node["class_type"] == "M2Chat_Turn")["inputs"]
    assert (turn["width"], turn["height"]) == (64, 48)
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    opened = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert kinds(opened) == sorted([*kinds(queued[2]), "M2Chat_ShowConversation"])
    for kind in ("M2Chat_UserMessage", "M2Chat_Turn"):
        given, asked = ({n["class_type"]: n["inputs"] for n in graph.values()}[kind] for graph in (opened, queued[2]))
        plain = {name: value for name, value in asked.items() if not isinstance(value, list)}
        assert plain.items() <= given.items()
    page.close()


def test_no_script_queues_a_prompt_without_its_workflow() -> None:
    scripts = {path.name: path.read_text("utf-8") for path in (environment.REPO / "web").rglob("*.js")}
    calls = {name: re.findall(r"queuePrompt\([^;]*;", text) for name, text in scripts.items() if "queuePrompt(" in text}
    assert set(calls) == {"run.js", "live_gate.js"}
    assert all(re.search(r"output(: [^,]+)?, workflow }", call) for each in calls.values() for call in each)
