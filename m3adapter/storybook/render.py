"""Draws a scene of the storybook world as a 128 x 128 picture.

Sky, ground, light and weather are drawn here; characters, props and scenery are sprites (see NOTICE). The look of a
character replaces the colours of its sprite but not their lightness, which keeps faces and outlines.
"""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .world import Scene

SIZE = 128
CELL = 8  # side of a cell of the latents; figures stand on its grid, so that each is one pattern wherever it stands
HORIZON = 78
FINE = 4  # shapes are drawn this many times larger and then reduced, for smooth edges
SPRITES = Path(__file__).parent / "sprites"

LOOK_COLOURS = {
    "red": (214, 48, 49),
    "orange": (245, 140, 30),
    "yellow": (248, 214, 50),
    "green": (70, 175, 75),
    "blue": (50, 120, 225),
    "purple": (140, 75, 200),
    "pink": (245, 130, 185),
    "grey": (140, 145, 155),
}
SKIES = {  # top and bottom of the sky
    "day": ((120, 190, 245), (215, 238, 252)),
    "sunset": ((105, 80, 150), (255, 170, 110)),
    "night": ((16, 22, 58), (52, 62, 112)),
}
LIGHT_TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.85, 0.75), "night": (0.50, 0.55, 0.80)}
GROUNDS = {
    "forest": (74, 122, 66),
    "beach": (240, 218, 160),
    "desert": (232, 178, 104),
    "mountains": (128, 142, 132),
    "city": (150, 150, 156),
    "meadow": (132, 196, 84),
    "castle": (110, 160, 84),
    "village": (158, 182, 100),
    "volcano": (104, 84, 80),
    "camp": (142, 132, 84),
}
SCENERY = {  # sprite, centre x, foot y, height
    "forest": (("pine", 14, 84, 56), ("pine", 112, 86, 60), ("pine", 62, 80, 44)),
    "beach": (("palm", 112, 88, 62),),
    "desert": (("cactus", 15, 88, 44), ("cactus", 114, 82, 32)),
    "mountains": (("peak", 32, 84, 66), ("peak", 100, 84, 54)),
    "city": (),
    "meadow": (("tulip", 9, 92, 20), ("tulip", 117, 90, 20), ("tulip", 64, 85, 16), ("tree", 98, 82, 40)),
    "castle": (("castle", 64, 86, 68),),
    "village": (("house", 22, 86, 46), ("house", 106, 86, 46)),
    "volcano": (("volcano", 64, 86, 70),),
    "camp": (("tent", 104, 88, 46), ("tree", 18, 84, 50)),
}
SKYLINE = ((0, 44), (14, 28), (30, 52), (46, 36), (62, 58), (78, 32), (92, 48), (108, 26), (118, 40))


