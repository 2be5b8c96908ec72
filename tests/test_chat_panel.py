"""The chat panel in ComfyUI's page: strange texts, two tabs, keys, pictures, stopping, models, nodes and themes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser

import graphs
from chat_page import CONTRAST, ChatPage
from comfy_server import ComfyServer
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.sessions import Sessions
from test_browser import SCREENSHOTS
from test_sessions import story

HOSTILE = "<img src='nowhere' onerror='window.hurt = true'><script>window.hurt = true</script><b onclick='hurt()'>&amp;"
LOAD = "graph => app.loadApiJson(graph, 'test')"
BIDI = "\u202eevil\u202c \u2066\u0639\u0644\u0649 \u200f\U0001f98a\u200d\U0001f525"


@pytest.fixture
def sessions(comfy: ComfyServer) -> Sessions:
    """The sessions of the server's default user, none of them left from another test."""
    found = Sessions(comfy.base / "user" / "default" / "m2chat" / "sessions")
    for each in found.list():
        found.delete(each.name)
    return found


@pytest.fixture(scope="module")
def opened(comfy: ComfyServer, browser: Browser) -> Iterator[ChatPage]:
    """The panel, one for all tests."""
    made = ChatPage(browser, comfy.url)
    yield made
    made.page.close()


@pytest.fixture
def chat(opened: ChatPage, sessions: Sessions) -> ChatPage:
    """The panel, with a new session."""
    opened.renew()
    return opened


def saved(sessions: Sessions, name: str, panels: int = 2) -> Conversation:
    return sessions.save(name, story(panels)).conversation


# Texts


def test_what_anybody_writes_is_text(chat: ChatPage, sessions: Sessions) -> None:
    long = "fox " * 25_000
    said = f"{HOSTILE}\n{BIDI}\x1b[31m\x00"
    conversation = Conversation().user(said).assistant([Text(said), Picture(HOSTILE)])
    conversation = conversation.with_picture(conversation.open_slots()[0], torch.zeros(8, 8, 3), seed=2**64 - 1)
    sessions.save("bold '&amp;", conversation.user(long))
    chat.reopen()
    chat.choose("bold '&amp;")
    words = chat.panel.locator(".m2chat-words").evaluate_all("all => all.map(each => each.textContent)")
    assert words == [f"{HOSTILE}\n{BIDI}[31m"] * 2 + [long.strip()]
    assert chat.captions() == [HOSTILE] and chat.seeds() == [f"seed {2**64 - 1}"]
    picture = chat.panel.get_by_alt_text(HOSTILE, exact=True)
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 8
    inside = "all => all.map(each => each.tagName).filter(tag => ['SCRIPT', 'B'].includes(tag))"
    assert chat.panel.locator("*").evaluate_all(inside) == []
    assert chat.page.evaluate("window.hurt") is None
    # Nothing overflows, and no direction mark affects what surrounds a text.
    assert chat.panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    style = chat.panel.locator(".m2chat-words").first.evaluate("words => getComputedStyle(words).unicodeBidi")
    assert style == "isolate"


def test_a_message_of_any_length_is_answered(chat: ChatPage, sessions: Sessions) -> None:
    long = f"{HOSTILE}{BIDI} " + "fox " * 25_000 + "!"
    chat.say(long)
    assert not chat.has_error and chat.page.evaluate("window.hurt") is None
    assert chat.turns.first.locator(".m2chat-words").evaluate("words => words.textContent") == long
    assert sessions.load(chat.session).conversation.turns[0].text == long and chat.turns.count() == 2


# Two tabs


