"""A sheet of samples while a training runs: what the data set shows, what the adapter made of it at first, and now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageOps

from ..m3adapter.datasets.sample import Dataset, Sample
from .training_curve import write

if TYPE_CHECKING:
    from .training_models import ManagedModels

COUNT, STEPS, SIDE = 4, 8, 192  # pictures, denoising steps of each, and pixels on the sheet
PARTS = {"language_model": "language", "vision_encoder": "vision", "text_encoders": "texts"}


class Samples:
    """Paints the first held-out samples of a data set again and again, with the same noise.

    Args:
        models: The models of a training.
        held_out: Returns the samples that it does not learn from.
        begin: The sheet before its first step.
    """

    def __init__(self, models: ManagedModels, held_out: Callable[[], Dataset | None], begin: Path) -> None:
        self.models, self.held_out, self.begin = models, held_out, begin
        self._samples: list[Sample] | None = None

    def paint(self, path: Path, told: Callable[[str, int, int], None]) -> Image.Image | None:
        """Write a sheet to a file and return it; None if nothing is held out.

        Args:
            path: The file.
            told: Called with what is done, how much of it is done, and how much there is.

        Raises:
            Interrupted: The user has stopped the run.
        """
        from ..m3adapter.m3_painter import M3Painter
        from ..m3adapter.pipeline import M2Chat

        models = self.models

        def prepare(part: str) -> None:
            models.at_work(*[PARTS[part]] if part in PARTS else [])

        if self._samples is None:
            held = self.held_out()
            self._samples = [held[index] for index in range(min(COUNT, len(held)))] if held else []
        if not self._samples:
            return None
        painter = M3Painter(models.vision, models.adapter, models.decoder, prepare)
        chat = M2Chat(models.language, models.vision, prepare=prepare, painter=painter)
        first = None if path == self.begin else self._first(len(self._samples))
        names = ("data", "before", "now") if first else ("data", "before" if path == self.begin else "now")
        sheet = Image.new("RGB", (SIDE * len(self._samples), len(names) * SIDE))
        if first:
            sheet.paste(first, (0, SIDE))
        with torch.no_grad():
            for column, sample in enumerate(self._samples):
                told("painting samples", column + 1, len(self._samples))
                condition = chat.fuse(chat.encode(sample.conversation, sample.slot))
                painted = chat.paint(condition, steps=STEPS, seed=column)
                for row, pixels in ((0, sample.picture.pixels), (len(names) - 1, painted)):
                    values = (pixels.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
                    sheet.paste(_fitted(Image.fromarray(values)), (column * SIDE, row * SIDE))
        for row, name in enumerate(names):
            write(ImageDraw.Draw(sheet), (4, row * SIDE), name)
        part = path.with_suffix(".part")  # a sheet that was cut off would be read by the next run
        sheet.save(part, "PNG")
        part.replace(path)
        return sheet

    def _first(self, count: int) -> Image.Image | None:
        """Return what was painted before the first step, if a page was watching then."""
        if not self.begin.is_file():
            return None
        with Image.open(self.begin) as sheet:
            size = (SIDE * count, SIDE)
            return sheet.convert("RGB").crop((0, SIDE, size[0], 2 * SIDE)) if sheet.width == size[0] else None


def _fitted(image: Image.Image) -> Image.Image:
    """Return a picture in the middle of a square of the sheet."""
    image = ImageOps.contain(image, (SIDE, SIDE))
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return square
