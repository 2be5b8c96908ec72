"""Sprites of the picture book: vector graphics that are rasterised at the few sizes in which they are used.

Every sprite stands on the lower edge of a square box, whose side is a whole number of cells of the latents.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

CELL = 16  # side of a cell of the latents in pixels
SPRITES = Path(__file__).parent / "sprites"
FILL = 0.86  # part of its box that a character fills, which leaves room for a hat

LOOK_COLOURS = {
    "red": (222, 52, 50),
    "orange": (247, 140, 32),
    "yellow": (250, 214, 56),
    "green": (72, 178, 78),
    "blue": (52, 124, 228),
    "purple": (146, 80, 206),
    "pink": (247, 136, 190),
    "grey": (142, 147, 157),
}


@dataclass(frozen=True)
class Anchors:
    """Where a species wears things, in units of its drawing (0 to 128 from the top left).

    Attributes:
        eyes: Centres and radii of the visible eyes.
        hat: Centre and width of the brim.
        neck: Centre and width of a scarf.
        glasses: Width of the glasses.
        size: Size of the species relative to the others.
    """

    eyes: tuple[tuple[float, float, float], ...]
    hat: tuple[float, float, float]
    neck: tuple[float, float, float]
    glasses: float
    size: float = 1.0


ANCHORS = {
    "rabbit": Anchors(((57, 58, 5.5),), (47, 45, 36), (52, 82, 38), 36),
    "squirrel": Anchors(((26.5, 55, 6),), (28, 36, 32), (34, 77, 32), 34),
    "hedgehog": Anchors(((33.5, 74.5, 5.5),), (42, 56, 32), (42, 94, 30), 34, 0.9),
    "turtle": Anchors(((18, 66, 5.5), (37, 66, 5.5)), (30, 50, 36), (36, 90, 38), 40, 0.95),
    "elephant": Anchors(((40, 50, 4.5),), (40, 22, 40), (56, 86, 44), 34),
    "dinosaur": Anchors(((32, 18, 3.5),), (30, 9, 28), (16, 50, 24), 28),
    "snail": Anchors(((25, 15, 6), (43, 15, 6)), (34, 9, 32), (32, 86, 38), 38, 0.9),
    "duck": Anchors(((47, 20, 4.5),), (51, 8, 32), (50, 50, 28), 32, 0.9),
    "penguin": Anchors(((60, 21, 5),), (62, 8, 34), (62, 46, 40), 34),
    "owl": Anchors(((49, 41, 7), (79, 41, 7)), (64, 20, 46), (64, 68, 54), 62),
    "cat": Anchors(((42, 40, 5),), (46, 24, 34), (52, 64, 38), 34),
    "dog": Anchors(((35, 40, 5), (64, 39, 5)), (50, 8, 40), (52, 70, 44), 52),
    "pig": Anchors(((23, 60, 5), (52, 66, 5)), (44, 32, 38), (50, 92, 42), 50),
    "sheep": Anchors(((26, 44, 4.5), (49, 47, 4.5)), (39, 28, 40), (42, 78, 42), 44),
    "mouse": Anchors(((43, 57, 5),), (46, 44, 30), (52, 82, 36), 34, 0.85),
    "giraffe": Anchors(((36, 21, 3.5),), (40, 9, 26), (52, 46, 24), 26),
    "kangaroo": Anchors(((19, 39, 3.5),), (25, 29, 26), (40, 55, 26), 28),
    "frog": Anchors(((45, 26, 7), (84, 26, 7)), (64, 17, 40), (64, 76, 52), 68, 0.95),
    "bear": Anchors(((49, 38, 5.5), (79, 38, 5.5)), (64, 9, 44), (64, 76, 52), 56),
    "fox": Anchors(((54, 45.5, 5), (75, 45.5, 5)), (64, 27, 38), (64, 77, 50), 48),
    "lion": Anchors(((54, 31, 4), (75, 31, 4)), (64, 11, 44), (64, 78, 48), 46),
    "monkey": Anchors(((34, 47, 6), (53, 47, 6)), (46, 19, 42), (46, 77, 40), 46),
    "tiger": Anchors(((22, 55, 4),), (28, 38, 32), (44, 86, 34), 34),
    "horse": Anchors(((20, 37, 3.5),), (26, 20, 30), (40, 62, 34), 30),
    "cow": Anchors(((28, 39, 3.5),), (34, 26, 30), (46, 62, 34), 30),
    "panda": Anchors(((48, 39, 6), (79, 39, 6)), (64, 9, 44), (64, 77, 52), 60),
}


@lru_cache(maxsize=256)
def drawing(name: str) -> str:
    """Return the content of the <svg> element of a sprite."""
    text = (SPRITES / f"{name}.svg").read_text("utf-8")
    return text[text.index(">") + 1 : text.rindex("</svg>")]


def raster(inner: str, width: int, height: int, view: tuple[float, float, float, float]) -> Image.Image:
    """Rasterise SVG elements.

    Args:
        inner: The elements.
        width: Of the image in pixels.
        height: Of the image in pixels.
        view: The viewBox.

    Returns:
        An RGBA image.

    Raises:
        ImportError: `resvg_py` is missing; the message says how to install it.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise ImportError("The picture book is drawn with resvg: `pip install resvg_py`.") from error
    box = " ".join(f"{value:.4f}" for value in view)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{inner}</svg>'
    )
    data = resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")


