"""ComfyUI's page in a headless Chromium, for what looks at it: pictures and tests."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

# Where browsers live that are not on the PATH.
BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
MISSING = "No browser found: install Chromium (Debian: apt-get install chromium) or Google Chrome."
PATIENCE = 300_000  # milliseconds
# A page whose files are answered for comes from nowhere, and from there Chromium lets nobody speak to this machine.
ARGUMENTS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]


def find() -> str | None:
    """Where a browser is; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = filter(None, map(shutil.which, names))
    return next(found, None) or next((path for path in BROWSERS if Path(path).is_file()), None)


def new_page(
    browser: Browser, url: str, width: int, height: int, scale: float = 1.0, *, front_end: Path | None = None
) -> Page:
    """Return an empty page that goes to ComfyUI as `open_page` does, which describes the arguments."""
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page.set_default_navigation_timeout(PATIENCE)
    if front_end is not None:
        _serve(page, url, front_end)
    return page


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
        browser: playwright's.
        url: ComfyUI's.
        width, height: of the page, in CSS pixels.
        scale: how many pixels of a screenshot make a CSS pixel.
        front_end: folder with the front end to show; without one it is the server's own.
        nodes_2: show nodes as Nodes 2.0 draws them, else the classic canvas; ComfyUI remembers it for its user.
    """
    page = new_page(browser, url, width, height, scale, front_end=front_end)
    # What greets a first-time user would lie over the graph, or come in place of it.
    settings = {"Comfy.VueNodes.Enabled": nodes_2, "Comfy.TutorialCompleted": True, "M2Chat.Start": ""}
    settings["Comfy.RightSidePanel.IsOpen"] = False
    page.request.post(f"{url}/settings", data=json.dumps(settings))
    page.goto(url, timeout=PATIENCE)
    page.wait_for_function("window.app?.extensionManager?.setting && window.app.graph?.nodes", timeout=PATIENCE)
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")
    return page


def _serve(page: Page, url: str, front_end: Path) -> None:
    """Answer for the front end's files from that folder; all else goes to the server, whose interface is the same."""
    # The packs' own files lie next to the front end's, below /extensions.
    names = {path.name: f"{path.name}/" if path.is_dir() else path.name for path in front_end.iterdir()}
    names["extensions"] = "extensions/core/"
    ours = re.compile(rf"{re.escape(url)}/(?:$|\?|{'|'.join(map(re.escape, names.values()))})")

    def answer(route: Route) -> None:
        route.fulfill(path=front_end / (urlsplit(route.request.url).path.lstrip("/") or "index.html"))

    page.context.route(ours, answer)
