"""Pictures of a character that the picture book's renderer did not draw: sketches, crayon, toys before a wall.

Only the main colour of such a picture is worth taking over. Trainings see STYLES; UNSEEN are for measuring.
"""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .sprites import LOOK_COLOURS, character
from .world import Character

STYLES = ("sketch", "crayon", "toy")
UNSEEN = ("blocks", "mosaic")
SIDE = 256
Colour = tuple[int, int, int]

_PAPERS: tuple[Colour, ...] = ((255, 255, 255), (250, 244, 228), (236, 240, 244), (246, 236, 238))
_WALLS: tuple[Colour, ...] = (
    (214, 204, 190), (178, 190, 198), (232, 226, 214), (120, 112, 106), (196, 182, 160), (92, 104, 112),
)  # fmt: skip


def draw(actor: Character, style: str, seed: int) -> np.ndarray:
    """Draw a character in a foreign style.

    Args:
        actor: Whom; its look is the main colour.
        style: One of STYLES or UNSEEN.
        seed: Chooses colours, paper and strokes.

    Returns:
        uint8 array [256, 256, 3].
    """
    rng = random.Random(f"{style} {seed}")
    styles: dict[str, Callable[[Character, random.Random], Image.Image]] = {
        "sketch": _sketch, "crayon": _crayon, "toy": _toy, "blocks": _blocks, "mosaic": _mosaic,
    }  # fmt: skip
    return np.asarray(styles[style](actor, rng).convert("RGB"))


def shade(look: str, rng: random.Random) -> Colour:
    """Return a colour that people call by the name of a look, though not exactly the renderer's."""
    while True:
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in LOOK_COLOURS[look]))
        hue = (hue + rng.uniform(-0.02, 0.02)) % 1
        saturation = min(1.0, saturation * rng.uniform(0.8, 1.15))
        value = min(1.0, value * rng.uniform(0.82, 1.12))
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
        if nearest((red, green, blue)) == look:
            return red, green, blue


def nearest(colour: Colour) -> str:
    """Return the look whose colour is nearest to a colour."""
    return min(
        LOOK_COLOURS,
        key=lambda look: sum((a - b) ** 2 for a, b in zip(LOOK_COLOURS[look], colour, strict=True)),
    )


def _figure(actor: Character, rng: random.Random, size: int) -> Image.Image:
    """Return the character of a size in the renderer's own drawing, turned a little, on a transparent picture."""
    image = character(actor.species, actor.look, "none", size, actor.facing)
    image = image.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    canvas.alpha_composite(image, (rng.randrange(SIDE - size + 1), rng.randrange(SIDE - size + 1)))
    return canvas


def _solid(figure: Image.Image) -> Image.Image:
    return figure.getchannel("A").point([255 * (value > 96) for value in range(256)])


def _lines(figure: Image.Image) -> Image.Image:
    """Return where a drawing is dark, and its outline, as a mask."""
    dark = np.asarray(figure.convert("L")) < 62
    solid = _solid(figure)
    edge = np.asarray(solid.filter(ImageFilter.MaxFilter(5))) != np.asarray(solid)
    return Image.fromarray(((dark & (np.asarray(solid) > 0)) | edge).astype(np.uint8) * 255, "L")


def _sketch(actor: Character, rng: random.Random) -> Image.Image:
    """Fill the figure with one flat colour, not quite within its lines."""
    figure = _figure(actor, rng, rng.choice((160, 192, 224)))
    paper = Image.new("RGB", (SIDE, SIDE), rng.choice(_PAPERS))
    paper.paste(shade(actor.look, rng), (rng.randrange(-3, 4), rng.randrange(-3, 4)), _solid(figure))
    ink = rng.choice(((30, 30, 34), (70, 52, 44), (40, 48, 92)))
    paper.paste(ink, (0, 0), _lines(figure))
    return paper