def test_a_second_tab_does_not_replace_what_the_first_one_saved(
    chat: ChatPage, comfy: ComfyServer, sessions: Sessions, browser: Browser, tmp_path: Path
) -> None:
    saved(sessions, "two tabs", 1)
    chat.reopen()
    other = ChatPage(browser, comfy.url)
    for each in (chat, other):
        each.choose("two tabs")
    chat.say("What happens next?")
    first = sessions.load("two tabs")
    other.say("And then?")
    assert other.error.startswith(
        "Save Session: The session 'two tabs' is at revision 2 now, but this was made from revision 1: load it again"
    )
    assert sessions.load("two tabs").conversation == first.conversation
    assert other.box.input_value() == "And then?" and other.turns.count() == 2
    other.page.screenshot(path=tmp_path / "conflict.png")
    # Actions without a run are refused in the same way, and typed text stays, too.
    other.press("Edit this text")
    other.panel.get_by_role("textbox", name="This part of the reply").fill("Other words.")
    other.press("Save")
    other.until(lambda: other.error.startswith("The session 'two tabs' is at"))
    assert other.error.startswith("The session 'two tabs' is at revision 2 now")
    assert other.panel.get_by_role("textbox", name="This part of the reply").input_value() == "Other words."
    other.press("Load again")
    other.until(lambda: other.turns.count() == 4)
    assert other.turns.count() == 4 and not other.has_error
    assert other.panel.get_by_role("textbox", name="This part of the reply").input_value() == "Other words."
    other.box.press("Enter")
    other.idle()
    assert other.turns.count() == 6 and other.box.input_value() == ""
    other.page.close()


# Keys


