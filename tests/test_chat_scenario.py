"""A conversation of three turns, one re-rolled, one edited, saved, then loaded and continued in another ComfyUI."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

import graphs
from chat_page import ChatPage
from comfy_server import ComfyServer
from graphs import MODELS, PAINT, node
from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.sessions import Sessions
from test_browser import SCREENSHOTS
from test_chat_panel import sessions  # noqa: F401
from test_sessions import story
from tools.comfy import ExecutionFailed

pytestmark = pytest.mark.comfy

SAID = ("A fox finds a kite on the beach.", "What happens next?", "Tell me more.")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A ComfyUI that is started later, and knows no more than what it finds in its folder of users."""
    with ComfyServer(tmp_path_factory.mktemp("later")) as server:
        server.wait_ready()
        yield server


def sessions_of(comfy: ComfyServer) -> Sessions:
    return Sessions(comfy.base / "user" / "default" / "m2chat" / "sessions")


def saved(comfy: ComfyServer, name: str) -> Conversation:
    return sessions_of(comfy).load(name).conversation


def carry(name: str, comfy: ComfyServer, later: ComfyServer) -> None:
    """Put the files of a session where another ComfyUI keeps its own."""
    shutil.copytree(sessions_of(comfy).root / name, sessions_of(later).root / name)


def task(name: str, *actions: dict[str, object], new: bool = False) -> graphs.Graph:
    """What the chat queues: a session is loaded, changed by actions, and saved unless someone else has saved it."""
    graph = {"load": node("M2Chat_LoadStarter"), "session": node("M2Chat_LoadSession", name="" if new else name)}
    last = "session"
    for number, action in enumerate(actions):
        how = {"conversation": [last, 0], **action}
        if "edit" in action:
            graph[last := f"edit{number}"] = node("M2Chat_EditConversation", **how)
        else:
            graph[last := f"turn{number}"] = node("M2Chat_Turn", **MODELS, gate=1.0, **PAINT, **{"text": "", **how})
    return {**graph, "save": node("M2Chat_SaveSession", conversation=[last, 0], name=name, revision=["session", 1])}


def test_by_graphs(comfy: ComfyServer, later: ComfyServer) -> None:
    def run(*actions: dict[str, object], new: bool = False, server: ComfyServer = comfy) -> Conversation:
        server.run(task("graphs", *actions, new=new))
        return saved(server, "graphs")

    for number, text in enumerate(SAID):
        told = run({"text": text, "seed": number}, new=number == 0)
    assert [turn.role for turn in told.turns] == ["user", "assistant"] * 3 and not told.open_slots()
    # One reply and its picture again: everything before them stays the same, to the bit.
    rerolled = run({"edit": "rewind", "edit__turn": 5}, {"seed": 77})
    assert rerolled.turns[:5] == told.turns[:5] and rerolled.turns[5] != told.turns[5]
    repainted = run({"edit": "repaint", "edit__picture": 2}, {"seed": 78})
    two = repainted.slots()[1]
    assert repainted.at(two).seed == 78 and repainted.at(two).caption == rerolled.at(two).caption
    assert [a == b for a, b in zip(repainted.turns, rerolled.turns, strict=True)] == [True] * 3 + [False] + [True] * 2
    # One message edited, and what follows told again.
    changed = "The fox meets an owl in the forest."
    edits = {"edit": "rewind", "edit__turn": 3}, {"edit": "text", "edit__turn": 3, "edit__text": changed}
    edited = run(*edits, {"seed": 1}, {"text": SAID[2], "seed": 2})
    assert [turn.text for turn in edited.turns[::2]] == [SAID[0], changed, SAID[2]]
    assert edited.turns[:2] == told.turns[:2]
    carry("graphs", comfy, later)
    assert saved(later, "graphs") == edited
    continued = run({"text": "Tell me more.", "seed": 3}, server=later)
    assert continued.turns[:6] == edited.turns and len(continued.turns) == 8 and not continued.open_slots()
    assert sessions_of(later).load("graphs").revision == 7


