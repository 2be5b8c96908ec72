"""Draws a gate: a bar for each token of the prompt, and below it how open each channel is to the references."""

from __future__ import annotations

from functools import lru_cache

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT = 1024, 400
LEFT, RIGHT = 76, WIDTH - 20
BARS_TOP, BARS_BOTTOM = 76, 190
MAP_TOP, MAP_BOTTOM = 232, HEIGHT - 54
LARGE, SMALL = 24, 19  # font sizes: nodes show the picture at less than half of its size
PAPER, INK, FAINT, LINE = (24, 26, 31), (236, 236, 240), (150, 153, 163), (58, 61, 70)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SCALES = (0.5, 1.0, 2.0, 4.0)
COLD, WARM = (44, 62, 99), (250, 168, 80)
CLOSED = "closed: there is no earlier picture to look at, or the gate is 0"
# The tokens of the prompt are learned, and none of them stands for one word of the caption. But the adapter was trained
# to imitate the decoder's text encoders: the caption comes first, followed by tokens without a meaning of their own.
PLACES = "the words of the caption come first", "then places that are free for what earlier pictures show"


def draw_gate(gate: Tensor, caption: str) -> Tensor:
    """Draw a chart of the gate by token of the prompt and by channel.

    Channels have no natural order; they are sorted by their mean gate, the most open one on top.

    Args:
        gate: The gate as applied, including its strength [N, W].
        caption: Caption of the picture that the gate belongs to.

    Returns:
        A picture [H, W, 3] in 0..1.
    """
    gate = gate.float().cpu()
    tokens = gate.mean(1).tolist()
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    large, small = _font(LARGE), _font(SMALL)
    draw.text((LEFT, 10), f"How far the gate is open along the prompt: {float(gate.mean()):.2f} on average", INK, large)
    draw.text((LEFT, 42), _shortened(draw, caption, small) if gate.any() else CLOSED, FAINT, small)
    _bars(draw, tokens, small)
    _channels(image, draw, gate, small)
    first, then = PLACES
    draw.text((LEFT, MAP_BOTTOM + 8), first, FAINT, small)
    draw.text((RIGHT, MAP_BOTTOM + 8), then, FAINT, small, anchor="ra")
    _arrow(draw, HEIGHT - 14)
    return torch.from_numpy(numpy.array(image)).div(255)


@lru_cache
def _font(size: int) -> Font:
    """Return Pillow's font, which is read anew whenever Pillow is asked for it."""
    return ImageFont.load_default(size)


def _arrow(draw: ImageDraw.ImageDraw, y: float) -> None:
    """Draw an arrow from the start of the prompt to its end."""
    draw.line((LEFT, y, RIGHT, y), FAINT, 2)
    draw.polygon(((RIGHT, y), (RIGHT - 12, y - 5), (RIGHT - 12, y + 5)), FAINT)


def _bars(draw: ImageDraw.ImageDraw, values: list[float], font: Font) -> None:
    """Draw the mean gate of each token, and a line at the overall mean."""
    scale = _scale(max(values))
    high = BARS_BOTTOM - BARS_TOP
    for part in range(3):
        y = BARS_BOTTOM - high * part / 2
        draw.line((LEFT, y, RIGHT, y), LINE)
        draw.text((LEFT - 8, y), f"{scale * part / 2:g}", FAINT, font, anchor="rm")
    step = (RIGHT - LEFT) / len(values)
    for index, value in enumerate(values):
        left, right = LEFT + index * step, LEFT + (index + 1) * step - min(2.0, step / 4)
        colour = tuple(round(cold + (warm - cold) * value / scale) for cold, warm in zip(COLD, WARM, strict=True))
        draw.rectangle((left, BARS_BOTTOM - high * min(value / scale, 1), right, BARS_BOTTOM), colour)
    y = BARS_BOTTOM - high * sum(values) / len(values) / scale
    draw.line((LEFT, y, RIGHT, y), INK)


def _channels(image: Image.Image, draw: ImageDraw.ImageDraw, gate: Tensor, font: Font) -> None:
    """Draw a cell for each token and channel, brighter where the gate is more open."""
    scale = _scale(float(gate.max()))
    heading = f"channel by channel, the most open one on top; the brightest is open to {scale:g}"
    draw.text((LEFT, MAP_TOP - 28), heading, FAINT, font)
    order = gate.mean(0).argsort(descending=True, stable=True)
    share = (gate[:, order].T / scale).clamp(0, 1).numpy()[..., None]
    cells = numpy.array(COLD) + (numpy.array(WARM) - numpy.array(COLD)) * share
    cell_map = Image.fromarray(cells.round().astype(numpy.uint8))
    # Tokens keep sharp edges; channels usually outnumber the pixels and are averaged.
    cell_map = cell_map.resize((cell_map.width, MAP_BOTTOM - MAP_TOP), Image.Resampling.BOX)
    image.paste(cell_map.resize((RIGHT - LEFT, MAP_BOTTOM - MAP_TOP), Image.Resampling.NEAREST), (LEFT, MAP_TOP))
    for y, name, anchor in ((MAP_TOP, "most", "ra"), (MAP_BOTTOM, "least", "rd")):
        draw.text((LEFT - 8, y), name, FAINT, font, anchor=anchor)


def _scale(highest: float) -> float:
    return next((scale for scale in SCALES if highest <= scale), SCALES[-1])


def _shortened(draw: ImageDraw.ImageDraw, caption: str, font: Font) -> str:
    while draw.textlength(caption, font) > RIGHT - LEFT:
        caption = caption.rstrip("\u2026")[:-4] + "\u2026"
    return caption