@lru_cache(maxsize=4096)
def sprite(name: str, height: int, look: str | None = None, width: int | None = None) -> Image.Image:
    """Return a sprite of at most `height` by `width` pixels (`height` by default), in the colour of `look` if given."""
    image = Image.open(SPRITES / f"{name}.png").convert("RGBA")
    scale = min(height / image.height, (width or height) / image.width)
    if look is not None:
        image = recolour(image, LOOK_COLOURS[look])
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def recolour(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Give an image the hue and mean lightness of a colour, keeping shadows and highlights."""
    pixels = np.asarray(image, dtype=np.float32)
    light = pixels[..., :3] @ np.array([0.30, 0.59, 0.11], dtype=np.float32) / 255
    solid = pixels[..., 3] > 128
    middle = float(np.clip(np.median(light[solid]), 0.25, 0.95))
    below = np.clip(light / middle, 0, 1)[..., None]
    above = np.clip((light - middle) / max(1 - middle, 0.3), 0, 1)[..., None]
    base = np.array(colour, dtype=np.float32)
    toned = base * (0.12 + 0.88 * below) * (1 - 0.75 * above) + 255 * 0.75 * above
    return Image.fromarray(np.dstack([np.clip(toned, 0, 255), pixels[..., 3]]).astype(np.uint8), "RGBA")


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int], height: int) -> np.ndarray:
    steps = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(np.array(top) * (1 - steps) + np.array(bottom) * steps, (height, SIZE, 3))


def _paste(canvas: Image.Image, image: Image.Image, centre: int, foot: int) -> None:
    canvas.alpha_composite(image, (max(0, centre - image.width // 2), max(0, foot - image.height)))


def _stand(canvas: Image.Image, image: Image.Image, centre: int, foot: int) -> None:
    """Paste a figure on the place of the grid that is nearest."""
    left, top = centre - image.width / 2, foot - image.height
    canvas.alpha_composite(image, (max(0, CELL * round(left / CELL)), max(0, CELL * round(top / CELL))))


class _Pen:
    """Draws shapes, in picture coordinates, on a transparent layer FINE times as large."""

    def __init__(self) -> None:
        self.layer = Image.new("RGBA", (SIZE * FINE, SIZE * FINE), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.layer)

    def disc(self, x: float, y: float, width: float, height: float, fill: tuple[int, ...]) -> None:
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self._draw.ellipse([FINE * value for value in box], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: tuple[int, ...]) -> None:
        self._draw.rectangle([FINE * value for value in (left, top, right, bottom)], fill=fill)

    def stroke(self, points: tuple[float, ...], width: float, fill: tuple[int, ...]) -> None:
        self._draw.line([FINE * value for value in points], fill=fill, width=round(FINE * width))

    def image(self) -> Image.Image:
        return self.layer.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.BOX).convert("RGBA")


def _sky(light: str, weather: str) -> Image.Image:
    pixels = _gradient(*SKIES[light], SIZE)
    if weather != "clear":
        pixels = pixels * 0.55 + np.array((150, 155, 165)) * 0.45 * (0.5 if light == "night" else 1.0)
    canvas = Image.fromarray(pixels.astype(np.uint8), "RGB").convert("RGBA")
    pen = _Pen()
    if light == "night":
        for x, y in ((20, 14), (44, 30), (66, 10), (90, 24), (56, 46), (10, 42), (118, 40)):
            pen.disc(x, y, 3, 3, (250, 246, 215))
        pen.disc(108, 16, 20, 20, (250, 244, 205))
    elif light == "sunset":
        pen.disc(68, 72, 36, 36, (255, 214, 110))
    elif weather == "clear":
        pen.disc(22, 20, 24, 24, (255, 226, 90))
    if weather != "clear":
        shade = (215, 220, 228) if light != "night" else (88, 94, 122)
        for x, y in ((24, 12), (62, 8), (100, 14)):
            pen.disc(x, y, 40, 17, shade)
    canvas.alpha_composite(pen.image())
    return canvas


def _ground(place: str, weather: str) -> Image.Image:
    pen = _Pen()
    colour: tuple[int, ...] = GROUNDS[place]
    if weather == "snow":
        colour = tuple(round(0.25 * channel + 0.75 * 248) for channel in colour)
    dark = tuple(round(channel * 0.86) for channel in colour)
    if place == "city":
        for index, (x, height) in enumerate(SKYLINE):
            tone = 96 + 18 * (index % 3)
            pen.box(x, HORIZON + 2 - height, x + 13, HORIZON + 6, (tone, tone + 10, tone + 28))
            for row in range(HORIZON - height + 6, HORIZON - 2, 9):
                pen.box(x + 4, row, x + 9, row + 4, (250, 232, 150))
    if place == "beach":
        pen.box(0, HORIZON - 12, SIZE, HORIZON + 8, (58, 140, 200))
    if place in ("desert", "meadow"):
        pen.disc(20, HORIZON + 14, 120, 52, dark)
        pen.disc(115, HORIZON + 16, 130, 48, dark)
    pen.disc(64, HORIZON + 30, 260, 60, colour)
    pen.box(0, HORIZON + 20, SIZE, SIZE, colour)
    pen.disc(64, SIZE + 7, 168, 46, dark)
    layer = pen.image()
    for name, x, foot, height in SCENERY[place]:
        _paste(layer, sprite(name, height, width=height * 2), x, foot)
    return layer


@lru_cache(maxsize=512)
def _backdrop(place: str, light: str, weather: str) -> Image.Image:
    """Draw sky, ground and scenery, which are the same in all pictures of a place, light and weather."""
    canvas = _sky(light, weather)
    pixels = np.array(_ground(place, weather), dtype=np.float32)
    pixels[..., :3] *= np.array(LIGHT_TINTS[light], dtype=np.float32)
    canvas.alpha_composite(Image.fromarray(pixels.astype(np.uint8), "RGBA"))
    return canvas


@lru_cache(maxsize=2)
def _weather(weather: str) -> Image.Image:
    pen = _Pen()
    for row in range(4):
        for column in range(4):
            x, y = 18 + 32 * column + 14 * (row % 2), 16 + 30 * row
            if weather == "rain":
                pen.stroke((x, y, x - 4, y + 11), 2, (190, 215, 245))
            elif weather == "snow":
                pen.disc(x, y, 5, 5, (255, 255, 255))
    return pen.image()


def render(scene: Scene, seed: int) -> np.ndarray:
    """Draw a scene.

    Args:
        scene: What to draw.
        seed: Chooses the layout (on which side one character stands); equal seeds give equal pictures.

    Returns:
        uint8 array [128, 128, 3].
    """
    return render_with_figures(scene, seed)[0]


def render_with_figures(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene like `render`, and return the mask of its characters and prop as well: bool array [128, 128]."""
    rng = random.Random(seed)
    canvas = _backdrop(scene.place, scene.light, scene.weather).copy()
    if scene.weather == "snow":
        canvas.alpha_composite(_weather("snow"))
    figures = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    if len(scene.characters) == 1:
        side = rng.choice((-1, 1))
        spots, foot, height = [64 + 18 * side], 120, 64
        prop_spot, prop_foot, prop_height = 64 - 34 * side, 120, 40
    else:
        spots, foot, height = [30, 98], 116, 52
        prop_spot, prop_foot, prop_height = 64, 126, 38
    for actor, spot in zip(scene.characters, spots, strict=True):
        _stand(figures, sprite(actor.species, height, actor.look), spot, foot)
    if scene.prop:
        _stand(figures, sprite(scene.prop, prop_height), prop_spot, prop_foot)
    canvas.alpha_composite(figures)
    if scene.weather == "rain":
        canvas.alpha_composite(_weather("rain"))
    tint = np.array(LIGHT_TINTS[scene.light], dtype=np.float32)
    pixels = np.asarray(canvas.convert("RGB"), dtype=np.float32) * (0.75 + 0.25 * tint)
    return pixels.astype(np.uint8), np.asarray(figures)[..., 3] > 32