def test_in_the_chat_panel(
    comfy: ComfyServer,
    later: ComfyServer,
    sessions: Sessions,  # noqa: F811
    browser: Browser,
) -> None:
    folder = os.environ.get(SCREENSHOTS)
    steps = 20 if folder else 60  # so that even a quick machine paints for as long as it takes to see a preview
    chat = ChatPage(browser, comfy.url, steps=steps)

    def picture_of(step: str) -> None:
        if folder:
            chat.page.screenshot(path=Path(folder) / f"chat_{step}.png")

    picture_of("1_empty")
    chat.press(SAID[0])
    assert chat.box.input_value() == SAID[0]
    chat.box.press("Enter")
    chat.page.wait_for_selector(".m2chat-painting img[src^=blob]", timeout=60_000)
    assert chat.said()[1], "the words have streamed"
    picture_of("2_painting")
    chat.idle()
    name = chat.session
    assert name == "A fox finds a kite on the beach"
    if not folder:
        chat.set("Steps", "2")
    for text in SAID[1:]:
        chat.say(text)
    told = sessions.load(name).conversation
    assert chat.said()[::2] == list(SAID) and len(chat.captions()) == len(told.slots()) > 0 and not chat.has_error
    assert chat.said() == [turn.text.strip() for turn in told.turns]
    picture_of("3_told")

    chat.press("Re-roll reply")
    chat.idle()
    rerolled = sessions.load(name).conversation
    assert rerolled.turns[:5] == told.turns[:5] and rerolled.turns[5] != told.turns[5]
    chat.press("Re-roll this picture", 0)
    chat.idle()
    repainted = sessions.load(name).conversation
    one = repainted.slots()[0]
    assert repainted.at(one) != rerolled.at(one) and repainted.at(one).caption == rerolled.at(one).caption
    assert repainted.turns[2:] == rerolled.turns[2:]
    picture_of("4_rerolled")

    chat.press("Edit this message", 1)
    area = chat.panel.get_by_role("textbox", name="Your message", exact=True)
    assert area.input_value() == SAID[1]
    changed = "The fox meets an owl in the forest."
    area.fill(changed)
    picture_of("5_editing")
    area.press("Enter")
    chat.idle()
    edited = sessions.load(name).conversation
    assert edited.turns[:2] == repainted.turns[:2] and edited.turns[3] != repainted.turns[3]
    assert chat.said()[::2] == [SAID[0], changed, SAID[2]]
    seen = chat.said(), chat.captions(), chat.seeds()
    chat.page.close()

    carry(name, comfy, later)
    chat = ChatPage(browser, later.url, steps=steps if folder else 2)
    chat.choose(name)
    chat.idle()
    assert (chat.said(), chat.captions(), chat.seeds()) == seen and saved(later, name) == edited
    picture_of("6_loaded")
    chat.say("Tell me more.")
    continued = saved(later, name)
    assert continued.turns[:6] == edited.turns and len(continued.turns) == 8 and chat.turns.count() == 8
    picture_of("7_continued")
    if folder:
        chat.page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
        chat.page.wait_for_timeout(1000)
        picture_of("8_light")
        chat.page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
    chat.press("Open the last message as nodes")
    chat.page.wait_for_function("app.graph.nodes.some(node => node.type === 'M2Chat_SaveSession')")
    picture_of("9_nodes")
    chat.page.close()


class LoggedIn:
    """A browser whose pages are a user's, as if the user had been chosen in ComfyUI's list of users."""

    def __init__(self, browser: Browser, user: str) -> None:
        self.browser, self.user = browser, user

    def new_context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        name = json.dumps(self.user)
        context.add_init_script(f"localStorage['Comfy.userId'] = localStorage['Comfy.userName'] = {name}")
        return context


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[ComfyServer]:
    """A ComfyUI of several users, one of whom has a session."""
    Sessions(tmp_path / "user" / "default" / "m2chat" / "sessions").save("of another", story(1))
    with ComfyServer(tmp_path, "--multi-user") as server:
        server.wait_ready()
        yield server


@pytest.mark.exhaustive
def test_each_user_has_sessions_of_their_own(shared: ComfyServer, browser: Browser) -> None:
    user = json.loads(shared.request("/users", json.dumps({"username": "Ann"}).encode()))
    # The greeting of first-time users would cover the panel; ComfyUI keeps these settings for each user.
    settings = json.dumps({"Comfy.TutorialCompleted": True, "M2Chat.Start": ""}).encode()
    headers = {"Content-Type": "application/json", "Comfy-User": user}
    asked = urllib.request.Request(f"{shared.url}/settings", settings, headers)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked).close()
    others = sessions_of(shared).list()
    assert [other.name for other in others] == ["of another"]
    chat = ChatPage(LoggedIn(browser, user), shared.url)
    chat.say("A fox finds a kite on the beach.")
    assert not chat.has_error and chat.turns.count() == 2
    chat.press("Re-roll this picture")
    chat.idle()
    assert not chat.has_error
    (summary,) = Sessions(shared.base / "user" / user / "m2chat" / "sessions").list()
    assert (summary.name, summary.revision, sessions_of(shared).list()) == (chat.session, 2, others)
    pictures = chat.panel.locator(".m2chat-frame img")
    assert pictures.count() == summary.pictures
    chat.page.wait_for_function("[...document.querySelectorAll('.m2chat-frame img')].every(each => each.naturalWidth)")
    chat.page.close()
    # A user whom a workflow makes up is refused.
    load = {
        "load": node("M2Chat_LoadSession", name="fox", user="../up"),
        "show": node("PreviewAny", source=["load", 1]),
    }
    with pytest.raises(ExecutionFailed, match="this ComfyUI has no such user: leave it empty"):
        shared.run(load)
