"""Batches of stories that other processes draw ahead: on a GPU, telling stories takes longer than learning from them.

Which stories a step sees depends on its number alone, so a run is the same with and without these processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from .language_data import Batch, Stories
from .loop import step_random

AHEAD = 4  # batches that each process draws before they are asked for


@dataclass(frozen=True)
class Steps(Dataset[Batch]):
    """The batches of a training, by the numbers of its steps.

    Attributes:
        stories: What draws them.
        name: Of the training.
        seed: Of the training.
        process: The number of this process among those that train together.
    """

    stories: Stories
    name: str
    seed: int
    process: int = 0

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step, drawn from its own random numbers."""
        return self.stories.draw(step_random(self.name, self.seed, step, self.process)[0])


def batches(steps: Steps, start: int, end: int, workers: int) -> Iterator[Batch]:
    """Yield the batches of the steps from `start` up to, but not including, `end`.

    Args:
        steps: The batches.
        start: Number of the first step.
        end: Number of the step after the last one.
        workers: Number of processes that draw; 0 draws each batch here, when it is asked for.
    """
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, end),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader
