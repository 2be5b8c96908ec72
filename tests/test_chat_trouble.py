"""The chat panel when ComfyUI or the browser fails: it says so and carries on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Route

import graphs
from chat_page import ChatPage
from comfy_server import ComfyServer
from m3adapter.conversation.sessions import Sessions
from test_chat_panel import sessions  # noqa: F401
from test_sessions import story

Answer = Callable[[Route], None]

AWAY = "ComfyUI does not answer: restart it, then try again."
FAILED = "ComfyUI answered 500 to {}."
LOST = """() => {
  app.api.dispatchCustomEvent('reconnecting');
  return document.querySelector('.m2chat-status').textContent;
}"""


def away(route: Route) -> None:
    """No server answers."""
    route.abort()


def fails(route: Route) -> None:
    """A proxy answers with an error page of its own."""
    route.fulfill(status=500, content_type="text/html", body="<html><h1>Bad day</h1></html>")


def babbles(route: Route) -> None:
    """A proxy answers with a web page instead of JSON."""
    route.fulfill(status=200, content_type="text/html", body="<html>Please log in</html>")


@pytest.fixture(scope="module")
def chat(comfy: ComfyServer, browser: Browser) -> Iterator[ChatPage]:
    """The panel, one for all tests."""
    made = ChatPage(browser, comfy.url, height=720)
    yield made
    made.page.close()


@pytest.fixture(autouse=True)
def handled(chat: ChatPage) -> Iterator[None]:
    """Fail the test if the panel lets an error through."""
    errors: list[str] = []
    listen = lambda error: errors.append(str(error))  # noqa: E731
    chat.page.on("pageerror", listen)
    yield
    chat.page.unroute_all(behavior="ignoreErrors")
    chat.page.remove_listener("pageerror", listen)
    assert errors == []


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (away, AWAY),
        (fails, FAILED.format("/m2chat/sessions")),
        (babbles, "The response to /m2chat/sessions cannot be read: restart ComfyUI, then try again."),
    ],
)
def test_sessions_that_cannot_be_read_are_read_later(
    chat: ChatPage,
    sessions: Sessions,  # noqa: F811
    answer: Answer,
    sentence: str,
) -> None:
    sessions.save("later", story(1))
    chat.page.route("**/m2chat/sessions", answer)
    chat.reopen()
    chat.until(lambda: chat.has_error)
    assert chat.error.startswith(sentence) and len(chat.error.splitlines()) <= 2
    chat.page.unroute("**/m2chat/sessions")
    if answer is away:
        chat.page.evaluate("app.api.dispatchCustomEvent('reconnected')")  # it recovers by itself
    else:
        chat.press("Load again")
    chat.page.wait_for_function("document.querySelector('.m2chat-error').hidden")
    chat.choose("later")
    assert not chat.has_error and chat.turns.count() == 2


@pytest.mark.parametrize(("answer", "sentence"), [(away, AWAY), (fails, "ComfyUI answered 500")])
def test_a_message_that_is_not_queued_comes_back(
    chat: ChatPage,
    sessions: Sessions,  # noqa: F811
    answer: Answer,
    sentence: str,
) -> None:
    chat.reopen()
    chat.page.route("**/api/prompt", answer)
    chat.say("A fox.")
    assert chat.error.startswith(sentence) and "<" not in chat.error
    assert chat.box.input_value() == "A fox." and not sessions.list()
    chat.box.fill("")


def test_who_stops_while_nobody_answers_does_not_wait(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    chat.reopen()
    chat.panel.get_by_text("Models and painting").click()
    chat.panel.get_by_label("Steps").fill("1000")
    chat.panel.get_by_label("Steps").press("Tab")
    for ask in (lambda: chat.press("Stop"), lambda: chat.page.evaluate("app.api.dispatchCustomEvent('reconnected')")):
        chat.box.fill("A fox on the beach.")
        chat.box.press("Enter")
        chat.page.wait_for_selector(".m2chat-painting:not([hidden])")
        status = chat.page.evaluate(LOST)  # at once: the next step may be told right after
        assert status == "Waiting for ComfyUI to answer…"
        chat.page.route("**/api/{queue,interrupt}", fails)
        ask()
        chat.idle()
        chat.page.unroute("**/api/{queue,interrupt}")
        assert chat.error.startswith(FAILED.format("/queue"))
        assert chat.box.input_value() == "A fox on the beach." and not sessions.list()
        comfy.request("/interrupt", b"{}")
        chat.page.wait_for_function("app.ui.lastQueueSize === 0")
    chat.box.fill("")
    chat.panel.get_by_label("Steps").fill("2")
    chat.panel.get_by_label("Steps").press("Tab")
    chat.panel.get_by_text("Models and painting").click()


def test_a_waiting_message_that_is_deleted_from_the_queue_comes_back(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    chat.reopen()
    running = comfy.queue(graphs.story(steps=1000, seed=5))
    chat.box.fill("A fox.")
    chat.box.press("Enter")
    while not (waiting := comfy.get("/queue")["queue_pending"]):
        chat.page.wait_for_timeout(50)
    assert chat.panel.get_by_role("status").inner_text() == "Waiting for its turn…"
    comfy.request("/queue", json.dumps({"delete": [waiting[0][1]]}).encode())
    chat.idle()
    assert chat.panel.get_by_role("status").inner_text() == "Stopped. Nothing was saved." and not chat.has_error
    assert chat.box.input_value() == "A fox." and not sessions.list()
    comfy.request("/interrupt", b"{}")
    comfy.wait(running)
    chat.box.fill("")


@pytest.mark.parametrize("user", ["", "Ann"])
def test_a_picture_that_cannot_be_had_says_so_and_is_loaded_again(
    chat: ChatPage,
    sessions: Sessions,  # noqa: F811
    user: str,
) -> None:
    sessions.save("pictures", story(1))

    def listed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "user": user})

    chat.page.route("**/m2chat/sessions", listed)  # with several users, the panel fetches the bytes of pictures
    chat.page.route("**/m2chat/sessions/**/*.png*", fails)
    chat.reopen()
    chat.choose("pictures")
    missing = chat.panel.locator(".m2chat-missing")
    reason = missing.locator("span").first.inner_text()
    assert reason.startswith("ComfyUI answered 500 to " if user else "This picture cannot be loaded.")
    chat.page.unroute("**/m2chat/sessions/**/*.png*")
    missing.first.get_by_role("button", name="Load again").click()
    chat.page.wait_for_function("document.querySelector('.m2chat-frame img')?.naturalWidth")
    assert missing.count() == 0 and not chat.has_error


def test_what_cannot_be_exported_copied_or_painted_so_large_is_told(
    chat: ChatPage,
    sessions: Sessions,  # noqa: F811
) -> None:
    sessions.save("told", story(1))
    chat.reopen()
    chat.choose("told")
    chat.page.route("**/object_info/**", fails)
    chat.press("Export this session")
    chat.panel.get_by_role("group", name="Export as").get_by_role("button", name="PDF").click()
    chat.idle()
    assert chat.error.startswith(FAILED.format("/object_info/M2Chat_ExportStory"))
    chat.page.evaluate("""() => {
      navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
      document.execCommand = () => false;
    }""")
    chat.press("Copy this reply")
    chat.panel.get_by_text("Not copied: this browser forbids it").wait_for()
    chat.panel.get_by_text("Models and painting").click()
    width = chat.panel.get_by_label("Width")
    assert width.get_attribute("placeholder") == "decoder default"
    for given in ("100", "9000", "-8"):
        width.fill(given)
        width.press("Tab")
        assert chat.error.startswith("Width must be a number from 0 to 8192, in steps of 8.")
        assert width.input_value() == ""
    width.fill("96")
    width.press("Tab")
    assert not chat.has_error and json.loads(chat.page.evaluate("localStorage['M2Chat.Chat']"))["width"] == 96
    width.fill("")
    width.press("Tab")
    assert not chat.has_error and json.loads(chat.page.evaluate("localStorage['M2Chat.Chat']"))["width"] == 0
