"""The chat panel as the tests use it: what a person sees and does there."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Browser, Locator

import looks

PATIENCE = 300_000
# How bright a text stands against what lies behind it, as WCAG counts it: 4.5 is enough for small ones.
CONTRAST = """element => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const layers = [];
  for (let each = element; each; each = each.parentElement) layers.unshift(getComputedStyle(each).backgroundColor);
  const luminance = colors => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    const part = value => value <= 10.31 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  };
  const [one, other] = [luminance(layers), luminance([...layers, getComputedStyle(element).color])];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}"""


class ChatPage:
    """ComfyUI's page with the panel open.

    Args:
        steps: denoising steps of each picture.
        look: the front end, and how it draws nodes.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        steps: int = 2,
        width: int = 1280,
        height: int = 900,
        look: looks.Look | None = None,
    ) -> None:
        self.page = (look or looks.Look()).open(browser, url, width, height)
        self.page.set_default_timeout(PATIENCE)
        self.steps = steps
        self.page.evaluate("steps => localStorage['M2Chat.Chat'] = JSON.stringify({ steps })", steps)
        self.open()

    def renew(self) -> None:
        """Make everything as it was when the panel was opened for the first time: a new session, and nothing typed."""
        self.page.keyboard.press("Escape")
        if self.panel.get_by_role("button", name="Stop", exact=True).is_visible():  # a test has failed
            self.press("Stop")
            self.idle()
        self.press("New chat")
        self.until(lambda: not self.session)
        if self.has_error:
            self.press("Dismiss")
        self.box.fill("")
        while self.panel.locator(".m2chat-tray img").count():
            self.press("Remove this picture")
        self.panel.locator(".m2chat-gate input").fill("1")
        self.set("Models", "starter")
        for label, value in (("Steps", str(self.steps)), ("Guidance", "3"), ("Width", ""), ("Height", "")):
            self.set(label, value)
        self.panel.locator(".m2chat-status, .m2chat-spoken").evaluate_all(
            "all => all.forEach(e => e.replaceChildren())"
        )

    def set(self, label: str, value: str) -> None:
        """Choose among the models and the settings of painting, which are closed afterwards."""
        more = self.panel.locator("details.m2chat-more")
        more.evaluate("details => details.open = true")
        field = self.panel.get_by_label(label)
        if field.evaluate("field => field.localName") == "select":
            field.select_option(value)
        else:
            field.fill(value)
            field.press("Tab")
        more.evaluate("details => details.open = false")

    def open(self) -> None:
        """Open the tab of the sidebar."""
        self.page.get_by_role("button", name="Chat with M²Chat").click()
        self.panel.wait_for()
        self.page.wait_for_timeout(500)

    def reopen(self) -> None:
        """Close the tab and open it again, which shows what is saved now."""
        self.page.get_by_role("button", name="Chat with M²Chat").click()
        self.panel.wait_for(state="detached")
        self.open()

    @property
    def panel(self) -> Locator:
        return self.page.locator(".m2chat-panel")

    @property
    def box(self) -> Locator:
        """Where the next message is typed."""
        return self.panel.get_by_role("textbox", name="Your message. Enter")

    @property
    def turns(self) -> Locator:
        return self.panel.get_by_role("article")

    @property
    def error(self) -> str:
        return self.panel.get_by_role("alert").inner_text().strip() if self.has_error else ""

    @property
    def has_error(self) -> bool:
        return self.panel.locator(".m2chat-error").is_visible()

    @property
    def session(self) -> str:
        """The name of the session that is shown; empty for a new one."""
        return self.panel.get_by_label("Session", exact=True).input_value()

    def choose(self, name: str) -> None:
        """Show another session."""
        self.panel.get_by_label("Session", exact=True).select_option(name)
        self.page.wait_for_timeout(500)

    def say(self, text: str) -> None:
        """Send a message and wait for the reply."""
        self.box.fill(text)
        self.box.press("Enter")
        self.idle()

    def press(self, name: str, which: int = -1) -> None:
        """Press a button of that name, the last one if there are several."""
        self.panel.get_by_role("button", name=name, exact=True).nth(which).click()

    def idle(self) -> None:
        """Wait until nothing runs, and all pictures are there."""
        self.page.wait_for_function(
            "document.querySelector('.m2chat-log').getAttribute('aria-busy') === 'false'"
            " && [...document.querySelectorAll('.m2chat-log img')].every(image => image.complete)",
            timeout=PATIENCE,
        )

    def until(self, fits: Callable[[], bool]) -> None:
        """Wait until something is so, for at most twenty seconds: how quick a page is depends on what else runs."""
        for _ in range(200):
            if fits():
                return
            self.page.wait_for_timeout(100)

    def said(self) -> list[str]:
        """The words of each turn, without captions and buttons."""
        return [
            "".join(turn.locator(".m2chat-words").all_inner_texts()) for turn in self.turns.all()
        ]  # fmt: skip

    def captions(self) -> list[str]:
        return self.panel.locator("figcaption .m2chat-caption").all_inner_texts()

    def seeds(self) -> list[str]:
        """The text below each picture: its seed and gate."""
        return self.panel.locator(".m2chat-made").all_inner_texts()
