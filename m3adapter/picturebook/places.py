"""The places of the picture book as backdrops: sky, ground and scenery in every light and weather."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from .sprites import drawing, extent, raster

SIZE = 256
HORIZON = 148

SKIES = {  # top, middle and bottom of the sky
    "day": ("#6fbef5", "#a9dcfb", "#e6f6fd"),
    "sunset": ("#6a5aa8", "#f08a7c", "#ffd08a"),
    "night": ("#101a44", "#24336e", "#46599a"),
}
GREY_SKIES = {
    "day": ("#8fa6ba", "#b3c3d0", "#d5dee5"),
    "sunset": ("#6c6288", "#bd8f92", "#e3bf9c"),
    "night": ("#161d38", "#2a3456", "#444f74"),
}
TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.86, 0.78), "night": (0.50, 0.57, 0.86)}

# Far hills, near hills and the ground, top and bottom.
GROUNDS = {
    "forest": ("#3f8a52", "#4e9a54", "#6fb35a", "#4f9447"),
    "beach": ("#f6e2b0", "#f6e2b0", "#f9e6b8", "#ecc98a"),
    "desert": ("#e2a765", "#ecb878", "#f4c98a", "#e0a964"),
    "mountains": ("#8fa9a0", "#86a98a", "#9bbb8a", "#78a06c"),
    "city": ("#9fb7c9", "#a8b4bd", "#c3c9cd", "#a7aeb4"),
    "meadow": ("#8fcf6a", "#a2d96e", "#b4e27a", "#86c957"),
    "castle": ("#86bf7a", "#93cb78", "#a8d982", "#7fbd62"),
    "village": ("#a9c77a", "#b7d07e", "#cfdc8f", "#a6bf66"),
    "volcano": ("#8a6f6c", "#7d6562", "#8f7772", "#6a5652"),
    "camp": ("#5f9a58", "#7aa95c", "#a3b568", "#82954c"),
    "lake": ("#6fae74", "#83bd76", "#a5d680", "#7cbc5e"),
    "fair": ("#9ccf86", "#b3d98c", "#e6d3a0", "#cfb27c"),
}
SCENERY = {  # sprite, centre x, foot y, height; from the back to the front
    "forest": (
        ("pine", 70, 156, 62), ("pine", 112, 154, 54), ("pine", 150, 156, 60), ("pine", 190, 155, 56),
        ("pine", 32, 172, 112), ("pine", 226, 174, 122), ("mushroom", 62, 178, 18), ("mushroom", 190, 176, 16),
    ),
    "beach": (("sailboat", 96, 142, 34), ("palm", 226, 176, 118), ("parasol", 40, 182, 58)),
    "desert": (("cactus", 38, 176, 72), ("cactus", 214, 170, 54), ("cactus", 120, 158, 28), ("rock", 176, 172, 22)),
    "mountains": (("peak", 196, 166, 108), ("peak", 62, 166, 122), ("mountain", 134, 164, 74), ("pine", 18, 178, 50),
                  ("pine", 240, 178, 46)),
    "city": (("office", 28, 166, 98), ("office", 88, 162, 74), ("office", 150, 164, 88), ("office", 224, 166, 106),
             ("bus", 190, 178, 34)),
    "meadow": (("tree", 206, 170, 92), ("tulip", 24, 180, 30), ("tulip", 50, 174, 24), ("blossom", 76, 178, 16),
               ("tulip", 240, 182, 28), ("blossom", 150, 176, 14), ("tulip", 122, 172, 20)),
    "castle": (("tree", 28, 170, 62), ("castle", 128, 174, 132), ("tree", 232, 170, 58)),
    "village": (("church", 128, 162, 86), ("house", 44, 172, 80), ("cottage", 212, 172, 80)),
    "volcano": (("volcano", 128, 168, 140), ("rock", 34, 178, 34), ("rock", 226, 180, 40)),
    "camp": (("pine", 24, 168, 86), ("pine", 92, 160, 56), ("pine", 138, 160, 50), ("tent", 196, 174, 84),
             ("stump", 92, 182, 22), ("fire", 122, 182, 32)),
    "lake": (("tree", 28, 158, 66), ("pine", 226, 158, 60), ("pine", 198, 154, 46), ("canoe", 90, 170, 44),
             ("lotus", 176, 172, 22), ("lotus", 206, 180, 18)),
    "fair": (("ferris_wheel", 70, 170, 124), ("circus", 190, 172, 96), ("carousel", 128, 176, 44)),
}  # fmt: skip
STARS = ((22, 24), (58, 58), (86, 20), (120, 44), (150, 16), (176, 62), (36, 92), (104, 86), (226, 84), (244, 30))


def _ellipse(x: float, y: float, rx: float, ry: float, fill: str, extra: str = "") -> str:
    return f'<ellipse cx="{x}" cy="{y}" rx="{rx}" ry="{ry}" fill="{fill}" {extra}/>'


def _vertical(name: str, *stops: str) -> str:
    parts = "".join(
        f'<stop offset="{index / (len(stops) - 1):.2f}" stop-color="{colour}"/>' for index, colour in enumerate(stops)
    )
    return f'<linearGradient id="{name}" x1="0" y1="0" x2="0" y2="1">{parts}</linearGradient>'


def standing(name: str, x: float, foot: float, height: float) -> str:
    """Return a sprite of `height` pixels as part of an SVG: it stands on `foot`, and its middle is at x."""
    left, top, right, bottom = extent(name)
    scale = height / (bottom - top)
    shift_x, shift_y = x - (left + right) / 2 * scale, foot - bottom * scale
    return f'<g transform="translate({shift_x:.2f} {shift_y:.2f}) scale({scale:.4f})">{drawing(name)}</g>'


def _sky(light: str, weather: str) -> str:
    skies = SKIES if weather == "clear" else GREY_SKIES
    glow = '<radialGradient id="glow"><stop offset="0.3" stop-color="#fff3bf"/><stop offset="1" stop-color="#fff3bf" '
    glow += 'stop-opacity="0"/></radialGradient>'
    parts = f'<defs>{_vertical("sky", *skies[light])}{glow}</defs><rect width="256" height="176" fill="url(#sky)"/>'
    if light == "night":
        parts += "".join(_ellipse(x, y, 1.8, 1.8, "#fff7cf") for x, y in STARS)
        parts += _ellipse(208, 40, 46, 46, "url(#glow)", 'opacity="0.4"') + standing("moon", 208, 64, 48)
    elif light == "sunset":
        parts += _ellipse(128, 128, 92, 92, "url(#glow)") + _ellipse(128, 128, 40, 40, "#ffdf7e")
    elif weather == "clear":
        parts += _ellipse(44, 42, 42, 42, "url(#glow)") + standing("sun", 44, 70, 56)
    if weather == "clear":
        if light == "day":
            parts += standing("cloud", 152, 50, 30) + standing("cloud", 224, 76, 24)
    else:
        clouds = "".join(
            standing("cloud", x, y, h) for x, y, h in ((40, 44, 44), (112, 34, 40), (176, 48, 46), (236, 36, 40))
        )
        parts += f'<g opacity="{0.55 if light == "night" else 1}">{clouds}</g>'
    return parts


def _whiter(colour: str, amount: float) -> str:
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(
        f"{round(value * (1 - amount) + (244, 248, 252)[i] * amount):02x}" for i, value in enumerate(channels)
    )


def _ground(place: str, weather: str) -> str:
    far, near, top, bottom = (_whiter(colour, 0.82 if weather == "snow" else 0) for colour in GROUNDS[place])
    parts = f"<defs>{_vertical('ground', top, bottom)}{_vertical('water', '#8fd3ee', '#4aa3d8')}</defs>"
    if place == "beach":
        parts += f'<rect y="{HORIZON - 22}" width="256" height="60" fill="url(#water)"/>'
        parts += f'<path d="M0 {HORIZON + 14} q32 -9 64 0 t64 0 t64 0 t64 0 v20 h-256 z" fill="#ffffff" opacity="0.8"/>'
        parts += f'<path d="M0 {HORIZON + 19} q32 -9 64 0 t64 0 t64 0 t64 0 V256 H0 z" fill="url(#ground)"/>'
    else:
        parts += f'<path d="M0 {HORIZON - 4} C40 {HORIZON - 34} 84 {HORIZON - 26} 128 {HORIZON - 6} '
        parts += f'S220 {HORIZON - 36} 256 {HORIZON - 14} V256 H0 Z" fill="{far}"/>'
        parts += f'<path d="M0 {HORIZON + 2} C60 {HORIZON - 16} 110 {HORIZON + 12} 150 {HORIZON + 4} '
        parts += f'S230 {HORIZON - 12} 256 {HORIZON + 6} V256 H0 Z" fill="{near}"/>'
        parts += f'<path d="M0 {HORIZON + 14} C70 {HORIZON + 4} 180 {HORIZON + 4} 256 {HORIZON + 14} V256 H0 Z" '
        parts += 'fill="url(#ground)"/>'
    if place == "lake":
        parts += _ellipse(128, 170, 118, 17, "url(#water)") + _ellipse(70, 166, 22, 1.6, "#e8f8ff", 'opacity="0.7"')
        parts += _ellipse(170, 175, 26, 1.6, "#e8f8ff", 'opacity="0.7"')
    if place == "city":
        parts += '<rect y="180" width="256" height="10" fill="#8d969d"/>'
    parts += "".join(standing(*piece) for piece in SCENERY[place])
    for x, y in ((30, 206), (92, 244), (150, 204), (214, 238)):  # some variety on the ground
        parts += _ellipse(x, y, 16, 3, "#ffffff" if weather == "snow" else bottom, 'opacity="0.7"')
    return parts


def _falling(weather: str, light: str) -> str:
    """Draw rain or snow behind the figures; the pattern repeats every two cells."""
    parts = ""
    for row in range(8):
        for column in range(8):
            x, y = 32 * column + 16 * (row % 2) + 6, 32 * row + 5
            if weather == "rain":
                parts += f'<path d="M{x + 6} {y} l-5 14" stroke="#e3f2fd" stroke-width="2.6" '
                parts += 'stroke-linecap="round" opacity="0.85"/>'
            elif weather == "snow":
                edge = "#b9cde0" if light != "night" else "#8fa3d0"
                parts += _ellipse(x + 2, y + 4, 3.6, 3.6, "#ffffff", f'stroke="{edge}" stroke-width="0.8"')
    return parts


VIEW = (0, 0, SIZE, SIZE)


@lru_cache(maxsize=16)
def _sky_pixels(light: str, weather: str) -> Image.Image:
    return raster(_sky(light, weather), SIZE, SIZE, VIEW)


@lru_cache(maxsize=64)
def _ground_pixels(place: str, weather: str) -> np.ndarray:
    return np.array(raster(_ground(place, weather), SIZE, SIZE, VIEW), dtype=np.float32)


@lru_cache(maxsize=16)
def _falling_pixels(weather: str, light: str) -> Image.Image:
    return raster(_falling(weather, light), SIZE, SIZE, VIEW)


@lru_cache(maxsize=128)
def _drawn(place: str, light: str, weather: str) -> Image.Image:
    canvas = _sky_pixels(light, weather).copy()
    ground = _ground_pixels(place, weather) * np.array([*TINTS[light], 1], dtype=np.float32)
    canvas.alpha_composite(Image.fromarray(ground.astype(np.uint8), "RGBA"))
    if weather != "clear":
        canvas.alpha_composite(_falling_pixels(weather, light))
    return canvas


@lru_cache(maxsize=256)
def backdrop(place: str, light: str, weather: str, mirrored: bool = False) -> Image.Image:
    """Return everything behind the figures as RGBA of SIZE x SIZE pixels; `mirrored` exchanges left and right."""
    image = _drawn(place, light, weather)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
