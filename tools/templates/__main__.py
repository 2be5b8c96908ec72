"""Write the templates in workflows/, and their twins in API format, which the tests run.

    .run/venv/bin/python -m tools.templates

Starts ComfyUI with the pack, writes every template from its description in this package, opens it in ComfyUI's page and
writes what the page would queue. It has the same requirements as the tests, which `python run.py test` sets up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from .. import chromium, comfy, environment
from . import edit, painters, sdxl, starter, zimage

TEMPLATES = environment.REPO / "workflows"
TWINS = environment.REPO / "tests" / "workflows"
PROMPT = """async workflow => {
  await app.loadGraphData(workflow);
  return (await app.graphToPrompt()).output;
}"""


def write(path: Path, content: Any) -> None:
    """Write JSON in the format of the repository."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8", newline="\n")


def main() -> None:
    """Write all templates."""
    if chromium.find() is None:
        raise SystemExit(chromium.MISSING)
    with comfy.fresh_server() as server, sync_playwright() as playwright:
        info = server.get("/object_info")
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        page = chromium.open_page(browser, server.url, 1280, 720)
        for template in (*starter.ALL, *sdxl.ALL, *painters.ALL, *zimage.ALL, *edit.ALL):
            name, workflow = template.__name__, template(info)
            write(TEMPLATES / f"{name}.json", workflow)
            write(TWINS / f"{name}.json", page.evaluate(PROMPT, workflow))
            print(f"{name}: {len(workflow['nodes'])} nodes", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
