"""A training whose steps are divided: among processes, and within one among parts that fit its device.

Everything random in a step is drawn for the whole batch by everybody, from the seed and the number of the step alone.
So the same step has the same loss however it is divided, and a resumed run goes on with the same bits.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..arguments import UserError
from ..conversation.segments import ConversationError
from ..events import Interrupted
from .loop import Average, about, accelerator, average_gradients, clock, cosine, resume, save_state, uninterrupted

CLIPPED = 1.0  # the largest norm of a gradient


@dataclass(frozen=True)
class Share:
    """The part of a batch that is computed at a time, the `number`-th of `count`."""

    number: int = 0
    count: int = 1

    def of(self, sizes: Sequence[Hashable], first: int | None = None) -> list[int]:
        """Return the places of its samples in a batch of pictures of these sizes.

        Pictures of one size come into one share, as far as their numbers allow: with S sizes, at most S - 1 more
        groups are denoised than there are shares. Each share has as many samples, and as many of the first ones, as
        if they were dealt out in turn, which is what is done where all sizes are the same.

        Args:
            sizes: Of each picture of the batch.
            first: How many of the batch are denoised; the share's samples of these come first. None is all of them.
        """
        if len(set(sizes)) < 2:
            return list(range(self.number, len(sizes), self.count))
        first = len(sizes) if first is None else first
        met = {size: number for number, size in enumerate(dict.fromkeys(sizes))}
        found = []
        for start, end in ((0, first), (first, len(sizes))):
            places = sorted(range(start, end), key=lambda place: met[sizes[place]])
            dealt = [
                len(range(number, end, self.count)) - len(range(number, start, self.count))
                for number in range(self.count)
            ]
            before = sum(dealt[: self.number])
            found += places[before : before + dealt[self.number]]
        return found

    def mean(self, values: Tensor, whole: int) -> Tensor:
        """Return what its values add to the mean over a batch of `whole`: the mean of all shares' is that mean."""
        return values.sum() * (self.count / max(whole, 1))


# From the random numbers of a step, the progress 0..1 and the share to its loss and figures. The mean over the shares
# is the loss of the step, and its figures.
ShareLoss = Callable[[random.Random, float, Share], tuple[Tensor, Mapping[str, float]]]


class Watcher(Protocol):
    """Is told how a training goes; everything is called in the first process only, except `measure`."""

    def step(self, done: int, steps: int, figures: Mapping[str, float], seconds_left: float) -> None:
        """Take the figures of a step; may raise Interrupted to stop the training after it."""

    def measure(self, done: int) -> None:
        """Measure the model as it is after `done` steps; 0 is before the first one."""

    def measured(self, done: int) -> bool:
        """Return whether an earlier run has measured the model after `done` steps; the same in every process."""


@dataclass(frozen=True)
class Schedule:
    """How a training goes.

    Attributes:
        name: Of the checkpoint and in printed lines.
        output: Folder of the checkpoint.
        steps: In all.
        minutes: When it stops; 0 is never.
        parts: How many parts each process divides its samples into.
        lr: Highest learning rate.
        warmup: Steps until it is reached.
        seed: Of everything random.
        log_every: Steps between two reports.
        save_every: Steps between two checkpoints.
        measure_every: Steps between two measurements, of which the first is before the first step; 0 makes none.
        scaled: Whether losses are scaled up for gradients in float16.
        made_from: What the training learns with and from; it is kept in the checkpoint.
    """

    name: str
    output: Path
    steps: int
    minutes: float = 0.0
    parts: int = 1
    lr: float = 1e-3
    warmup: int = 50
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    measure_every: int = 0
    scaled: bool = False
    made_from: Mapping[str, str] = field(default_factory=dict)

    def due(self, done: int) -> bool:
        """Return whether the model is measured after `done` steps."""
        return self.measure_every > 0 and (done % self.measure_every == 0 or done == self.steps)


