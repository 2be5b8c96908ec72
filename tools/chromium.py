"""ComfyUI's page in a headless Chromium, for screenshots and tests."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

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
# Chromium does not let a page whose files are intercepted connect to this machine.
ARGUMENTS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]

_contexts: WeakKeyDictionary[Browser, dict[tuple[float, str, Path | None], BrowserContext]] = WeakKeyDictionary()


def find() -> str | None:
    """Return the path of a browser, or None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    paths = filter(None, map(shutil.which, names))
    return next(paths, None) or next((path for path in BROWSERS if Path(path).is_file()), None)


def new_page(
    browser: Browser, url: str, width: int, height: int, scale: float = 1.0, *, front_end: Path | None = None
) -> Page:
    """Return an empty page that can open ComfyUI; the arguments are those of `open_page`.

    It is that of a visitor who has never been there. Only the files of the front end may come from the browser's
    cache: reading and compiling them is most of what opening ComfyUI costs.
    """
    context = _context(browser, scale, url, front_end)
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.set_default_navigation_timeout(PATIENCE)
    visitor = context.new_cdp_session(page)
    visitor.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": KEPT})
    visitor.detach()
    return page


def _context(browser: Browser, scale: float, url: str, front_end: Path | None) -> BrowserContext:
    """Return the browser's context for such pages."""
    contexts = _contexts.setdefault(browser, {})
    key = scale, url, front_end
    if key not in contexts:
        contexts[key] = browser.new_context(device_scale_factor=scale)
        if front_end is not None:
            _serve(contexts[key], url, front_end)
    return contexts[key]


def open_page(
    browser: Browser,
    url: str,
    width: int,
    height: int,
    scale: float = 1.0,
    *,
    front_end: Path | None = None,
    nodes_2: bool = False,
) -> Page:
    """Open ComfyUI's page and return it when it is ready for use.

    Args:
        browser: A browser of playwright.
        url: The address of ComfyUI.
        width: Of the page in CSS pixels.
        height: Of the page in CSS pixels.
        scale: Pixels of a screenshot per CSS pixel.
        front_end: Folder of the front end to show; that of the server by default.
        nodes_2: Whether Nodes 2.0 draw the nodes instead of the classic canvas; ComfyUI remembers it for its user.
    """
    page = new_page(browser, url, width, height, scale, front_end=front_end)
    # The welcome of first-time users would cover or replace the graph.
    settings = {"Comfy.VueNodes.Enabled": nodes_2, "Comfy.TutorialCompleted": True, "M2Chat.Start": ""}
    settings["Comfy.RightSidePanel.IsOpen"] = False
    page.request.post(f"{url}/settings", data=json.dumps(settings))
    page.goto(url, timeout=PATIENCE)
    page.wait_for_function("window.app?.extensionManager?.setting && window.app.graph?.nodes", timeout=PATIENCE)
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")
    return page


def _serve(context: BrowserContext, url: str, front_end: Path) -> None:
    """Serve the files of the front end from a folder; all other requests go to the server."""
    # The packs' own files are beside those of the front end, below /extensions.
    names = {path.name: f"{path.name}/" if path.is_dir() else path.name for path in front_end.iterdir()}
    names["extensions"] = "extensions/core/"
    ours = re.compile(rf"{re.escape(url)}/(?:$|\?|{'|'.join(map(re.escape, names.values()))})")

    def answer(route: Route) -> None:
        route.fulfill(path=front_end / (urlsplit(route.request.url).path.lstrip("/") or "index.html"))

    context.route(ours, answer)
