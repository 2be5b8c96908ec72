"""The picture of a gate: one bar for each token."""

from __future__ import annotations

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT = 768, 288
LEFT, RIGHT, TOP, BOTTOM = 56, WIDTH - 20, 62, HEIGHT - 44
PAPER, INK, FAINT, LINE = (24, 26, 31), (236, 236, 240), (150, 153, 163), (58, 61, 70)
COLD, WARM = (64, 110, 190), (245, 158, 66)
CLOSED = "closed: there is no earlier picture to look at, or the gate is 0"


def draw_gate(gate: Tensor, caption: str) -> Tensor:
    """A chart of the mean gate of each token, as a picture [H, W, 3] in 0..1.

    Args:
        gate: The gate as applied, strength included [N].
        caption: Of the picture that it belongs to.
    """
    values = gate.float().tolist()
    mean = sum(values) / len(values)
    scale = next(top for top in (0.5, 1.0, 2.0, 4.0) if max(values) <= top or top == 4.0)
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(16), ImageFont.load_default(12)
    draw.text((LEFT, 10), f"Gate by token, mean {mean:.2f}", INK, large)
    draw.text((LEFT, 33), _shortened(draw, caption, small) if any(values) else CLOSED, FAINT, small)
    for part in range(5):
        y = BOTTOM - (BOTTOM - TOP) * part / 4
        draw.line((LEFT, y, RIGHT, y), LINE)
        draw.text((LEFT - 8, y), f"{scale * part / 4:g}", FAINT, small, anchor="rm")
    step = (RIGHT - LEFT) / len(values)
    for index, value in enumerate(values):
        height = (BOTTOM - TOP) * value / scale
        left, right = LEFT + index * step, LEFT + (index + 1) * step - min(2.0, step / 4)
        draw.rectangle((left, BOTTOM - height, right, BOTTOM), _colour(value / scale))
    for index in range(0, len(values), max(1, len(values) // 8)):
        draw.text((LEFT + (index + 0.5) * step, BOTTOM + 6), str(index), FAINT, small, anchor="mt")
    draw.text(((LEFT + RIGHT) / 2, HEIGHT - 16), "token", FAINT, small, anchor="mt")
    y = BOTTOM - (BOTTOM - TOP) * mean / scale
    draw.line((LEFT, y, RIGHT, y), INK)
    return torch.from_numpy(numpy.array(image)).float() / 255


def _colour(share: float) -> tuple[int, int, int]:
    return tuple(round(cold + (warm - cold) * share) for cold, warm in zip(COLD, WARM, strict=True))


def _shortened(draw: ImageDraw.ImageDraw, caption: str, font: ImageFont.FreeTypeFont) -> str:
    while draw.textlength(caption, font) > RIGHT - LEFT:
        caption = caption.rstrip("\u2026")[:-4] + "\u2026"
    return caption