def _crayon(actor: Character, rng: random.Random) -> Image.Image:
    """Fill the figure with strokes of a crayon."""
    figure = _figure(actor, rng, rng.choice((160, 192, 224)))
    paper = Image.new("RGB", (SIDE, SIDE), rng.choice(_PAPERS))
    strokes = paper.copy()
    pen = ImageDraw.Draw(strokes)
    colour, slope = shade(actor.look, rng), rng.choice((-120, -60, 60, 120))
    for start in range(-SIDE, 2 * SIDE, 5):
        tone = tuple(max(0, min(255, part + rng.randrange(-18, 19))) for part in colour)
        pen.line((start + rng.randrange(-2, 3), 0, start + slope, SIDE), fill=tone, width=rng.choice((3, 4, 5)))
    paper.paste(strokes, (0, 0), _solid(figure))
    paper.paste(tuple(part * 2 // 5 for part in colour), (0, 0), _lines(figure))
    return paper


def _toy(actor: Character, rng: random.Random) -> Image.Image:
    """Show the figure like a photograph of a toy: on a table before a wall, in uneven light, a little blurred."""
    wall, table = rng.choice(_WALLS), rng.choice(_WALLS)
    picture = Image.new("RGB", (SIDE, SIDE), wall)
    edge = rng.randrange(130, 190)
    ImageDraw.Draw(picture).rectangle((0, edge, SIDE, SIDE), fill=table)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(2, 6)))
    figure = _figure(actor, rng, rng.choice((160, 192)))
    shadow = figure.getchannel("A").filter(ImageFilter.GaussianBlur(5)).point([value // 3 for value in range(256)])
    picture.paste((40, 36, 34), (6, 4), shadow)
    picture.paste(figure, (0, 0), figure)
    pixels = np.asarray(picture, dtype=np.float32)
    down, across = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    light = 1 + rng.uniform(-0.35, 0.35) * across + rng.uniform(-0.35, 0.2) * down
    warmth = np.array([1 + rng.uniform(-0.05, 0.08), 1, 1 + rng.uniform(-0.08, 0.05)])
    pixels = pixels * light[..., None] * warmth
    pixels += np.random.default_rng(rng.randrange(2**31)).normal(0, rng.uniform(2, 7), pixels.shape)
    photo = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return photo.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))


def _blocks(actor: Character, rng: random.Random) -> Image.Image:
    """Put an animal together from simple shapes, as a child does: nothing of it is the renderer's."""
    picture = Image.new("RGB", (SIDE, SIDE), rng.choice(_PAPERS))
    pen, colour = ImageDraw.Draw(picture), shade(actor.look, rng)
    ink = (36, 34, 38)
    x, y, wide = rng.randrange(96, 150), rng.randrange(140, 168), rng.randrange(54, 72)
    head = x + rng.choice((-1, 1)) * wide * 3 // 4

    def oval(left: float, top: float, right: float, bottom: float, fill: Colour = colour) -> None:
        pen.ellipse((left, top, right, bottom), fill=fill, outline=ink, width=3)

    for leg in (-0.6, -0.2, 0.2, 0.6):
        pen.rectangle((x + leg * wide - 6, y + 20, x + leg * wide + 6, y + 62), fill=colour, outline=ink, width=3)
    oval(x - wide, y - 36, x + wide, y + 38)
    tall = rng.choice((18, 30, 48))
    for side in (-1, 1):
        oval(head + side * 18 - 9, y - 60 - tall, head + side * 18 + 9, y - 30)
    oval(head - 36, y - 68, head + 36, y)
    for side in (-1, 1):
        oval(head + side * 14 - 4, y - 46, head + side * 14 + 4, y - 38, ink)
    pen.arc((head - 14, y - 34, head + 14, y - 14), 20, 160, fill=ink, width=3)
    return picture


def _mosaic(actor: Character, rng: random.Random) -> Image.Image:
    """Lay the figure in small tiles on a background of two tones."""
    figure = _figure(actor, rng, 224).resize((SIDE // 8, SIDE // 8), Image.Resampling.BOX)
    solid = np.asarray(figure.getchannel("A")) > 128
    light = np.asarray(figure.convert("L"), dtype=np.float32) / 255
    tiles = np.zeros((*solid.shape, 3), dtype=np.float32)
    tones = rng.sample(_WALLS[:3] + _PAPERS, 2)
    checks = np.indices(solid.shape).sum(0) % 2
    for tone in (0, 1):
        tiles[checks == tone] = tones[tone]
    colour = np.array(shade(actor.look, rng), dtype=np.float32)
    tiles[solid] = (colour * np.clip(0.55 + 0.6 * light[..., None], 0.3, 1.1))[solid]
    tiles += np.random.default_rng(rng.randrange(2**31)).normal(0, 6, tiles.shape)
    image = Image.fromarray(np.clip(tiles, 0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    for line in range(0, SIDE, 8):
        pen.line((line, 0, line, SIDE), fill=(90, 90, 90))
        pen.line((0, line, SIDE, line), fill=(90, 90, 90))
    return image
