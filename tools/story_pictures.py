"""Take the thumbnails of templates that show what the starter paints, and the pictures of the README's first page.

    .run/venv/bin/python -m tools.story_pictures

Runs the templates in ComfyUI on the processor, as they stand, and lays out their pictures and words: after a training
of the starter, the pages show what it paints now. It has the same requirements as the tests.
"""

from __future__ import annotations

import io
import json
import textwrap
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from . import comfy, environment
from .node_pictures import TEMPLATES

TWINS = environment.REPO / "tests" / "workflows"  # the templates as ComfyUI runs them
IMAGES = environment.REPO / "docs" / "images"
GROUND, WORDS, ASKED = (24, 24, 30), (225, 225, 230), (240, 165, 60)
SIDE, GAP, LETTER = 240, 12, 17
QUALITY = 88

Json = dict[str, Any]


class Run:
    """What a template made.

    Args:
        server: ComfyUI.
        name: Of the template.
        changed: Inputs of its nodes that are others.
    """

    def __init__(self, server: comfy.Server, name: str, **changed: Json) -> None:
        self.server = server
        self.graph: Json = json.loads((TWINS / f"{name}.json").read_text("utf-8"))
        for node, inputs in changed.items():
            self.graph[node]["inputs"].update(inputs)
        self.outputs = server.run(self.graph, timeout=1200.0)["outputs"]
        print(name, flush=True)

    def titled(self, title: str) -> Json:
        """Return what the node of a title shows."""
        (node,) = (key for key, node in self.graph.items() if node["_meta"]["title"] == title)
        shown: Json = self.outputs[node]
        return shown

    def image(self, file: Json) -> Image.Image:
        """Return a picture as ComfyUI serves it."""
        return Image.open(io.BytesIO(self.server.request(f"/view?{urllib.parse.urlencode(file)}"))).convert("RGB")

    def images(self, title: str) -> list[Image.Image]:
        """Return the pictures that the node of a title shows."""
        return [self.image(file) for file in self.titled(title)["images"]]

    def panels(self, title: str) -> list[tuple[Image.Image, str]]:
        """Return the assistant's pictures with the words before each, of the conversation that a node shows."""
        found, said = [], ""
        for turn in self.titled(title)["turns"]:
            for segment in turn["segments"]:
                if "text" in segment:
                    said = segment["text"].strip()
                elif turn["role"] == "assistant":
                    found.append((self.image(segment["picture"]), said))
        return found

    def asked(self, title: str) -> list[str]:
        """Return what the user said."""
        turns = [turn["segments"] for turn in self.titled(title)["turns"] if turn["role"] == "user"]
        said = [["(shows the picture)" if "picture" in part else part["text"] for part in turn] for turn in turns]
        return [" ".join(parts) for parts in said]


def strip(panels: Sequence[tuple[Image.Image, str]], *, colour: tuple[int, int, int] = WORDS) -> Image.Image:
    """Lay pictures side by side, each with its words below."""
    font = ImageFont.truetype("DejaVuSans.ttf", LETTER)
    told = [textwrap.wrap(text, 27) for _, text in panels]
    height = GAP + SIDE + 8 + max(map(len, told)) * (LETTER + 6) + GAP
    sheet = Image.new("RGB", (GAP + len(panels) * (SIDE + GAP), height), GROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (image, _) in enumerate(panels):
        left = GAP + number * (SIDE + GAP)
        sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, GAP))
        for line, text in enumerate(told[number]):
            pen.text((left, GAP + SIDE + 8 + line * (LETTER + 6)), text, colour, font)
    return sheet


def pages(comic: Image.Image, book: Sequence[Image.Image]) -> Image.Image:
    """Lay a comic page beside four pages of a picture book."""
    sheet = Image.new("RGB", (1000, 660), GROUND)
    tall = sheet.height - 2 * GAP
    comic = comic.resize((round(comic.width * tall / comic.height), tall), Image.Resampling.LANCZOS)
    sheet.paste(comic, (GAP, GAP))
    left, high = comic.width + 2 * GAP, (tall - GAP) // 2
    for number, page in enumerate(book[:4]):
        page = page.resize((round(page.width * high / page.height), high), Image.Resampling.LANCZOS)
        sheet.paste(page, (left + number % 2 * (page.width + GAP), GAP + number // 2 * (high + GAP)))
    return sheet.crop((0, 0, min(sheet.width, left + 2 * (page.width + GAP)), sheet.height))


def save(image: Image.Image, *paths: Path) -> None:
    """Write a picture."""
    for path in paths:
        image.save(path, quality=QUALITY, optimize=True)


def take(server: comfy.Server) -> None:
    """Write all pictures."""
    story = Run(server, "storybook").panels("The story")
    save(strip(story), TEMPLATES / "storybook.jpg", IMAGES / "story.jpg", IMAGES / "banner.jpg")
    save(story[1][0].resize((400, 400), Image.Resampling.LANCZOS), IMAGES / "icon.jpg")

    runs = {gate: Run(server, "gate", **{"4": {"gate": gate}}) for gate in (0, 0.5, 1)}
    before = runs[1].images("The picture before")[0]
    after = [(run.images("The next picture")[0], f"gate {gate}") for gate, run in runs.items()]
    save(strip([(before, "the picture before"), *after]), TEMPLATES / "gate.jpg")

    dialogue = Run(server, "dialogue")
    painted = [image for image, _ in dialogue.panels("The dialogue")]
    asked = [f"\u201c{text}\u201d" for text in dialogue.asked("The dialogue")]
    save(strip(list(zip(painted, asked, strict=True)), colour=ASKED), TEMPLATES / "dialogue.jpg")

    sheet = Run(server, "gate_lab").images("The sheet")[0]
    size = (1000, round(1000 * sheet.height / sheet.width))
    save(sheet.resize(size, Image.Resampling.LANCZOS), TEMPLATES / "gate_lab.jpg")

    save(strip(Run(server, "session").panels("The story")[:4]), TEMPLATES / "session.jpg")

    book = Run(server, "book", **{"6": {"format": "pages", "format.page_width": 800}})
    save(pages(book.images("The page")[0], book.images("A picture book as PDF")), TEMPLATES / "book.jpg")


def main() -> None:
    """Start ComfyUI and write all pictures."""
    with comfy.fresh_server() as server:
        take(server)


if __name__ == "__main__":
    main()