@lru_cache(maxsize=64)
def extent(name: str) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the visible part of a sprite, in its units.

    Raises:
        ValueError: Nothing of it is visible.
    """
    box = raster(drawing(name), 256, 256, (0, 0, 128, 128)).getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"Nothing of the sprite {name} is visible.")
    left, top, right, bottom = box
    return left / 2, top / 2, right / 2, bottom / 2


@lru_cache(maxsize=64)
def _view(name: str, fill: float) -> tuple[float, float, float, float]:
    """Return the viewBox with which a sprite stands on the lower edge of its box, in the middle."""
    left, top, right, bottom = extent(name)
    side = max(right - left, bottom - top) / fill
    return (left + right) / 2 - side / 2, bottom - side, side, side


def _character_view(species: str) -> tuple[float, float, float, float]:
    return _view(species, FILL * ANCHORS[species].size)


@lru_cache(maxsize=512)
def thing(name: str, size: int) -> Image.Image:
    """Draw a prop or symbol in a box of `size` pixels."""
    return raster(drawing(name), size, size, _view(name, 0.94))


@lru_cache(maxsize=1024)
def _bare(species: str, size: int, lean: int) -> Image.Image:
    return raster(_leaning(species, drawing(species), lean), size, size, _character_view(species))


def _leaning(species: str, inner: str, lean: int) -> str:
    """Rotate elements by `lean` degrees about the feet."""
    left, _, right, bottom = extent(species)
    return f'<g transform="rotate({lean} {(left + right) / 2:.2f} {bottom - 16:.2f})">{inner}</g>' if lean else inner


@lru_cache(maxsize=2048)
def _worn(species: str, accessory: str, tear: bool, size: int, lean: int) -> Image.Image:
    """Draw the accessory of a character, and a tear if it is sad."""
    anchors = ANCHORS[species]
    inner = ""
    x, y = (sum(eye[axis] for eye in anchors.eyes) / len(anchors.eyes) for axis in (0, 1))
    if accessory == "glasses":
        inner += _scaled(drawing("glasses"), x, y, anchors.glasses, 64, 64, 108)
    elif accessory == "hat":
        hx, hy, wide = anchors.hat
        inner += _scaled(drawing("hat"), hx, hy, wide * 1.05, 64, 104, 122)
    elif accessory == "scarf":
        inner += _scarf(*anchors.neck)
    if tear:
        ex, ey, radius = anchors.eyes[0]
        inner += _scaled(drawing("droplet"), ex, ey + 2.2 * radius + 4, 18, 64, 64, 76)
    return raster(_leaning(species, inner, lean), size, size, _character_view(species))


def _scaled(inner: str, x: float, y: float, wide: float, from_x: float, from_y: float, own: float) -> str:
    """Move elements so that their point (from_x, from_y) is at (x, y), and scale them from width `own` to `wide`."""
    scale = wide / own
    return f'<g transform="translate({x - from_x * scale:.3f} {y - from_y * scale:.3f}) scale({scale:.4f})">{inner}</g>'


def _scarf(x: float, y: float, wide: float) -> str:
    tall = max(9.0, wide * 0.24)
    half = wide / 2
    tail = (
        f'<rect x="{x + half * 0.15:.1f}" y="{y:.1f}" width="{tall * 1.05:.1f}" height="{tall * 2.3:.1f}" rx="3" '
        f'fill="#c62828"/><rect x="{x + half * 0.15:.1f}" y="{y + tall * 1.45:.1f}" width="{tall * 1.05:.1f}" '
        f'height="{tall * 0.35:.1f}" fill="#fff3e0"/>'
    )
    band = (
        f'<rect x="{x - half:.1f}" y="{y - tall / 2:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="{tall / 2:.1f}" '
        'fill="#e53935"/>'
    )
    stripes = "".join(
        f'<rect x="{x + half * part - tall * 0.16:.1f}" y="{y - tall / 2:.1f}" width="{tall * 0.32:.1f}" '
        f'height="{tall:.1f}" fill="#fff3e0"/>'
        for part in (-0.6, -0.1, 0.65)
    )
    return tail + band + stripes


def recolour(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Give an image the hue and mean lightness of a colour, keeping shadows and highlights."""
    pixels = np.asarray(image, dtype=np.float32)
    light = pixels[..., :3] @ np.array([0.30, 0.59, 0.11], dtype=np.float32) / 255
    solid = pixels[..., 3] > 128
    middle = float(np.clip(np.median(light[solid]), 0.3, 0.85))
    below = np.clip(light / middle, 0, 1)[..., None]
    above = np.clip((light - middle) / max(1 - middle, 0.3), 0, 1)[..., None]
    base = np.array(colour, dtype=np.float32)
    toned = base * (0.08 + 0.92 * below) * (1 - 0.8 * above) + 255 * 0.8 * above
    return Image.fromarray(np.dstack([np.clip(toned, 0, 255), pixels[..., 3]]).astype(np.uint8), "RGBA")


