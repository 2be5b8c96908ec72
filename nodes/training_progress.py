"""How a training goes on, shown on its node: the bar, the loss and its curve, and pictures of held-out samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils

from ..m3adapter.events import Interrupted
from . import training_curve
from .previews import ProgressPreview, is_watched
from .running import show_text

if TYPE_CHECKING:
    from .training_samples import Samples

SHOWN_EVERY = 0.5  # seconds
SHEET_SHOWN = 5.0  # seconds, before the curve of losses comes back


class TrainingProgress:
    """Shows how a training goes on its node: the bar, what is being done, the loss and its curve, samples.

    Args:
        folder: Of the training.
        steps: Of each stage, in order.
        done: Steps of each stage that are behind it already.
        note: What stands below all that is shown.
    """

    def __init__(self, folder: Path, steps: Mapping[str, int], done: Mapping[str, int], note: str) -> None:
        self.folder, self.steps, self.note = folder, steps, note
        self.samples: Samples | None = None
        self.bar = comfy.utils.ProgressBar(sum(steps.values()))
        # Behind it, a curve may hold what came after the last checkpoint.
        self.lines = [line for line in training_curve.read(folder, tuple(steps)) if line["step"] <= done[line["stage"]]]
        behind = [(stage, done[stage]) for stage in steps if done[stage]]
        self.at = behind[-1] if behind else None  # the stage and its step that is behind it
        self._work = ""
        self._shown = self._sheet = float("-inf")
        self._first: tuple[int, float] | None = None  # a step and when it was done, since when time is measured

        self._tell("Getting ready.")

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the user has stopped the run."""
        if comfy.model_management.processing_interrupted():
            raise Interrupted

    def work(self, work: str, done: int, count: int) -> None:
        """Show what is done between steps. Raises Interrupted if the user has stopped the run."""
        if work != self._work or time.monotonic() - self._shown > SHOWN_EVERY:
            self._work = work
            self._tell(
                f"{self._place()}: {work} {done} of {count}" if self.at else f"{work.capitalize()} {done} of {count}"
            )
        self.stop_if_asked()

    def step(self, stage: str, done: int, steps: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step, or what was measured after it. Raises Interrupted if the user stopped the run."""
        self.at = stage, done
        line: dict[str, Any] = {**figures, "step": done, "stage": stage}
        self.lines.append(line)
        if "loss" in figures:
            if self._work or time.monotonic() - self._shown > SHOWN_EVERY:
                self._work = ""
                values = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
                self._tell(f"{self._place()}{self._left()}: {values}")
                self._show(self._curve() if time.monotonic() > self._sheet else None)
            else:
                self._show(None)
        elif self.samples is not None and (done or stage == next(iter(self.steps))) and is_watched():
            # It was measured just now; before the second stage, samples are as they were after the first.
            sheet = self.samples.paint(self.folder / f"{stage}_{done:06}.png", self.work)
            if sheet is not None:
                self._sheet = time.monotonic() + SHEET_SHOWN
                self._show(("JPEG", sheet, sheet.width))
        self.stop_if_asked()

    def stopped(self) -> None:
        """Show where the user has stopped it."""
        told = f"Stopped after step {self._steps()}" if self.at and self.at[1] else "Stopped before the first step"
        show_text(f"{told}. Run again with the same inputs, and it goes on there.")

    def _place(self) -> str:
        assert self.at is not None
        stage, done = self.at
        return f"{training_curve.NAMES[stage]}, step {done} of {self.steps[stage]}"

    def _steps(self) -> str:
        assert self.at is not None
        return place(*self.at, self.steps[self.at[0]])

    def _done(self) -> int:
        """Return how many steps of all stages are behind it."""
        if self.at is None:
            return 0
        stages = list(self.steps)
        return sum(self.steps[stage] for stage in stages[: stages.index(self.at[0])]) + self.at[1]

    def _left(self) -> str:
        """Return how much time is left, once that is known."""
        done, now = self._done(), time.monotonic()
        if self._first is None:
            self._first = done, now
        begun, began = self._first
        if done <= begun:
            return ""
        minutes = (now - began) / (done - begun) * (sum(self.steps.values()) - done) / 60
        if minutes < 1.5:
            return f", {minutes * 60:.0f} s left"
        return f", {minutes:.0f} min left" if minutes < 90 else f", {minutes / 60:.1f} h left"

    def _curve(self) -> ProgressPreview | None:
        return ("JPEG", training_curve.draw(self.lines, self.steps), training_curve.WIDTH) if is_watched() else None

    def _tell(self, text: str) -> None:
        self._shown = time.monotonic()
        show_text("\n".join(filter(None, (text, self.note))))

    def _show(self, preview: ProgressPreview | None) -> None:
        """Set the bar, which may find that the user has stopped the run; a training is to hear of it as Interrupted."""
        try:
            self.bar.update_absolute(self._done(), preview=preview)
        except comfy.model_management.InterruptProcessingException as error:
            comfy.model_management.interrupt_current_processing(True)  # it is taken back when it is raised
            raise Interrupted from error


def place(stage: str, done: int, steps: int) -> str:
    """Return where a training is, for people."""
    return f"{done} of {steps} of the {'alignment' if stage == 'stage1' else 'references'}"
