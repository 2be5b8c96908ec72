"""A sweep over the gate: one picture at several strengths and seeds, with its similarity to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ..values import check_gate, shown

MAX_VALUES = 12  # gates, or seeds, in a sweep
PAPER, INK, FAINT = (24, 26, 31), (236, 236, 240), (150, 153, 163)


@dataclass(frozen=True)
class Cell:
    """One picture of a sweep.

    Attributes:
        image: The picture [H, W, 3] in 0..1.
        similarity: Similarity to the reference, -1..1; None without a reference.
    """

    image: Tensor
    similarity: float | None = None


def parse_gates(text: str) -> list[float]:
    """Parse gate strengths such as "0, 0.5, 1".

    Raises:
        ValueError: The text does not consist of 1 to 12 numbers from 0 to 4.
    """
    parts = text.replace(",", " ").replace(";", " ").split()
    try:
        gates = [float(part) for part in parts]
    except ValueError:
        gates = []
    if not 1 <= len(gates) <= MAX_VALUES:
        raise ValueError(f"gates is {shown(text)}: give 1 to {MAX_VALUES} numbers, such as 0, 0.25, 0.5, 0.75, 1.")
    for gate in gates:
        check_gate(gate)
    return gates


def similarity(levels: Tensor, references: Tensor) -> float:
    """Return the similarity of a picture to the most similar reference: the cosine of their mean deepest features.

    Args:
        levels: Features of the picture [L, P, D].
        references: Features of the references [R, L, P, D], R at least 1.
    """
    picture, others = levels[-1].float().mean(0), references[:, -1].float().mean(1)
    return float(functional.cosine_similarity(picture[None].to(others), others, dim=-1).max())


def draw_sheet(rows: Sequence[Sequence[Cell]], gates: Sequence[float], seeds: Sequence[int]) -> Tensor:
    """Draw the pictures as a labelled sheet [H, W, 3] in 0..1: a column for each gate, a row for each seed."""
    height, width = rows[0][0].image.shape[:2]
    small = max(12, width // 11)
    large, gap = round(small * 1.3), max(4, width // 32)
    font, title = ImageFont.load_default(small), ImageFont.load_default(large)
    names = [f"seed {seed}" for seed in seeds]
    head, foot = 2 * large, 2 * small
    sheet = Image.new("RGB", (gap + len(gates) * (width + gap), head + len(rows) * (height + foot) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, gate in enumerate(gates):
        left = gap + column * (width + gap)
        draw.text((left + width / 2, head / 2), f"gate {gate:g}", INK, title, anchor="mm")
        for row, cells in enumerate(rows):
            top, cell = head + row * (height + foot), cells[column]
            pixels = (cell.image.clamp(0, 1) * 255).round().byte().cpu().numpy()
            sheet.paste(Image.fromarray(pixels), (left, top))
            middle = top + height + foot / 2
            if cell.similarity is not None:
                draw.text((left + width, middle), f"{cell.similarity:.3f}", INK, font, anchor="rm")
            if column == 0:
                name = names[row]
                while draw.textlength(name, font) > width * 0.62:
                    name = name.rstrip("\u2026")[:-1] + "\u2026"
                draw.text((left, middle), name, FAINT, font, anchor="lm")
    return torch.from_numpy(numpy.array(sheet)).float() / 255
