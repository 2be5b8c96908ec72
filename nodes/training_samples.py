"""A sheet of samples while a training runs: what the data set shows above what the adapter makes of it so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageOps

from ..m3adapter.datasets.opening import open_dataset
from ..m3adapter.datasets.sample import DatasetError, Sample

if TYPE_CHECKING:
    from ..m3adapter.training.recipe import Recipe
    from .training_models import ManagedModels

COUNT, STEPS, SIDE = 4, 8, 192  # pictures, denoising steps of each, and pixels on the sheet
PARTS = {"language_model": "language", "vision_encoder": "vision", "text_encoders": "texts"}


class Samples:
    """Paints the first held-out samples of a data set again and again, with the same noise.

    Args:
        models: The models of a training.
        recipe: Its recipe.
    """

    def __init__(self, models: ManagedModels, recipe: Recipe) -> None:
        self.models, self.recipe = models, recipe
        self._samples: list[Sample] | None = None

    def paint(self, path: Path) -> Image.Image | None:
        """Write a sheet to a file and return it; None if nothing is held out.

        Raises:
            Interrupted: The user has stopped the run.
        """
        from ..m3adapter.m3_painter import M3Painter
        from ..m3adapter.pipeline import M2Chat

        models = self.models

        def prepare(part: str) -> None:
            models.at_work(*[PARTS[part]] if part in PARTS else [])

        if self._samples is None:
            self._samples = self._held_out()
        if not self._samples:
            return None
        painter = M3Painter(models.vision, models.adapter, models.decoder, prepare)
        chat = M2Chat(models.language, models.vision, prepare=prepare, painter=painter)
        sheet = Image.new("RGB", (SIDE * len(self._samples), 2 * SIDE))
        with torch.no_grad():
            for column, sample in enumerate(self._samples):
                condition = chat.fuse(chat.encode(sample.conversation, sample.slot))
                painted = chat.paint(condition, steps=STEPS, seed=column)
                for row, pixels in enumerate((sample.picture.pixels, painted)):
                    values = (pixels.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
                    sheet.paste(_fitted(Image.fromarray(values)), (column * SIDE, row * SIDE))
        sheet.save(path)
        return sheet

    def _held_out(self) -> list[Sample]:
        data = self.recipe.data
        if not data.validation:
            return []
        options = {**data.options, "check": False}  # what is damaged was found before
        try:
            held = open_dataset(data.path, data.kind or None, split=data.validation, **options)
        except DatasetError:  # of a single sample, nothing is held out
            return []
        return [held[index] for index in range(min(COUNT, len(held)))]


def _fitted(image: Image.Image) -> Image.Image:
    """Return a picture in the middle of a square of the sheet."""
    image = ImageOps.contain(image, (SIDE, SIDE))
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return square
