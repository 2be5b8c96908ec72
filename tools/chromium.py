"""ComfyUI's page in a headless Chromium, for what looks at it: pictures and tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Where browsers live that are not on the PATH.
BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
MISSING = "No browser found: install Chromium (Debian: apt-get install chromium) or Google Chrome."
PATIENCE = 300_000  # milliseconds
ARGUMENTS = ["--no-sandbox"]


def find() -> str | None:
    """Where a browser is; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = filter(None, map(shutil.which, names))
    return next(found, None) or next((path for path in BROWSERS if Path(path).is_file()), None)


def open_page(browser: Browser, url: str, width: int, height: int, scale: float = 1.0) -> Page:
    """Open ComfyUI's page and return it when it is ready for use.

    Args:
        browser: playwright's.
        url: ComfyUI's.
        width, height: of the page, in CSS pixels.
        scale: how many pixels of a screenshot make a CSS pixel.
    """
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page.goto(url)
    page.wait_for_function("window.app?.extensionManager?.setting && window.app.graph?.nodes", timeout=PATIENCE)
    # What greets a first-time user would lie over the graph.
    page.evaluate("app.extensionManager.setting.set('Comfy.TutorialCompleted', true)")
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")
    return page
