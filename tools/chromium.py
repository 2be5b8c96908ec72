"""ComfyUI's page in a headless Chromium, for screenshots and tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# Usual places of browsers that are not on the PATH.
BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
MISSING = "No browser found: install Chromium (Debian: apt-get install chromium) or Google Chrome."
PATIENCE = 300_000  # milliseconds
KEPT = "cookies,indexeddb,local_storage,session_storage,websql,service_workers"  # what a page keeps in the browser
ARGUMENTS = ["--no-sandbox"]
# Ten frames a second are enough for pages that nobody watches: without a GPU, sixty take a third of a processor core.
FEW_FRAMES = """{
  const [request, cancel] = [requestAnimationFrame.bind(window), cancelAnimationFrame.bind(window)];
  const asked = new Map();
  let last = 0;
  window.requestAnimationFrame = draw => {
    const id = ++last;
    const soon = () => asked.set(id, [cancel, request(time => { asked.delete(id); draw(time); })]);
    asked.set(id, [clearTimeout, setTimeout(soon, 100)]);
    return id;
  };
  window.cancelAnimationFrame = id => {
    const [undo, what] = asked.get(id) ?? [];
    undo?.(what);
    asked.delete(id);
  };
}"""
NO_HEADERS: Mapping[str, str] = {}

_contexts: WeakKeyDictionary[Browser, dict[tuple[object, ...], BrowserContext]] = WeakKeyDictionary()


def find() -> str | None:
    """Return the path of a browser, or None if there is none."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first takes least
    paths = filter(None, map(shutil.which, names))
    return next(paths, None) or next((path for path in BROWSERS if Path(path).is_file()), None)


def new_page(
    browser: Browser,
    url: str,
    width: int,
    height: int,
    scale: float = 1.0,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Page:
    """Return an empty page that can open ComfyUI; the arguments are those of `open_page`.

    It is that of a visitor who has never been there. Only files may come from the browser's cache: reading and
    compiling those of the front end is most of what opening ComfyUI costs.
    """
    contexts = _contexts.setdefault(browser, {})
    key = scale, url, *sorted(headers.items())
    if key not in contexts:
        contexts[key] = browser.new_context(
            device_scale_factor=scale, extra_http_headers=dict(headers), reduced_motion="reduce"
        )
        contexts[key].add_init_script(FEW_FRAMES)
    page = contexts[key].new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.set_default_navigation_timeout(PATIENCE)
    visitor = page.context.new_cdp_session(page)
    visitor.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": KEPT})
    visitor.detach()
    return page


def open_page(
    browser: Browser,
    url: str,
    width: int,
    height: int,
    scale: float = 1.0,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    nodes_2: bool = False,
) -> Page:
    """Open ComfyUI's page and return it when it is ready for use.

    Args:
        browser: A browser of playwright.
        url: The address of ComfyUI.
        width: Of the page in CSS pixels.
        height: Of the page in CSS pixels.
        scale: Pixels of a screenshot per CSS pixel.
        headers: What each request of the page says beside the usual.
        nodes_2: Whether Nodes 2.0 draw the nodes instead of the classic canvas; ComfyUI remembers it for its user.
    """
    page = new_page(browser, url, width, height, scale, headers=headers)
    # The welcome of first-time users would cover or replace the graph.
    settings = {"Comfy.VueNodes.Enabled": nodes_2, "Comfy.TutorialCompleted": True, "M2Chat.Start": ""}
    settings["Comfy.RightSidePanel.IsOpen"] = False
    page.request.post(f"{url}/settings", data=json.dumps(settings))
    page.goto(url, timeout=PATIENCE)
    page.wait_for_function("window.app?.extensionManager?.setting && window.app.graph?.nodes", timeout=PATIENCE)
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")
    return page