def train_shares(
    schedule: Schedule,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    loss: ShareLoss,
    watcher: Watcher,
) -> bool:
    """Train a model; resumes from and writes the checkpoint `<output>/<name>.pt`.

    The minutes of a schedule are those of all runs together.

    Returns:
        Whether this process should write the result.

    Raises:
        ConversationError: A picture cannot be read any more; the checkpoint is written.
        UserError: A gradient is not a number (the last checkpoint is that before it), or the disk is full at the end.
        Interrupted: The watcher or the user stopped it; the checkpoint is written.
    """
    path = schedule.output / f"{schedule.name}.pt"
    first = accelerator().is_main_process
    done = start = resume(path, model, optimizer, average)
    trained = [p for p in model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler(accelerator().device.type, enabled=schedule.scaled)
    kept = about(path)
    if schedule.scaled and kept.get("scaler"):
        scaler.load_state_dict(kept["scaler"])
    before, saved, began = kept.get("seconds", 0.0), start, time.time()

    def save() -> bool:
        told = {"made_from": dict(schedule.made_from), "seconds": before + time.time() - began}
        if schedule.scaled:
            told["scaler"] = scaler.state_dict()
        return save_or_say(path, model, optimizer, average, done, told)

    try:
        # What it begins with; and what an earlier run was stopped in.
        if schedule.due(start) and not watcher.measured(start):
            watcher.measure(start)
        began = time.time()
        for step in range(start, schedule.steps):
            elapsed = before + clock(began)
            progress = elapsed / (60 * schedule.minutes) if schedule.minutes else step / schedule.steps
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr * group.get("lr_scale", 1.0) * cosine(step, progress, warmup=schedule.warmup)
            optimizer.zero_grad()
            figures = _gradients(schedule, loss, step, progress, scaler)
            average_gradients(trained)
            scaler.unscale_(optimizer)
            norm = float(torch.nn.utils.clip_grad_norm_([p for p in trained if p.grad is not None], CLIPPED))
            if not math.isfinite(norm) and not schedule.scaled:
                raise UserError(
                    f"{schedule.name}: the gradient of step {step + 1} is not a number: the weights of the {step} "
                    f"steps before it are kept in {path.name}, so lower lr or compute in another precision."
                )
            with uninterrupted():  # a half step, or a whole one that is not counted, would be another training
                scaler.step(optimizer)
                scaler.update()
                average.update(step)
                done = step + 1
            if done % schedule.log_every == 0 or done == schedule.steps:
                figures = _over_processes(figures)
                if first:
                    passed = time.time() - began
                    left = min((schedule.steps - done) * passed / (done - start), _rest(schedule, before + passed))
                    watcher.step(done, schedule.steps, figures, left)
            if done % schedule.save_every == 0 and first:
                saved = done if save() else saved
            if schedule.due(done):
                watcher.measure(done)
    except (UserError, Interrupted, KeyboardInterrupt, ConversationError):
        if first and done > saved:
            save()
        raise
    if first and (done > saved or not path.is_file() or schedule.minutes) and not save():
        raise UserError(
            f"{path} cannot be written: make room on the disk and start again; it goes on from step {saved}."
        )
    accelerator().wait_for_everyone()
    return first


def save_or_say(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    step: int,
    told: Mapping[str, Any],
) -> bool:
    """Write a checkpoint and return whether it worked; a full disk is told, and the checkpoint before it stays."""
    try:
        save_state(path, model, optimizer, average, step, told)
    except (OSError, RuntimeError) as error:  # torch raises the second for what the system refuses
        path.with_suffix(".part").unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:120]
        print(f"{path} cannot be written after step {step} ({reason}): the one before it stays.", flush=True)
        return False
    return True


def _gradients(
    schedule: Schedule, loss: ShareLoss, step: int, progress: float, scaler: torch.amp.GradScaler
) -> dict[str, float]:
    """Add up the gradients of this process's shares, and return their mean figures."""
    processes, own = accelerator().num_processes, accelerator().process_index
    total: dict[str, float] = {}
    for part in range(schedule.parts):
        rng = random.Random(f"{schedule.name} {schedule.seed} {step}")
        torch.manual_seed(rng.randrange(2**62))
        share = Share(own + processes * part, processes * schedule.parts)
        value, figures = loss(rng, progress, share)
        if value.requires_grad:
            scaler.scale(value / schedule.parts).backward()
        for name, figure in {"loss": value.item(), **figures}.items():
            total[name] = total.get(name, 0.0) + figure / schedule.parts
    return total


def _over_processes(figures: dict[str, float]) -> dict[str, float]:
    if accelerator().num_processes == 1:
        return figures
    names = sorted(figures)
    values = torch.tensor([figures[name] for name in names], dtype=torch.float64, device=accelerator().device)
    return dict(zip(names, accelerator().reduce(values, reduction="mean").tolist(), strict=True))


def _rest(schedule: Schedule, elapsed: float) -> float:
    return 60 * schedule.minutes - elapsed if schedule.minutes else math.inf
