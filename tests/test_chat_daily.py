"""The chat panel day by day, in both front ends: pictures dropped, versions, Markdown, reload, nodes, export, users."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

import looks
from chat_page import ChatPage
from comfy_server import ComfyServer
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.sessions import Sessions
from test_chat_panel import HOSTILE, sessions  # noqa: F401
from test_sessions import grey, story

DROP = """async (target, [count, type, kind]) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 8, height: 8 });
  const blob = await new Promise(done => canvas.toBlob(done));
  const dataTransfer = new DataTransfer();
  for (let k = 0; k < count; k++) dataTransfer.items.add(new File([blob], `${k}.png`, { type }));
  const how = { dataTransfer, bubbles: true, cancelable: true };
  return !target.dispatchEvent(new DragEvent(kind, how));
}"""
MARKDOWN = """# Title

Some *words*, `code` and **more**, [here](https://example.org/a) and [not](javascript:window.hurt=true).

- one
- two

![far](https://example.org/x.png) <b onclick='hurt()'>html</b>

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.fixture(scope="module")
def chat(comfy: ComfyServer, browser: Browser, look: looks.Look) -> Iterator[ChatPage]:
    """The panel, one for each front end."""
    made = ChatPage(browser, comfy.url, look=look, height=720)
    yield made
    made.page.close()


pytestmark = pytest.mark.parametrize("look", looks.FRONT_ENDS, ids=str, indirect=True)


def versions(chat: ChatPage, of: str) -> list[str]:
    groups = chat.panel.get_by_role("group", name=f"Versions of this {of}")
    return [text.replace("\n", " ").strip("‹› ") for text in groups.all_inner_texts()]


def turn_to(chat: ChatPage, of: str, way: str, which: int = -1) -> None:
    group = chat.panel.get_by_role("group", name=f"Versions of this {of}").nth(which)
    before = group.inner_text()
    group.get_by_role("button", name=f"{way} version").click()
    chat.page.wait_for_function(
        "before => ![...document.querySelectorAll('.m2chat-versions')].some(each => each.innerText === before)",
        arg=before,
    )


def test_a_former_reply_and_a_former_picture_come_back(chat: ChatPage, sessions: Sessions) -> None:  # noqa: F811
    chat.reopen()
    chat.say("A fox finds a kite on the beach.")
    assert not chat.has_error and versions(chat, "reply") == versions(chat, "picture") == []
    first = chat.said()[1], chat.seeds()
    chat.press("Re-roll reply")
    chat.idle()
    second = chat.said()[1], chat.seeds()
    assert versions(chat, "reply") == ["2 / 2"] and first != second
    name = chat.session
    turn_to(chat, "reply", "Previous")
    assert versions(chat, "reply") == ["1 / 2"] and (chat.said()[1], chat.seeds()) == first
    chat.press("Re-roll this picture", 0)
    chat.idle()
    assert versions(chat, "picture")[0] == "2 / 2" and chat.said()[1] == first[0] and chat.seeds() != first[1]
    # All of it lies in the session, so it is there after a reload, which shows the session that was shown.
    chat.page.reload()
    chat.open()
    chat.idle()
    assert chat.session == name and versions(chat, "reply") == ["1 / 2"]
    turn_to(chat, "picture", "Previous", 0)
    assert chat.seeds() == first[1] and versions(chat, "picture")[0] == "1 / 2"
    turn_to(chat, "reply", "Next")
    assert (chat.said()[1], chat.seeds()) == second and not chat.has_error
    saved = sessions.load(name).conversation
    assert saved.versions(1).count == 2 and saved.turns[1].text.strip() == second[0]


def test_the_last_message_of_a_session_that_was_opened_becomes_nodes(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    saved = story(1).user("And then?", [grey(0.5)]).assistant([Text("So."), Picture("a fox")])
    sessions.save("opened", saved.with_picture(saved.open_slots()[0], grey(0.2), seed=77, gate=1.5))
    chat.reopen()
    chat.choose("opened")
    chat.press("Open the last message as nodes")
    chat.page.wait_for_function("app.graph.nodes.some(node => node.type === 'M2Chat_SaveSession')")
    graph = chat.page.evaluate("async () => (await app.graphToPrompt()).output")
    by_kind = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert {"LoadImage", "M2Chat_UserMessage", "M2Chat_ShowConversation"} <= set(by_kind)
    assert by_kind["M2Chat_LoadSession"]["name"] == by_kind["M2Chat_SaveSession"]["name"] == "opened"
    assert (by_kind["M2Chat_Turn"]["seed"], by_kind["M2Chat_Turn"]["gate"]) == (77, 1.5)
    assert by_kind["M2Chat_UserMessage"]["text"] == "And then?"
    comfy.run(graph)
    again = sessions.load("opened").conversation
    assert [turn.text for turn in again.turns[:3]] == ["Message 0.", "Part 0.", "And then?"]
    assert again.versions(2).count == 2 and again.turns[2].segments[0].image.shape == (4, 6, 3)


def test_the_nodes_of_the_first_message_run_again(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    chat.renew()
    chat.say("A fox finds a kite on the beach.")
    name = chat.session
    assert not chat.has_error, chat.error
    assert name == "A fox finds a kite on the beach"
    chat.page.evaluate("app.graph.clear()")
    chat.press("Open the last message as nodes")
    chat.page.wait_for_function("app.graph.nodes.some(node => node.type === 'M2Chat_SaveSession')")
    comfy.run(chat.page.evaluate("async () => (await app.graphToPrompt()).output"))
    again = sessions.load(name)
    assert (again.revision, len(again.conversation.turns)) == (2, 4), "the same once more"


def test_long_names_of_sessions_end_where_a_phrase_does(chat: ChatPage) -> None:
    source = "async text => (await import('/extensions/m2chat/chat/sessions.js')).nameFrom(text, [])"
    for text, name in (
        ("A rabbit and an owl build a camp in the deep snow.", "A rabbit and an owl build a camp"),
        ("In the", "In the"),
        ("A fox.", "A fox"),
    ):
        assert chat.page.evaluate(source, text) == name


def test_pictures_dropped_anywhere_are_attached(chat: ChatPage, sessions: Sessions) -> None:  # noqa: F811
    chat.reopen()
    nodes = chat.page.evaluate("app.graph.nodes.length")
    tray = chat.panel.get_by_label("Pictures of the message").locator("img")
    sign = chat.panel.get_by_text("Drop pictures to attach them")
    header, log = chat.panel.locator(".m2chat-header"), chat.panel.locator(".m2chat-log")
    assert header.evaluate(DROP, [1, "image/png", "dragenter"]) and sign.is_visible()
    header.evaluate(DROP, [1, "image/png", "dragleave"])
    assert sign.is_hidden()
    for place in (header, log, chat.box):
        assert place.evaluate(DROP, [1, "image/png", "dragover"]) and sign.is_visible()
        assert place.evaluate(DROP, [1, "image/png", "drop"])
        assert sign.is_hidden()
    chat.page.wait_for_function("document.querySelectorAll('.m2chat-tray img').length === 3")
    log.evaluate(DROP, [1, "text/plain", "drop"])
    chat.panel.get_by_text("0.png is not a picture: attach image files.").wait_for()
    log.evaluate(DROP, [7, "image/png", "drop"])
    chat.panel.get_by_text("A message can have at most 8 pictures: 2 were left out.").wait_for()
    assert tray.count() == 8 and chat.page.evaluate("app.graph.nodes.length") == nodes
    while tray.count():
        chat.press("Remove this picture")
    chat.press("Dismiss")


def test_a_reply_is_read_copied_and_its_pictures_enlarged(chat: ChatPage, sessions: Sessions) -> None:  # noqa: F811
    conversation = Conversation().user("*plain*").assistant([Text(f"{MARKDOWN}\n{HOSTILE}"), Picture("a fox")])
    sessions.save("markdown", conversation.with_picture(conversation.open_slots()[0], grey(0.5)))
    chat.reopen()
    chat.choose("markdown")
    page, prose = chat.page, chat.panel.locator(".m2chat-prose")
    prose.locator("table").wait_for()  # the renderer is fetched when the first reply is shown
    tags = set(prose.locator("*").evaluate_all("all => all.map(each => each.tagName)"))
    assert tags == {"P", "EM", "CODE", "STRONG", "A", "UL", "LI", "SPAN", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD"}
    links = prose.locator("a").evaluate_all("all => all.map(each => [each.href, each.rel])")
    assert links == [["https://example.org/a", "noopener noreferrer"]]
    shown = prose.inner_text()
    for kept in ("[not](javascript:", "![far](https://example.org/x.png)", "<b onclick='hurt()'>html</b>", "&amp;"):
        assert kept in shown
    assert chat.said()[0] == "*plain*" and page.evaluate("window.hurt") is None
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.press("Copy this reply")
    chat.panel.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("# Title\n\nSome *words*")
    chat.panel.locator(".m2chat-frame").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_alt_text("a fox").evaluate("image => image.naturalWidth") == 6
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_a_session_is_exported_from_the_panel(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    sessions.save("100% fox", story(2))
    chat.reopen()
    chat.choose("100% fox")
    for label, name, begins in (("Web page", "story.html", b"<!DOCTYPE html>"), ("PDF", "story.pdf", b"%PDF")):
        chat.press("Export this session")
        chat.panel.get_by_role("group", name="Export as").get_by_role("button", name=label).click()
        link = chat.panel.get_by_role("status").get_by_role("link", name=name)
        link.wait_for()
        assert not chat.has_error and link.get_attribute("target") == "_blank"
        href = link.evaluate("link => link.href")
        assert comfy.request(href.removeprefix(comfy.url)).lower().startswith(begins.lower())
    written = {path.name for path in (comfy.output_dir / "M2Chat").glob("100* fox_*/story.*")}
    assert written == {"story.html", "story.pdf"}
    chat.press("Export this session")
    menu = chat.panel.get_by_role("group", name="Export as")
    menu.wait_for()
    chat.panel.locator("textarea").last.focus()
    menu.wait_for(state="hidden")


BROKEN = [
    "{",
    "null",
    "7",
    '"text"',
    "[1]",
    '{"gate": "x", "steps": -3, "guidance": null, "models": 9, "session": {}}',
    '{"gate": 1e999, "steps": 2.5, "width": 100, "height": -8, "session": "nobody knows it"}',
]


def test_whatever_the_browser_keeps_the_panel_opens(chat: ChatPage, sessions: Sessions) -> None:  # noqa: F811
    """One page after the other is slow: each entry is read as a new panel reads it."""
    read = "async text => { localStorage['M2Chat.Chat'] = text;"
    read += " return (await import('/extensions/m2chat/chat/kept.js')).read() }"
    for broken in BROKEN:
        kept = chat.page.evaluate(read, broken)
        name = kept.pop("session")
        painting = {"gate": 1, "steps": 20, "guidance": 2, "width": 0, "height": 0}
        assert kept == {**painting, "models": "starter"} and isinstance(name, str)
    # A new page in which the store cannot even be touched, and the last entry with a session that is gone.
    chat.page.add_init_script("""for (const name of ['getItem', 'setItem']) {
      const before = Storage.prototype[name];
      Storage.prototype[name] = function (key, ...more) {
        if (key === 'M2Chat.Chat') throw new DOMException('no', 'SecurityError');
        return before.call(this, key, ...more);
      };
    }""")
    chat.page.reload()
    chat.open()
    assert chat.session == "" and not chat.has_error and chat.box.is_visible()
    chat.panel.get_by_text("Models and painting").click()
    chat.panel.get_by_label("Steps").fill("2")
    chat.panel.get_by_label("Steps").press("Tab")
    assert not chat.has_error
    assert re.search("A fox", chat.panel.locator(".m2chat-welcome").inner_text())
