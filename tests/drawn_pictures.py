"""A data set in a style of its own: coloured shapes on plain ground, in stories as JSON Lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("ball", "box", "kite")
COLOURS = {"red": (220, 50, 40), "green": (40, 170, 70), "blue": (50, 80, 220), "yellow": (230, 200, 40)}
PLACES = {"field": (150, 190, 120), "sea": (120, 160, 200), "desert": (220, 200, 150), "night": (40, 40, 70)}


def drawn(shape: str, colour: str, place: str, side: int, rng: random.Random) -> Image.Image:
    """A shape of a colour somewhere on the ground of a place, with a grain like a scan's."""
    image = Image.new("RGB", (side, side), PLACES[place])
    draw = ImageDraw.Draw(image)
    size, x, y = side * 2 // 5, rng.randrange(side // 2), rng.randrange(side // 4, side // 2)
    box = (x, y, x + size, y + size)
    if shape == "ball":
        draw.ellipse(box, COLOURS[colour], (20, 20, 20))
    elif shape == "box":
        draw.rectangle(box, COLOURS[colour], (20, 20, 20))
    else:
        draw.polygon([(x, y + size), (x + size // 2, y), (x + size, y + size)], COLOURS[colour], (20, 20, 20))
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 4, (side, side, 3))
    return Image.fromarray((np.asarray(image, dtype=float) + noise).clip(0, 255).astype("uint8"))


def save_shown(folder: Path, count: int, *, side: int = 48, seed: int = 0) -> Path:
    """Conversations in which the assistant names the colour of what the user shows, which only the picture tells."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        colour, shape = ("red", "blue")[number % 2], rng.choice(SHAPES)
        for part, place in (("shown", "field"), ("painted", "sea")):
            drawn(shape, colour, place, side, rng).save(folder / f"{number}_{part}.png")
        shown = [{"type": "image", "path": f"{number}_shown.png"}, {"type": "text", "text": "Paint it."}]
        picture = {"type": "image", "path": f"{number}_painted.png", "caption": colour}
        said = [{"type": "text", "text": colour}, picture]
        lines.append(
            json.dumps({"messages": [{"role": "user", "content": shown}, {"role": "assistant", "content": said}]})
        )
    (folder / "shown.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def save_stories(folder: Path, count: int, *, side: int = 48, seed: int = 0) -> Path:
    """Stories of three pictures whose captions name shape and place, and never the colour, which stays the same."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        messages = []
        for part, place in enumerate(rng.sample(list(PLACES), 3)):
            name = f"{number}_{part}.png"
            drawn(shape, colour, place, side, rng).save(folder / name)
            messages.append({"role": "user", "content": [{"type": "text", "text": f"Now in the {place}."}]})
            picture = {"type": "image", "path": name, "caption": f"a {shape} in the {place}"}
            said = {"type": "text", "text": f"The {shape} went on. "}
            messages.append({"role": "assistant", "content": [said, picture]})
        lines.append(json.dumps({"messages": messages}))
    (folder / "stories.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
