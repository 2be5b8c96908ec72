"""The losses of a training: read from its folder, and drawn while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 512, 256, 12
BACK, GRID, RAW, SMOOTH = "#202020", "#3a3a3a", "#4a6a8a", "#7fc4ff"
SMOOTHED = 0.9  # how much of a smoothed loss is that before it


def read(folder: Path, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines of these stages' curves, each with its `stage`, in order; a cut line is left out."""
    lines = []
    for stage in stages:
        path = folder / f"{stage}_curve.jsonl"
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            try:
                lines.append({**json.loads(line), "stage": stage})
            except ValueError:
                continue
    return lines


def losses(lines: Sequence[dict[str, Any]]) -> list[float]:
    """Return the loss of every step."""
    return [float(line["loss"]) for line in lines if "loss" in line]


def describe(lines: Sequence[dict[str, Any]], stages: Sequence[str]) -> str:
    """Return a line for each stage: its steps, its loss, and what was measured on held-out samples."""
    names = {"stage1": "Alignment", "stage2": "References"}
    told = []
    for stage in stages:
        own = [line for line in lines if line["stage"] == stage]
        values = losses(own)
        if not values:
            continue
        few = max(1, len(values) // 10)
        text = f"{names[stage]}: {len(values)} steps, loss {_mean(values[:few]):.4f} to {_mean(values[-few:]):.4f}"
        measured = [line for line in own if any(name.startswith("validation_") for name in line)]
        if measured:
            first, last = measured[0], measured[-1]
            figures = [
                f"{name.removeprefix('validation_')} {first[name]:.4f} to {value:.4f}"
                for name, value in last.items()
                if name.startswith("validation_") and name in first
            ]
            text += f"; held out: {', '.join(figures)}"
        told.append(f"{text}.")
    return "\n".join(told)


def draw(values: Sequence[float]) -> Image.Image:
    """Return a picture of the losses so far, and of their moving average."""
    image = Image.new("RGB", (WIDTH, HEIGHT), BACK)
    pen = ImageDraw.Draw(image)
    for part in range(5):
        y = MARGIN + part * (HEIGHT - 2 * MARGIN) // 4
        pen.line([(MARGIN, y), (WIDTH - MARGIN, y)], fill=GRID)
    smooth, curve = values[0], []
    for value in values:
        smooth = SMOOTHED * smooth + (1 - SMOOTHED) * value
        curve.append(smooth)
    low, high = min(values), max(values)
    span = high - low or 1.0

    def at(place: int, value: float) -> tuple[float, float]:
        x = MARGIN + place * (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
        return x, HEIGHT - MARGIN - (value - low) / span * (HEIGHT - 2 * MARGIN)

    for series, colour, width in ((values, RAW, 1), (curve, SMOOTH, 3)):
        if len(series) > 1:
            pen.line([at(place, value) for place, value in enumerate(series)], fill=colour, width=width)
    pen.text((MARGIN, 0), f"loss {high:.4g}", fill="white")
    pen.text((MARGIN, HEIGHT - MARGIN - 2), f"{low:.4g}", fill="white")
    return image


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
