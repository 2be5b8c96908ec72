"""What a training is followed with: trackers of accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import pytest

from m3adapter.training.loop import accelerator
from m3adapter.training.recipe import recipe_of
from m3adapter.training.watching import Watch


class Kept(accelerate.tracking.GeneralTracker):
    """A tracker that writes to a folder, as TensorBoard's does, and keeps what it is told."""

    name = "kept"
    requires_logging_directory = True
    made: ClassVar[list[Kept]] = []

    def __init__(self, run_name: str, logging_dir: str, **given: Any) -> None:
        super().__init__()
        self.place, self.told, self.config, self.finished = Path(logging_dir, run_name), [], {}, 0
        self.made.append(self)

    @property
    def tracker(self) -> Kept:
        return self

    def store_init_configuration(self, values: dict) -> None:
        self.config = values

    def log(self, values: dict, step: int | None, **given: Any) -> None:
        assert not self.finished
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_a_tracker_is_told_every_figure_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "kept", Kept)
    ended: list[bool] = []
    monkeypatch.setattr(type(accelerator().state), "destroy_process_group", lambda *given: ended.append(True))
    Kept.made.clear()
    output = tmp_path / "out"
    output.mkdir()
    recipe = recipe_of({"run": {"output": str(output), "tracker": "kept", "seed": 7}})
    for stage in ("stage1", "stage2"):
        watch = Watch(recipe, stage, None, None, None, "denoise")  # type: ignore[arg-type]
        watch.begin(0)
        for step in (1, 2):
            watch.step(step, 2, {"loss": step / 2}, 0.0)
        watch.end()
    assert [tracker.told for tracker in Kept.made] == [
        [(step, {f"{stage}/loss": step / 2}) for step in (1, 2)] for stage in ("stage1", "stage2")
    ]
    assert all(tracker.finished == 1 and tracker.place == output / "out" for tracker in Kept.made)
    assert Kept.made[0].config["run.seed"] == 7 and Kept.made[0].config["stage1.lr"] == 1e-3
    assert not ended, "the second stage still needs the other processes"
