"""Take the pictures of the help pages: each node as it looks on ComfyUI's canvas.

    .run/venv/bin/python -m tools.node_pictures

Starts ComfyUI with the pack and without models, puts one node after the other onto the classic canvas in the dark theme
and writes `web/docs/images/<node id>.webp`. It has the same requirements as the tests, which `python run.py test` sets
up. Nodes have default values; those that choose from files name the file of a template. Two nodes are shown above their
result, the thumbnail of a template. Prints the size of each picture and removes pictures of nodes that do not exist.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

from . import chromium, comfy, environment

if TYPE_CHECKING:
    from playwright.sync_api import Page

PACK = "M2Chat_"
PICTURES = environment.REPO / "web" / "docs" / "images"
TEMPLATES = environment.REPO / "workflows"
# Nodes whose result a thumbnail shows.
MADE = {"M2Chat_GateSweep": "gate_lab", "M2Chat_Pages": "book"}

WIDTH, HEIGHT = 1000, 1100  # of the page, in CSS pixels
SCALE = 2.0  # a node is as wide as the help pane, and some screens have more pixels than CSS pixels
LEFT, TOP = 200, 200  # where no bar of the page covers the canvas
MARGIN = 6  # around a node, in CSS pixels
NARROW, WIDE = 320, 430  # widths of a node and of one that names a file, so that no text is cut off

SETTINGS = {
    "Comfy.VueNodes.Enabled": False,
    "Comfy.ColorPalette": "dark",
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",  # the name of the pack's folder, which may differ
    "Comfy.Minimap.Visible": False,
}
# Returns the node's box on the page, in CSS pixels: left, top, width, height.
PLACE = """async ([type, file, left, top, narrow, wide]) => {
  app.graph.clear();
  app.graph.state.lastNodeId = window.pictured = (window.pictured ?? 0) + 1; // the page remembers values by it
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  const empty = (node.widgets ?? []).filter(widget => widget.type === "combo" && !widget.options.values.length);
  for (const widget of empty) {
    widget.options.values = [file];
    widget.value = file;
  }
  node.setSize([Math.max(node.size[0], empty.length ? wide : narrow), node.size[1]]);
  app.canvas.background_image = "";
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [left - node.pos[0], top - node.pos[1]];
  app.canvas.setDirty(true, true);
  await new Promise(done => setTimeout(done, 400)); // until the page has laid its text boxes over the canvas
  const [x, y, width, height] = node.boundingRect;
  return [x + app.canvas.ds.offset[0], y + app.canvas.ds.offset[1], width, height];
}"""


def chosen_files() -> dict[str, str]:
    """Return for each node id the first widget's value in the first template that has such a node, if it is a text."""
    values_by_node: dict[str, str] = {}
    for path in sorted(TEMPLATES.glob("*.json")):
        for node in json.loads(path.read_text("utf-8"))["nodes"]:
            values = node.get("widgets_values")
            if isinstance(values, list) and values and isinstance(values[0], str):
                values_by_node.setdefault(node["type"], values[0])
    return values_by_node


def picture(page: Page, node: str, file: str | None) -> Image.Image:
    """Return a picture of a node alone on the canvas, in RGB.

    Args:
        page: The page of ComfyUI.
        node: The id of the node.
        file: The choice to show in widgets that found no files to choose from.
    """
    x, y, width, height = page.evaluate(PLACE, [node, file, LEFT, TOP, NARROW, WIDE])
    if x + width + MARGIN > WIDTH or y + height + MARGIN > HEIGHT:
        raise RuntimeError(f"{node} is {width:.0f} x {height:.0f} and does not fit the page: enlarge it.")
    screenshot = page.screenshot(
        clip={"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
    )
    return Image.open(io.BytesIO(screenshot)).convert("RGB")


def above(node: Image.Image, made: Path) -> Image.Image:
    """Return the picture of a node above the picture of its result, which gets the same width."""
    with Image.open(made) as file:
        image = file.convert("RGB")
    below = image.resize((node.width, round(image.height * node.width / image.width)), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (node.width, node.height + below.height))
    both.paste(node, (0, 0))
    both.paste(below, (0, node.height))
    return both


def paint(url: str, nodes: list[str]) -> None:
    """Write the pictures of all nodes.

    Args:
        url: The address of ComfyUI.
        nodes: The ids of the nodes.
    """
    files = chosen_files()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        page = chromium.open_page(browser, url, WIDTH, HEIGHT, SCALE)
        for name, value in SETTINGS.items():
            page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
        for node in nodes:
            image, path = picture(page, node, files.get(node)), PICTURES / f"{node}.webp"
            if made := MADE.get(node):
                image = above(image, TEMPLATES / f"{made}.jpg")
            image.save(path, lossless=not made, quality=75, method=6)  # pictures of text are smaller in lossless format
            print(f"{path.name}: {image.width} x {image.height}, {path.stat().st_size / 1000:.1f} kB", flush=True)
        browser.close()


def main() -> None:
    """Take and write all pictures."""
    environment.ensure()
    if chromium.find() is None:
        raise SystemExit(chromium.MISSING)
    PICTURES.mkdir(exist_ok=True)
    with comfy.fresh_server() as server:
        nodes = sorted(name for name in server.get("/object_info") if name.startswith(PACK))
        paint(server.url, nodes)
    for path in PICTURES.iterdir():
        if path.stem not in nodes:
            path.unlink()


if __name__ == "__main__":
    main()
