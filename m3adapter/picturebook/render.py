"""Draws a scene of the picture book as a 256 x 256 picture.

Everything that is pasted is aligned with the cells of the latents and has one of a few sizes, so it is the same pattern
of latents in every place.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from .places import SIZE, backdrop, raster
from .sprites import CELL, character, drawing, eye_line, head, thing
from .world import ROCKY, Character, Scene

LARGE, MIDDLE, SMALL = 128, 96, 64  # side of a character's box: single and near, near, far
NEAR_FOOT, FAR_FOOT, PROP_FOOT = 224, 192, 240
PROP = 48
RAISED = 32  # height of a jump in pixels
FACE_LINE = 0.48  # height of the eyes of half covered characters, from the top of the box
PATCHES = ("#ffe082", "#90caf9", "#f8bbd0")  # of a blanket
LEAN = 13  # degrees by which a runner leans forward
FIGURE_TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.92, 0.86), "night": (0.70, 0.75, 0.96)}

SINGLE = {"left": 16, "middle": 64, "right": 112}  # left edge of a box of LARGE
SINGLE_PROPS = {"left": (160, 208), "middle": (0, 208), "right": (48, 0)}
# Left edges of two and three boxes of size MIDDLE, and of their props.
SEVERAL = {2: (0, 160), 3: (0, 80, 160)}
SEVERAL_PROPS = {2: (112, 112 + PROP), 3: (64, 144)}


@dataclass(frozen=True)
class Box:
    """The box of a character: its left edge, its lower edge and its side in pixels, multiples of CELL."""

    left: int
    foot: int
    size: int


def layout(scene: Scene) -> list[Box]:
    """Return the boxes of the characters of a scene."""
    if len(scene.characters) == 1:
        left = SINGLE[scene.spot]
        if scene.characters[0].near:
            return [Box(left, NEAR_FOOT, LARGE)]
        return [Box(left + (LARGE - SMALL) // 2, FAR_FOOT, SMALL)]
    boxes = []
    for left, actor in zip(SEVERAL[len(scene.characters)], scene.characters, strict=True):
        if actor.near:
            boxes.append(Box(left, NEAR_FOOT, MIDDLE))
        else:
            boxes.append(Box(left + (MIDDLE - SMALL) // 2, FAR_FOOT, SMALL))
    return boxes


def render(scene: Scene, seed: int) -> np.ndarray:
    """Draw a scene.

    Args:
        scene: What to draw.
        seed: Chooses what a scene does not say (whether the place is mirrored); equal seeds give equal pictures.

    Returns:
        uint8 array [256, 256, 3].
    """
    return render_with_figures(scene, seed)[0]


def render_with_figures(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene like `render`, and return the mask of its characters and props as well: bool array [256, 256]."""
    mirrored = random.Random(seed).random() < 0.5
    canvas = backdrop(scene.place, scene.light, scene.weather, mirrored).copy()
    figures = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    boxes = layout(scene)
    order = sorted(range(len(boxes)), key=lambda index: boxes[index].foot)
    for index in order:
        _shadow(canvas, boxes[index], scene.characters[index])
    lefts = SINGLE_PROPS[scene.spot] if len(boxes) == 1 else SEVERAL_PROPS[len(boxes)]
    if len(boxes) == 2 and len(scene.props) == 2:
        lefts = (80, 128)
    for left in lefts[: len(scene.props)]:
        _paste(canvas, _soft_shadow(PROP), left, PROP_FOOT - PROP + CELL // 2)
    for index in order:
        _draw(figures, boxes[index], scene.characters[index], scene.place)
    for name, left in zip(scene.props, lefts, strict=False):
        figures.alpha_composite(thing(name, PROP), (left, PROP_FOOT - PROP))
    for box, actor in zip(boxes, scene.characters, strict=True):
        _bubbles(figures, box, actor)
    mask = np.asarray(figures.getchannel("A")) > 32
    if scene.light != "day":
        figures = figures.point(_tint(scene.light))
    canvas.alpha_composite(figures)
    return np.asarray(canvas.convert("RGB")), mask


@lru_cache
def _tint(light: str) -> list[int]:
    return [round(value * part) for part in (*FIGURE_TINTS[light], 1.0) for value in range(256)]


def _paste(canvas: Image.Image, image: Image.Image, left: int, top: int) -> None:
    """Paste an image that may extend beyond the edges of the picture."""
    crop_left, crop_top = max(0, -left), max(0, -top)
    width = min(image.width, SIZE - left) - crop_left
    height = min(image.height, SIZE - top) - crop_top
    if width > 0 and height > 0:
        source = (crop_left, crop_top, crop_left + width, crop_top + height)
        canvas.alpha_composite(image, (left + crop_left, top + crop_top), source)


@lru_cache(maxsize=16)
def _soft_shadow(size: int, small: bool = False) -> Image.Image:
    """Return an image of the size of a box with a soft shadow at its lower edge."""
    wide = 0.24 if small else 0.36
    inner = (
        '<defs><radialGradient id="s"><stop offset="0" stop-color="#1c2a3a" stop-opacity="0.42"/>'
        '<stop offset="0.6" stop-color="#1c2a3a" stop-opacity="0.24"/>'
        '<stop offset="1" stop-color="#1c2a3a" stop-opacity="0"/></radialGradient></defs>'
        f'<ellipse cx="0.5" cy="0.9" rx="{wide + 0.12}" ry="{0.28 * wide}" fill="url(#s)"/>'
    )
    return raster(inner, size, size, (0, 0, 1, 1))


def _shadow(canvas: Image.Image, box: Box, actor: Character) -> None:
    if actor.action == "swims":
        return
    image = _soft_shadow(box.size, small=actor.action == "jumps")
    _paste(canvas, image, box.left, box.foot - box.size + box.size // 16)


def _draw(figures: Image.Image, box: Box, actor: Character, place: str) -> None:
    """Draw a character and its action in its box."""
    size, top = box.size, box.foot - box.size
    image = character(
        actor.species,
        actor.look,
        actor.accessory,
        size,
        actor.facing,
        actor.mood,
        asleep=actor.action == "sleeps",
        lean=LEAN if actor.action == "runs" else 0,
    )
    if actor.action == "sleeps":
        figures.alpha_composite(_bed(size, front=False), (box.left, top))
        _behind(figures, image, box, actor.species)
        figures.alpha_composite(_bed(size, front=True), (box.left, top))
    elif actor.action == "jumps":
        figures.alpha_composite(image, (box.left, top - RAISED))
        figures.alpha_composite(_springs(size), (box.left, top))
    elif actor.action == "runs":
        figures.alpha_composite(_speed(size, actor.facing), (box.left, top))
        figures.alpha_composite(image, (box.left, top))
    elif actor.action == "swims":
        _behind(figures, image, box, actor.species)
        figures.alpha_composite(_pool(size), (box.left, top))
    elif actor.action == "hides":
        _behind(figures, image, box, actor.species)
        figures.alpha_composite(_cover(size, place in ROCKY), (box.left, top))
    else:
        figures.alpha_composite(image, (box.left, top))
    if actor.held:
        held = 3 * size // 8 // CELL * CELL
        left = box.left if actor.facing == "left" else box.left + size - held
        figures.alpha_composite(thing(actor.held, held), (left, box.foot - held))


def _behind(figures: Image.Image, image: Image.Image, box: Box, species: str) -> None:
    """Draw a character whose lower part will be covered, high enough for its eyes to be seen."""
    shift = round((FACE_LINE - eye_line(species)) * box.size)
    visible = round(0.85 * box.size) - shift
    figures.alpha_composite(
        image.crop((0, 0, box.size, min(visible, box.size))), (box.left, box.foot - box.size + shift)
    )


@lru_cache(maxsize=16)
def _speed(size: int, facing: str) -> Image.Image:
    """Draw lines and dust behind a runner."""
    lines = "".join(
        f'<path d="M{x} {y} h{wide}" stroke="#ffffff" stroke-width="4" stroke-linecap="round" opacity="0.9"/>'
        for x, y, wide in ((96, 52, 26), (102, 68, 22), (98, 84, 24))
    )
    puffs = "".join(
        f'<ellipse cx="{x}" cy="{y}" rx="{r}" ry="{r * 0.8}" fill="{fill}" stroke="#b9a58c" stroke-width="1.5"/>'
        for x, y, r, fill in ((116, 112, 10, "#efe3d0"), (102, 118, 9, "#f7eede"), (120, 122, 6, "#f7eede"))
    )
    image = raster(lines + puffs, size, size, (0, 0, 128, 128))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if facing == "right" else image


@lru_cache(maxsize=8)
def _springs(size: int) -> Image.Image:
    """Draw short strokes below a jumping character."""
    tall = 128 * (1 - (RAISED - 6) / size)
    strokes = "".join(
        f'<path d="M{x} {tall + 2:.1f} q{bend} {(124 - tall) / 2:.1f} 0 {120 - tall:.1f}" stroke="{line}" '
        f'stroke-width="{wide}" stroke-linecap="round" fill="none"/>'
        for x, bend in ((40, -8), (64, 0), (88, 8))
        for line, wide in (("#5d6d7e", 6), ("#ffffff", 3.5))
    )
    return raster(strokes, size, size, (0, 0, 128, 128))


@lru_cache(maxsize=16)
def _bed(size: int, front: bool) -> Image.Image:
    """Draw a bed seen from its foot: the blanket in front of the sleeper, or the headboard and pillow behind."""
    if not front:
        inner = (
            '<rect x="10" y="34" width="108" height="92" rx="14" fill="#a9713f"/>'
            '<rect x="16" y="40" width="96" height="86" rx="10" fill="#c48a52"/>'
            '<rect x="20" y="48" width="88" height="52" rx="20" fill="#fffdf6" stroke="#d9d4c8" stroke-width="2"/>'
        )
    else:
        patches = "".join(
            f'<rect x="{x}" y="{y}" width="18" height="18" rx="3" fill="{PATCHES[(i + j) % 3]}"/>'
            for i, x in enumerate((12, 34, 56, 78, 100))
            for j, y in enumerate((90, 111))
        )
        inner = (
            '<path d="M6 94 Q6 80 20 80 H108 Q122 80 122 94 V128 H6 Z" fill="#5c86d6"/>'
            f'{patches}<path d="M6 94 Q6 76 20 76 H108 Q122 76 122 94 Q64 84 6 94 Z" fill="#ffffff" stroke="#cfd8e6" '
            'stroke-width="1.5"/>'
        )
    return raster(inner, size, size, (0, 0, 128, 128))


@lru_cache(maxsize=8)
def _pool(size: int) -> Image.Image:
    """Draw water with waves in front of the lower half of a box."""
    inner = (
        '<defs><linearGradient id="w" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#6cc5f0"/>'
        '<stop offset="1" stop-color="#2f8fd0"/></linearGradient></defs>'
        '<path d="M0 104 Q0 88 16 90 q12 -10 24 0 t24 0 t24 0 t24 0 Q128 88 128 104 Q128 126 64 127 Q0 126 0 104 Z" '
        'fill="url(#w)"/>'
        '<path d="M4 100 Q4 90 16 91 q12 -10 24 0 t24 0 t24 0 t24 0 Q124 90 124 100" stroke="#e9f8ff" stroke-width="4" '
        'fill="none" stroke-linecap="round"/>'
        '<path d="M22 112 q10 -7 20 0 M72 114 q10 -7 20 0 M46 120 q8 -5 16 0" stroke="#c9ecfb" stroke-width="3" '
        'fill="none" stroke-linecap="round"/>'
    )
    return raster(inner, size, size, (0, 0, 128, 128))


@lru_cache(maxsize=8)
def _cover(size: int, rock: bool) -> Image.Image:
    """Draw a bush or a rock in front of the lower part of a box."""
    if rock:
        inner = (
            '<path d="M4 127 L12 92 L34 74 L62 80 L88 70 L114 88 L125 127 Z" fill="#8d8f94"/>'
            '<path d="M12 92 L34 74 L62 80 L46 104 Z" fill="#b3b6bb"/>'
            '<path d="M62 80 L88 70 L114 88 L84 106 Z" fill="#a2a5aa"/>'
            '<path d="M4 127 L12 92 L46 104 L40 127 Z" fill="#7b7e84"/>'
            '<path d="M84 106 L114 88 L125 127 H80 Z" fill="#6d7076"/>'
        )
    else:
        leaves = ((18, 104, 17), (40, 90, 19), (66, 86, 20), (92, 90, 19), (111, 105, 16), (30, 114, 17), (64, 110, 26),
                  (98, 114, 17))  # fmt: skip
        inner = "".join(f'<circle cx="{x}" cy="{y}" r="{r}" fill="#2e7d32"/>' for x, y, r in leaves)
        inner += "".join(f'<circle cx="{x - 2}" cy="{y - 3}" r="{r * 0.8}" fill="#43a047"/>' for x, y, r in leaves)
        inner += "".join(f'<circle cx="{x - 5}" cy="{y - 7}" r="{r * 0.42}" fill="#7cc47f"/>' for x, y, r in leaves)
        inner += "".join(
            f'<circle cx="{x}" cy="{y}" r="3.4" fill="#ef5350"/>'
            for x, y in ((34, 100), (62, 94), (86, 106), (52, 116), (106, 110))
        )
        inner = f'<clipPath id="c"><rect width="128" height="127"/></clipPath><g clip-path="url(#c)">{inner}</g>'
    return raster(inner, size, size, (0, 0, 128, 128))


@lru_cache(maxsize=16)
def _bubble(symbol: str, size: int) -> Image.Image:
    """Draw a white bubble with the symbol of a mood or an action."""
    bubble = (
        '<path d="M64 4 C100 4 124 24 124 54 C124 84 100 104 72 104 L64 124 '
        'L54 104 C26 103 4 84 4 54 C4 24 28 4 64 4 Z" '
        'fill="#ffffff" stroke="#5d6d7e" stroke-width="5"/>'
    )
    inner = f'<g transform="translate(25 16) scale(0.61)">{_symbol(symbol)}</g>'
    return raster(bubble + inner, size, size, (0, 0, 128, 128))


def _symbol(name: str) -> str:
    return drawing({"happy": "heart", "sad": "droplet", "afraid": "exclamation", "sleeps": "zzz"}[name])


def _bubbles(figures: Image.Image, box: Box, actor: Character) -> None:
    """Draw bubbles above the head of a character: its mood, and whether it sleeps."""
    symbols = [actor.mood] if actor.mood != "calm" else []
    if actor.action == "sleeps":
        symbols.append("sleeps")
    side = 48 if box.size == LARGE else 32
    top = box.foot - box.size - (RAISED if actor.action == "jumps" else 0) - side + CELL
    if actor.action in ("sleeps", "swims", "hides"):
        top += max(0, round((FACE_LINE - eye_line(actor.species)) * box.size / CELL) * CELL)
    middle = box.left + head(actor.species, actor.facing) * box.size
    left = round((middle - side * len(symbols) / 2) / CELL) * CELL
    left = min(max(left, 0), SIZE - side * len(symbols))
    for number, symbol in enumerate(symbols):
        _paste(figures, _bubble(symbol, side), left + number * side, top)
