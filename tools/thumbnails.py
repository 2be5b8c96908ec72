"""Take the thumbnails of templates that show nodes: the whole workflow on ComfyUI's canvas.

    .run/venv/bin/python -m tools.thumbnails zimage_story sdxl_lora_story

Starts ComfyUI with the pack and, in place of the models that a template loads, empty files of their names, so that none
is marked as missing; then writes `workflows/<name>.jpg`. It has the same requirements as the tests.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from . import chromium, comfy, environment
from .node_pictures import SETTINGS, TEMPLATES

WIDTH, HEIGHT = 1024, 576
# Returns the box of all nodes on the page, in CSS pixels, with the canvas drawn at that scale.
SHOW = """async ([workflow, width, height]) => {
  const drawn = () => new Promise(done => setTimeout(done, 800)); // and text boxes laid over the canvas
  await app.loadGraphData(workflow);
  await drawn(); // only then does a node know how high it is
  const boxes = app.graph.nodes.map(node => node.boundingRect);
  const [left, top] = [0, 1].map(side => Math.min(...boxes.map(box => box[side])) - 10);
  const [right, bottom] = [0, 1].map(side => Math.max(...boxes.map(box => box[side] + box[side + 2])) + 10);
  const { ds } = app.canvas;
  ds.scale = Math.min(width / (right - left), height / (bottom - top));
  ds.offset = [80 / ds.scale - left, 120 / ds.scale - top];
  app.canvas.background_image = "";
  app.canvas.setDirty(true, true);
  await drawn();
  return [80, 120, (right - left) * ds.scale, (bottom - top) * ds.scale];
}"""


def models(workflow: Any) -> Iterator[dict[str, str]]:
    """Return the files that the nodes of a workflow and of its subgraphs name, with their folders."""
    if isinstance(workflow, dict):
        yield from workflow.get("properties", {}).get("models", [])
    if isinstance(workflow, (dict, list)):
        for each in workflow.values() if isinstance(workflow, dict) else workflow:
            yield from models(each)


def main(names: list[str]) -> None:
    """Take and write the thumbnails of the templates of these names."""
    environment.ensure()
    if chromium.find() is None:
        raise SystemExit(chromium.MISSING)
    workflows = {name: json.loads((TEMPLATES / f"{name}.json").read_text("utf-8")) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        flags = environment.prepare_base(base)
        for file in models(list(workflows.values())):
            path = base / "models" / file["directory"] / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with (
            comfy.Server(environment.PYTHON, environment.ENGINE, *flags, "--cpu", log=base / "comfyui.log") as server,
            sync_playwright() as playwright,
        ):
            server.wait_ready()
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
            page = chromium.open_page(browser, server.url, WIDTH + 300, HEIGHT + 320)
            for setting, value in SETTINGS.items():
                page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [setting, value])
            for name, workflow in workflows.items():
                x, y, width, height = page.evaluate(SHOW, [workflow, WIDTH, HEIGHT])
                shot = page.screenshot(clip={"x": x, "y": y, "width": width, "height": height})
                path = TEMPLATES / f"{name}.jpg"
                Image.open(io.BytesIO(shot)).convert("RGB").save(path, quality=85)
                print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB", flush=True)
            browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
