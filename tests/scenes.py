"""Conversations in which somebody says, turn by turn, what to add to a scene of simple shapes.

They are like those of CoDraw, in flat colours, and have nothing of the worlds that the starter was trained on: data of
any size and in another style, for trying out data sets and trainings.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 50, 47), "orange": (245, 150, 40), "yellow": (250, 215, 70), "green": (70, 160, 70),
    "blue": (50, 110, 210), "violet": (130, 80, 190), "white": (245, 245, 245), "black": (35, 35, 35),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "bar")
PLACES = {"on the left": 0.2, "in the middle": 0.5, "on the right": 0.8}
HEIGHTS = {"high up": 0.25, "": 0.5, "low down": 0.75}
SIZES = {"small": 0.08, "": 0.13, "large": 0.2}
NAMES = ("Mike", "Jenny", "Ada", "Tom", "Lena", "Oskar")  # each is a shape with eyes, in a colour of its own story


@dataclass(frozen=True)
class Shape:
    """One shape of a scene: what words say of it, and where it is."""

    words: str
    shape: str
    colour: str
    size: float
    x: float
    y: float
    eyes: bool = False


def drawn(shapes: tuple[Shape, ...], side: int) -> Image.Image:
    """Return a scene as a picture."""
    picture = Image.new("RGB", (side, side), (190, 220, 235))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, side * 0.66, side, side), (160, 200, 130))
    for shape in shapes:
        x, y, r = shape.x * side, shape.y * side, shape.size * side
        box, fill = (x - r, y - r, x + r, y + r), COLOURS[shape.colour]
        if shape.shape == "circle":
            pen.ellipse(box, fill)
        elif shape.shape == "triangle":
            pen.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill)
        else:
            pen.rectangle(box if shape.shape == "square" else (x - 2 * r, y - r / 2, x + 2 * r, y + r / 2), fill)
        for eye in (-0.35, 0.35) if shape.eyes else ():
            pen.ellipse((x + eye * r - 2, y - 2, x + eye * r + 2, y + 2), (0, 0, 0))
    return picture


def scene_story(rng: random.Random, turns: int) -> list[tuple[str, str, tuple[Shape, ...]]]:
    """Return what is asked, the caption and the scene of every turn; a character keeps its shape and colour."""
    cast = [(name, rng.choice(SHAPES), rng.choice(list(COLOURS))) for name in rng.sample(NAMES, 2)]
    shapes: tuple[Shape, ...] = ()
    told = []
    for turn in range(turns):
        place, height, size = rng.choice(list(PLACES)), rng.choice(list(HEIGHTS)), rng.choice(list(SIZES))
        x, y = PLACES[place] + rng.uniform(-0.05, 0.05), HEIGHTS[height] + rng.uniform(-0.05, 0.05)
        where = f"{place} {height}".strip()
        if turn % 2 == 0:  # a character moves; only the first time anybody says what it looks like
            name, shape, colour = cast[turn // 2 % 2]
            look = f", the {colour} {shape}," if turn < 4 else ""
            shapes = tuple(old for old in shapes if old.words != name) + (Shape(name, shape, colour, 0.13, x, y, True),)
            asked, caption = f"{name}{look} goes {where}.", f"{name} {where}"
        else:
            shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
            thing = f"{size} {colour} {shape}".strip()
            shapes = (*shapes[-5:], Shape(thing, shape, colour, SIZES[size], x, y))
            asked, caption = f"Put a {thing} {where}.", f"a {thing} {where}"
        others = [old.words for old in shapes if old.eyes and old.words not in caption]
        told.append((asked, f"{caption}, with {others[0]}" if others else caption, shapes))
    return told


def write(folder: Path, conversations: int, turns: int, *, side: int = 64, seed: int = 0) -> Path:
    """Write conversations as JSON Lines, with `turns` pictures each, and return their file."""
    rng = random.Random(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    path = folder / "scenes.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(conversations):
            messages: list[dict[str, object]] = []
            for turn, (asked, caption, shapes) in enumerate(scene_story(rng, turns)):
                name = f"pictures/{number:05}-{turn:03}.png"
                drawn(shapes, side).save(folder / name)
                answer = [{"type": "text", "text": "Like this?"}, {"type": "image", "path": name, "caption": caption}]
                messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"id": number, "messages": messages}) + "\n")
    return path
