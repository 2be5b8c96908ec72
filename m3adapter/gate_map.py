"""The picture of a gate: a bar for each token, and below them which channels of the tokens listen to the references."""

from __future__ import annotations

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT = 768, 512
LEFT, RIGHT = 56, WIDTH - 20
BARS_TOP, BARS_BOTTOM = 62, 220
MAP_TOP, MAP_BOTTOM = 266, HEIGHT - 44
PAPER, INK, FAINT, LINE = (24, 26, 31), (236, 236, 240), (150, 153, 163), (58, 61, 70)
SCALES = (0.5, 1.0, 2.0, 4.0)
COLD, WARM = (44, 62, 99), (250, 168, 80)
CLOSED = "closed: there is no earlier picture to look at, or the gate is 0"


def draw_gate(gate: Tensor, caption: str) -> Tensor:
    """A chart of the gate by token and channel, as a picture [H, W, 3] in 0..1.

    Channels have no order of their own; they stand from the one that is open widest in all, at the top, down.

    Args:
        gate: The gate as applied, strength included [N, W].
        caption: Of the picture that it belongs to.
    """
    gate = gate.float().cpu()
    tokens = gate.mean(1).tolist()
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(16), ImageFont.load_default(12)
    draw.text((LEFT, 10), f"Gate by token, mean {float(gate.mean()):.2f}", INK, large)
    draw.text((LEFT, 33), _shortened(draw, caption, small) if gate.any() else CLOSED, FAINT, small)
    _bars(draw, tokens, small)
    _channels(image, draw, gate, small)
    step = (RIGHT - LEFT) / len(tokens)
    for index in range(0, len(tokens), max(1, len(tokens) // 8)):
        draw.text((LEFT + (index + 0.5) * step, MAP_BOTTOM + 6), str(index), FAINT, small, anchor="mt")
    draw.text(((LEFT + RIGHT) / 2, HEIGHT - 16), "token", FAINT, small, anchor="mt")
    return torch.from_numpy(numpy.array(image)).float() / 255


def _bars(draw: ImageDraw.ImageDraw, values: list[float], font: ImageFont.FreeTypeFont) -> None:
    """The mean gate of each token, and a line at the mean of all."""
    scale = _scale(max(values))
    high = BARS_BOTTOM - BARS_TOP
    for part in range(5):
        y = BARS_BOTTOM - high * part / 4
        draw.line((LEFT, y, RIGHT, y), LINE)
        draw.text((LEFT - 8, y), f"{scale * part / 4:g}", FAINT, font, anchor="rm")
    step = (RIGHT - LEFT) / len(values)
    for index, value in enumerate(values):
        left, right = LEFT + index * step, LEFT + (index + 1) * step - min(2.0, step / 4)
        colour = tuple(round(cold + (warm - cold) * value / scale) for cold, warm in zip(COLD, WARM, strict=True))
        draw.rectangle((left, BARS_BOTTOM - high * min(value / scale, 1), right, BARS_BOTTOM), colour)
    y = BARS_BOTTOM - high * sum(values) / len(values) / scale
    draw.line((LEFT, y, RIGHT, y), INK)


def _channels(image: Image.Image, draw: ImageDraw.ImageDraw, gate: Tensor, font: ImageFont.FreeTypeFont) -> None:
    """A cell for each token and channel, the brighter the wider it is open."""
    scale = _scale(float(gate.max()))
    draw.text((LEFT, MAP_TOP - 22), f"by channel, the most open one on top; brightest: {scale:g}", FAINT, font)
    order = gate.mean(0).argsort(descending=True, stable=True)
    share = (gate[:, order].T / scale).clamp(0, 1).numpy()[..., None]
    cells = numpy.array(COLD) + (numpy.array(WARM) - numpy.array(COLD)) * share
    part = Image.fromarray(cells.round().astype(numpy.uint8))
    # every token keeps its sharp edge; channels are usually more than pixels, and share them
    part = part.resize((part.width, MAP_BOTTOM - MAP_TOP), Image.Resampling.BOX)
    image.paste(part.resize((RIGHT - LEFT, MAP_BOTTOM - MAP_TOP), Image.Resampling.NEAREST), (LEFT, MAP_TOP))
    for y, name in ((MAP_TOP, "1"), (MAP_BOTTOM, str(gate.shape[1]))):
        draw.text((LEFT - 8, y), name, FAINT, font, anchor="rm")


def _scale(highest: float) -> float:
    return next((scale for scale in SCALES if highest <= scale), SCALES[-1])


def _shortened(draw: ImageDraw.ImageDraw, caption: str, font: ImageFont.FreeTypeFont) -> str:
    while draw.textlength(caption, font) > RIGHT - LEFT:
        caption = caption.rstrip("\u2026")[:-4] + "\u2026"
    return caption