def test_everything_is_done_with_keys_alone(chat: ChatPage, sessions: Sessions) -> None:
    page = chat.page

    def focused() -> str:
        return page.evaluate(
            "(e => e.getAttribute('aria-label') ?? (e.closest('label') ?? e).innerText)(document.activeElement)"
        )

    def to(name: str, key: str = "Tab") -> None:
        for _ in range(40):
            if focused().strip().startswith(name):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", name
                return
            page.keyboard.press(key)
        pytest.fail(f"no way to {name} by {key}")

    page.get_by_role("button", name="Chat with M²Chat").focus()
    to("A fox finds a kite on the beach.")
    page.keyboard.press("Enter")
    assert focused().startswith("Your message")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("It is night.")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    chat.idle()
    assert chat.said()[0] == "A fox finds a kite on the beach.\nIt is night."
    assert focused().startswith("Your message")
    spoken = chat.panel.locator("[aria-live=polite]").text_content()
    assert chat.said()[1] in spoken and f"Picture: {chat.captions()[0]}." in spoken
    to("Gate")
    page.keyboard.press("ArrowLeft")
    to("Re-roll this picture", "Shift+Tab")
    page.keyboard.press("Space")
    page.wait_for_timeout(300)
    chat.idle()
    assert chat.seeds()[0].endswith("gate 0.95") and focused().startswith("Your message")
    to("Edit caption", "Shift+Tab")
    page.keyboard.press("Enter")
    assert focused() == "What the picture should show"
    page.keyboard.press("Escape")
    assert focused() == "Edit caption"
    to("Edit this text", "Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("Other words.")
    page.keyboard.press("Enter")
    chat.until(lambda: chat.said()[1] == "Other words.")
    assert chat.said()[1] == "Other words."
    assert sessions.load(chat.session).conversation.turns[1].text == "Other words."
    to("Delete this session", "Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_timeout(700)
    page.keyboard.press("Escape")
    page.wait_for_timeout(700)
    assert len(sessions.list()) == 1


# Sessions


def test_a_session_is_renamed_rewound_and_deleted(chat: ChatPage, sessions: Sessions) -> None:
    whole = saved(sessions, "first", 3)
    saved(sessions, "second", 1)
    chat.reopen()
    chat.choose("first")
    chat.press("Rewind here", 0)
    chat.page.get_by_role("button", name="Confirm").click()
    chat.until(lambda: chat.turns.count() == 2)
    assert sessions.load("first").conversation.turns == whole.turns[:2] and chat.turns.count() == 2
    chat.press("Rename this session")
    chat.page.get_by_role("dialog").get_by_role("textbox").fill("../up")
    chat.page.keyboard.press("Enter")
    chat.until(lambda: chat.has_error)
    assert chat.error.startswith("The session's name") and chat.session == "first"
    chat.press("Rename this session")
    chat.page.get_by_role("dialog").get_by_role("textbox").fill("Third 🦊")
    chat.page.keyboard.press("Enter")
    chat.until(lambda: chat.session == "Third 🦊")
    assert chat.session == "Third 🦊" and {each.name for each in sessions.list()} == {"Third 🦊", "second"}
    chat.press("Delete this session")
    chat.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    chat.until(lambda: chat.session == "")
    assert chat.session == "" and [each.name for each in sessions.list()] == ["second"]


# Pictures


def test_pictures_are_attached_and_pasted(chat: ChatPage, sessions: Sessions, tmp_path: Path) -> None:
    red = tmp_path / "red.png"
    Image.new("RGB", (24, 16), "red").save(red)
    chat.panel.locator("input[type=file]").set_input_files(red)
    nodes = chat.page.evaluate("app.graph.nodes.length")
    chat.box.evaluate(
        """async (box) => {
          const canvas = Object.assign(document.createElement('canvas'), { width: 8, height: 8 });
          const blob = await new Promise(done => canvas.toBlob(done));
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([blob], 'pasted.png', { type: 'image/png' }));
          box.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
        }"""
    )
    tray = chat.panel.get_by_label("Pictures of the message")
    assert tray.locator("img").count() == 2 and chat.page.evaluate("app.graph.nodes.length") == nodes
    chat.press("Remove this picture")
    assert tray.locator("img").count() == 1
    chat.say("Who is this?")
    assert not chat.has_error and tray.locator("img").count() == 0
    shown = sessions.load(chat.session).conversation.turns[0].segments[0]
    assert shown.image.shape == (16, 24, 3) and shown.image[..., 0].min() == 1 and shown.image[..., 1:].max() == 0
    # Told again, the message keeps its picture, and so does one that follows.
    chat.say("What happens next?")
    chat.press("Re-roll reply", 0)
    chat.idle()
    turns = sessions.load(chat.session).conversation.turns
    assert len(turns) == 4 and turns[0].segments[0] == shown and turns[2].text == "What happens next?"


def test_the_panel_says_what_a_reply_was_written_without(chat: ChatPage) -> None:
    chat.say("A fox finds a kite on the beach. " * 300)
    assert not chat.has_error
    note = "The conversation is longer than the language model's context: 1 turn is shortened."
    assert chat.panel.get_by_role("status").inner_text() == f"Saved. {note}"


# Stopping, and what goes wrong


def test_what_is_told_before_a_stop_is_saved(chat: ChatPage, sessions: Sessions) -> None:
    chat.panel.get_by_text("Models and painting").click()
    chat.panel.get_by_label("Steps").fill("1000")
    chat.panel.get_by_label("Steps").press("Tab")
    chat.box.fill("A fox on the beach.")
    chat.box.press("Enter")
    chat.page.wait_for_selector(".m2chat-painting img", timeout=120_000)
    width = "document.querySelector('.m2chat-painting img').naturalWidth"
    chat.page.wait_for_function(f"{width} > 0")
    assert chat.page.evaluate(width) == 512, "a preview, as large as --preview-size says"
    chat.box.fill("And a bear.")
    chat.press("Stop")
    chat.idle()
    assert chat.box.input_value() == "And a bear.", "the message is told"
    assert chat.panel.get_by_role("status").inner_text() == "Stopped. The reply so far is saved."
    assert not chat.has_error
    kept = sessions.load(chat.session).conversation
    assert kept.turns[0].text == "A fox on the beach." and kept.turns[1].text and len(kept.open_slots()) == 1
    chat.panel.get_by_label("Steps").fill("2")
    chat.panel.get_by_label("Steps").press("Tab")
    chat.press("Paint this picture")
    chat.idle()
    assert not sessions.load(chat.session).conversation.open_slots()


def test_a_message_that_is_stopped_before_its_reply_comes_back(
    chat: ChatPage, comfy: ComfyServer, sessions: Sessions
) -> None:
    slow = comfy.queue(graphs.changed(graphs.story(seed=77), "story", steps=1000))
    chat.box.fill("A fox on the beach.")
    chat.box.press("Enter")
    chat.page.wait_for_function("app.ui.lastQueueSize === 2")
    chat.box.fill("And a bear.")
    chat.press("Stop")
    chat.idle()
    comfy.interrupt()
    comfy.wait(slow)
    assert chat.box.input_value() == "A fox on the beach.\nAnd a bear."
    assert chat.panel.get_by_role("status").inner_text() == "Stopped. Nothing was saved." and not sessions.list()
    assert not chat.has_error


# Models and nodes


@pytest.mark.parametrize("new_nodes", [False, True])
def test_the_models_of_the_canvas_are_used_from_a_subgraph_too(
    chat: ChatPage, comfy: ComfyServer, new_nodes: bool
) -> None:
    page = chat.page
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", new_nodes)
    page.evaluate("app.graph.clear()")
    chat.panel.get_by_text("Models and painting").click()
    chat.panel.get_by_label("Models").select_option("canvas")
    chat.say("A fox on the beach.")
    assert chat.error.startswith("The workflow on the canvas loads no language model: ")
    assert chat.box.input_value() == "A fox on the beach."
    bad = graphs.node("M2Chat_LoadLanguageModel", model="LLM/none")
    page.evaluate(LOAD, {"1": bad, "2": graphs.node("M2Chat_LoadStarter")})
    chat.box.press("Enter")
    chat.idle()
    assert chat.error.startswith("There is no model LLM/none: ")
    assert chat.box.input_value() == "A fox on the beach."
    page.evaluate(LOAD, {"7": graphs.node("M2Chat_LoadStarter")})
    page.evaluate("app.graph.convertToSubgraph(new Set([app.graph.getNodeById(7)]))")
    chat.box.press("Enter")
    chat.idle()
    assert not chat.has_error and chat.turns.count() == 2
    latest = max(comfy.get("/history").values(), key=lambda entry: entry["prompt"][0])["prompt"][2]
    assert [id for id, node in latest.items() if node["class_type"] == "M2Chat_LoadStarter" and ":" in id]
    chat.press("Open the last message as nodes")
    page.wait_for_function("app.graph.nodes.some(node => node.type === 'M2Chat_SaveSession')")
    before = sorted(node["class_type"] for node in latest.values())
    opened = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert sorted(node["class_type"] for node in opened.values()) == sorted([*before, "M2Chat_ShowConversation"])
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


# Themes


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_everything_can_be_read(chat: ChatPage, sessions: Sessions, theme: str, tmp_path: Path) -> None:
    page = chat.page
    page.evaluate("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    page.wait_for_timeout(1000)
    looks = [".m2chat-welcome h2", ".m2chat-welcome p", ".m2chat-example", ".m2chat-primary", ".m2chat-gate"]
    found = {look: chat.panel.locator(look).first.evaluate(CONTRAST) for look in looks}
    saved(sessions, "themes", 2)
    chat.reopen()
    chat.choose("themes")
    looks = [".m2chat-user .m2chat-words", ".m2chat-assistant .m2chat-words", ".m2chat-caption", ".m2chat-made",
             ".m2chat-tools button", ".m2chat-speaker", ".m2chat-choice"]  # fmt: skip
    found |= {look: chat.panel.locator(look).last.evaluate(CONTRAST) for look in looks}
    assert {look: round(ratio, 2) for look, ratio in found.items() if ratio < 4.5} == {}
    page.screenshot(path=Path(os.environ.get(SCREENSHOTS, tmp_path)) / f"chat_theme_{theme}.png")
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
