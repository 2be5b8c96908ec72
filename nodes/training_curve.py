"""The losses of a training: read from its folder, and drawn while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

NAMES = {"stage1": "Alignment", "stage2": "References"}
HELD_OUT = {"stage1": "validation_denoise", "stage2": "validation_denoise_1"}  # what is drawn of each measurement
WIDTH, MARGIN, LETTERS = 512, 12, 18
HEIGHTS = (200, 130)  # of the losses, and of what is measured on held-out samples
BACK, GRID, RAW, SMOOTH, MEASURED = "#202020", "#3a3a3a", "#4a6a8a", "#7fc4ff", "#ffc46b"
SMOOTHED = 0.9  # how much of a smoothed loss is that before it
POINTS = 1000  # of a curve, at most


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


def losses(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the loss of every step."""
    return [float(line["loss"]) for line in lines if "loss" in line]


def describe(lines: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> str:
    """Return a line for each stage: its steps, its loss, and what was measured on held-out samples."""
    told = []
    for stage in stages:
        own = [line for line in lines if line["stage"] == stage]
        values = losses(own)
        if not values:
            continue
        few = max(1, len(values) // 10)
        text = f"{NAMES[stage]}: {len(values)} steps, loss {_mean(values[:few]):.4f} to {_mean(values[-few:]):.4f}"
        measured = [line for line in own if any(name.startswith("validation_") for name in line)]
        if measured:
            first, last = measured[0], measured[-1]
            figures = [
                f"{name.removeprefix('validation_')} {first[name]:.4f} to {value:.4f}"
                for name, value in last.items()
                if name.startswith("validation_") and name in first
            ]
            text += f"; held out, from step {first['step']} to {last['step']}: {', '.join(figures)}"
        told.append(f"{text}.")
    return "\n".join(told)


def draw(lines: Sequence[Mapping[str, Any]], steps: Mapping[str, int]) -> Image.Image:
    """Return a picture of the losses so far and their moving average, and of what was measured on held-out samples.

    Args:
        lines: The figures so far, each with its `stage`.
        steps: Of each stage, in order.
    """
    before, total = {}, 0
    for stage, count in steps.items():
        before[stage] = total
        total += count
    raw = [(stage, _points(lines, "loss", stage, before[stage])) for stage in steps]
    held = [(stage, _points(lines, HELD_OUT[stage], stage, before[stage])) for stage in steps]
    last = max((points[-1][0] for _, points in (*raw, *held) if points), default=1) or 1
    image = Image.new("RGB", (WIDTH, HEIGHTS[0] + HEIGHTS[1] * any(points for _, points in held)), BACK)
    pen = ImageDraw.Draw(image)
    upper = _Panel(pen, 0, HEIGHTS[0], [value for _, points in raw for _, value in points], last)
    for _, points in raw:
        smooth = list(_smoothed(points))
        thin = max(1, len(points) // POINTS)
        upper.line(points[::thin], RAW, 1)
        upper.line(smooth[::thin], SMOOTH, 3)
    upper.text("loss")
    if image.height > HEIGHTS[0]:
        lower = _Panel(pen, *HEIGHTS, [value for _, points in held for _, value in points], last)
        for _, points in held:
            lower.line(points, MEASURED, 2)
            lower.dots(points, MEASURED)
        lower.text("held out")
    begins = [x for stage, x in before.items() if x and any(line["stage"] == stage for line in lines)]
    for x in begins:
        across = upper.across(x)
        pen.line([(across, 0), (across, image.height)], fill=GRID, width=2)
    return image


class _Panel:
    """A part of the picture with an axis of its own."""

    def __init__(self, pen: ImageDraw.ImageDraw, top: int, height: int, values: Sequence[float], last: int) -> None:
        self.pen, self.top, self.height, self.last = pen, top, height, last
        self.low, self.high = min(values, default=0.0), max(values, default=0.0)
        for part in range(3):
            y = top + MARGIN + LETTERS + part * (height - 2 * MARGIN - LETTERS) // 2
            pen.line([(MARGIN, y), (WIDTH - MARGIN, y)], fill=GRID)

    def across(self, x: int) -> float:
        return MARGIN + x * (WIDTH - 2 * MARGIN) / self.last

    def at(self, point: tuple[int, float]) -> tuple[float, float]:
        room = self.height - 2 * MARGIN - LETTERS
        span = self.high - self.low
        share = (point[1] - self.low) / span if span else 0.5
        return self.across(point[0]), self.top + self.height - MARGIN - share * room

    def line(self, points: Sequence[tuple[int, float]], colour: str, width: int) -> None:
        if len(points) > 1:
            self.pen.line([self.at(point) for point in points], fill=colour, width=width)

    def dots(self, points: Sequence[tuple[int, float]], colour: str) -> None:
        for x, y in map(self.at, points):
            self.pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)

    def text(self, name: str) -> None:
        write(self.pen, (MARGIN, self.top), f"{name}, {self.low:.4g} to {self.high:.4g}")


def write(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str) -> None:
    """Write a text that is legible on any picture."""
    font = ImageFont.load_default(LETTERS)
    pen.text(at, text, fill="white", font=font, stroke_width=2, stroke_fill="black")


def _points(lines: Sequence[Mapping[str, Any]], name: str, stage: str, before: int) -> list[tuple[int, float]]:
    return [
        (before + int(line["step"]), float(line[name])) for line in lines if line["stage"] == stage and name in line
    ]


def _smoothed(points: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    smooth = points[0][1] if points else 0.0
    for x, value in points:
        smooth = SMOOTHED * smooth + (1 - SMOOTHED) * value
        yield x, smooth


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
