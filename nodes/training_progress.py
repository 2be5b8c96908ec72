"""How a training goes on, shown on its node: the bar, the loss and its curve, and pictures of held-out samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils

from ..m3adapter.events import Interrupted
from . import training_curve
from .previews import ProgressPreview, is_watched
from .running import show_text

if TYPE_CHECKING:
    from .training_samples import Samples

PREVIEW_EVERY = 0.5  # seconds
SHEET_SHOWN = 5.0  # seconds, before the curve of losses comes back


class TrainingProgress:
    """Shows how a training goes on its node: the bar, the loss, and its curve if a page is watching."""

    def __init__(self, folder: Path, stages: tuple[str, ...], steps: dict[str, int]) -> None:
        self.folder, self.stages, self.steps = folder, stages, steps
        self.samples: Samples | None = None
        self.bar = comfy.utils.ProgressBar(sum(steps.values()))
        self.losses = training_curve.losses(training_curve.read(folder, stages))
        self.drawn = 0.0

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the user has stopped the run."""
        if comfy.model_management.processing_interrupted():
            raise Interrupted

    def step(self, stage: str, done: int, steps: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step. Raises Interrupted if the user has stopped the run."""
        before = sum(self.steps[each] for each in self.stages[: self.stages.index(stage)])
        if "loss" in figures:
            del self.losses[before + done - 1 :]  # those after the checkpoint from which it goes on
            self.losses.append(figures["loss"])
            preview: ProgressPreview | None = None
            if time.monotonic() - self.drawn > PREVIEW_EVERY:
                self.drawn = time.monotonic()
                show_text(f"{stage} step {done} of {steps}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
                if is_watched():
                    preview = ("JPEG", training_curve.draw(self.losses), training_curve.WIDTH)
            self._show(before + done, preview)
        elif self.samples is not None and is_watched():  # it was measured just now
            sheet = self.samples.paint(self.folder / f"{stage}_{done:06}.png")
            if sheet is not None:
                self.drawn = time.monotonic() + SHEET_SHOWN - PREVIEW_EVERY
                self._show(before + done, ("JPEG", sheet, sheet.width))
        self.stop_if_asked()

    def _show(self, done: int, preview: ProgressPreview | None) -> None:
        """Set the bar, which may find that the user has stopped the run; a training is to hear of it as Interrupted."""
        try:
            self.bar.update_absolute(done, preview=preview)
        except comfy.model_management.InterruptProcessingException as error:
            comfy.model_management.interrupt_current_processing(True)  # it is taken back when it is raised
            raise Interrupted from error