Face = Literal["open", "shut", "smiling", "wide"]
FACES: dict[str, Face] = {"calm": "open", "happy": "smiling", "sad": "open", "afraid": "wide"}


def _eyes(image: Image.Image, species: str, face: Face) -> str:
    """Draw eyes that differ from those of the sprite: shut in sleep, smiling, or wide with fear.

    Args:
        image: The upright character in its colour; lids have the colour of the skin around the eyes.
        species: In SPECIES.
        face: Which eyes.
    """
    left, top, side, _ = _character_view(species)
    scale = image.width / side
    pixels = np.asarray(image)
    inner = ""
    for x, y, r in ANCHORS[species].eyes:
        if face == "wide":
            inner += f'<circle cx="{x}" cy="{y}" r="{1.55 * r:.2f}" fill="#fff" stroke="#2b2226" stroke-width="1.6"/>'
            inner += f'<circle cx="{x}" cy="{y}" r="{0.62 * r:.2f}" fill="#2b2226"/>'
            continue
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        rows, columns = (
            np.clip(((middle - edge + 1.5 * r * wave) * scale).round().astype(int), 0, image.width - 1)
            for middle, edge, wave in ((y, top, np.sin(angles)), (x, left, np.cos(angles)))
        )
        around = pixels[rows, columns]
        around = around[around[:, 3] > 200]
        bright = around[:, :3].sum(1)
        skin = np.median(around[bright >= np.median(bright)][:, :3], axis=0).astype(int)
        line = "#2b2226" if skin.sum() > 240 else "#f5f0ea"
        bend = -1.5 if face == "smiling" else 1.5
        inner += f'<circle cx="{x}" cy="{y}" r="{1.28 * r:.2f}" fill="rgb({skin[0]},{skin[1]},{skin[2]})"/>'
        inner += (
            f'<path d="M{x - 1.1 * r:.2f} {y - 0.2 * bend * r:.2f} q{1.1 * r:.2f} {bend * r:.2f} {2.2 * r:.2f} 0" '
            f'fill="none" stroke="{line}" stroke-width="{0.55 * r:.2f}" stroke-linecap="round"/>'
        )
    return inner


@lru_cache(maxsize=4096)
def _coated(species: str, look: str, size: int, face: Face, lean: int) -> Image.Image:
    """Draw a character without its accessory, facing left."""
    image = recolour(_bare(species, size, lean), LOOK_COLOURS[look])
    if face != "open":
        upright = recolour(_bare(species, size, 0), LOOK_COLOURS[look])
        eyes = _leaning(species, _eyes(upright, species, face), lean)
        image.alpha_composite(raster(eyes, size, size, _character_view(species)))
    return image


def character(
    species: str,
    look: str,
    accessory: str,
    size: int,
    facing: str,
    mood: str = "calm",
    *,
    asleep: bool = False,
    lean: int = 0,
) -> Image.Image:
    """Draw a character in its box, with its colour, its accessory and the face of its mood.

    Args:
        species: As in `Character`.
        look: As in `Character`.
        accessory: As in `Character`.
        size: Side of the box in pixels.
        facing: As in `Character`.
        mood: As in `Character`.
        asleep: Whether its eyes are shut.
        lean: Degrees by which it leans forward.
    """
    face = "shut" if asleep else FACES[mood]
    image = _coated(species, look, size, face, -lean).copy()
    if accessory != "none" or mood == "sad":
        image.alpha_composite(_worn(species, accessory, mood == "sad", size, -lean))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if facing == "right" else image


def head(species: str, facing: str) -> float:
    """Return the horizontal position of the head in the box, 0 (left) to 1."""
    left, _, side, _ = _character_view(species)
    position = (ANCHORS[species].hat[0] - left) / side
    return 1 - position if facing == "right" else position


def eye_line(species: str) -> float:
    """Return the vertical position of the eyes in the box, 0 (top) to 1."""
    _, top, side, _ = _character_view(species)
    return (ANCHORS[species].eyes[0][1] - top) / side
