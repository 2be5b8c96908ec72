"""What a training of an adapter tells while it runs: printed lines, a curve in a file, trackers, the best weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..adapter.auto import save_adapter
from ..adapter.m3_adapter import M3Adapter
from .loop import Average, accelerator
from .recipe import Recipe, table_of
from .recipe_checks import check_tracker

OnStep = Callable[[str, int, int, Mapping[str, float]], None]


class Watch:
    """Follows one stage.

    Args:
        recipe: The recipe.
        name: Of the stage: "stage1" or "stage2".
        adapter: What is trained.
        average: Of its weights; these are measured.
        measure: Returns the figures of the held-out samples; None measures nothing.
        best_by: Which figure is the lowest for the best weights.
        paint: Writes pictures of held-out samples to a file; None paints nothing.
        on_step: Called with the stage, the steps done and in all, and figures. An exception stops the training.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        adapter: M3Adapter,
        average: Average,
        measure: Callable[[], Mapping[str, float]] | None,
        best_by: str,
        on_step: OnStep | None = None,
        paint: Callable[[Path], None] | None = None,
    ) -> None:
        self.recipe, self.name, self.adapter, self.average = recipe, name, adapter, average
        self._measure, self.best_by, self.on_step = measure, best_by, on_step
        self.paint = paint
        self.output = Path(recipe.run.output)
        self.curve = self.output / f"{name}_curve.jsonl"
        self.steps = getattr(recipe, name).steps
        self._trackers = bool(recipe.run.tracker) and accelerator().is_main_process

    def begin(self, done: int) -> None:
        """Forget what the curve says of steps after `done`, from which a run goes on; start the trackers."""
        if accelerator().is_main_process:  # without a step behind it, a run measures once more what it begins with
            kept = [line for line in self._lines() if done and line.get("step", 0) <= done]
            self.curve.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        accelerator().wait_for_everyone()  # before `measured` reads it
        if self._trackers:
            start_tracker(self.recipe)

    def measured(self, done: int) -> bool:
        """Return whether the curve has the figures of the held-out samples after `done` steps."""
        name = f"validation_{self.best_by}"
        return any(name in line and line["step"] == done for line in self._lines())

    def step(self, done: int, steps: int, figures: Mapping[str, float], seconds_left: float) -> None:
        """Print and keep the figures of a step."""
        self._told(done, figures, f", {_duration(seconds_left)} left" if math.isfinite(seconds_left) else "")
        if self.on_step is not None:
            self.on_step(self.name, done, steps, figures)

    def measure(self, done: int) -> None:
        """Measure the averaged weights on held-out samples, and keep them if they are the best so far.

        Those of step 0 are what the training begins with, which is kept elsewhere.
        """
        if self._measure is None:
            return
        with self.average.applied():
            found = {f"validation_{name}": value for name, value in self._measure().items()}
            if not accelerator().is_main_process:
                return
            name = f"validation_{self.best_by}"
            before = [line[name] for line in self._lines() if name in line and line["step"]]
            if self.paint is not None:
                self.paint(self.output / f"{self.name}_pictures" / f"{done:05}.png")
            if done and name in found and math.isfinite(found[name]) and found[name] < min(before, default=math.inf):
                save_adapter(self.output / f"adapter_{self.name}_best.safetensors", self.adapter)
            self._told(done, found)  # last: what is told is not measured again where a run goes on
            if self.on_step is not None:
                self.on_step(self.name, done, self.steps, found)

    def end(self) -> None:
        """Close the trackers; another stage, and the processes' connection, which accelerate would end, go on."""
        if self._trackers:
            for tracker in accelerator().trackers:
                tracker.finish()
            accelerator().trackers = []

    def _told(self, done: int, figures: Mapping[str, float], rest: str = "") -> None:
        values = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"{self.name} step {done} of {self.steps} {values}{rest}", flush=True)
        with self.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": done, **figures}) + "\n")
        if self._trackers:
            accelerator().log({f"{self.name}/{name}": value for name, value in figures.items()}, step=done)

    def _lines(self) -> list[dict[str, Any]]:
        """Return the curve so far; a line that was cut off is left out."""
        found = []
        if self.curve.is_file():
            for line in self.curve.read_text("utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found


def start_tracker(recipe: Recipe) -> None:
    """Start the tracker of a recipe through accelerate.

    Raises:
        UserError: It is unknown, or its package is missing.
    """
    run = accelerator()
    run.log_with = check_tracker(recipe)
    run.project_configuration.logging_dir = recipe.run.output  # where trackers that write files make a folder
    values = {key: value for key, value in table_of(recipe) if isinstance(value, (bool, int, float, str))}
    run.init_trackers(Path(recipe.run.output).name, config=values)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
