"""What every training loop here shares: learning-rate schedule, weight averaging, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


def cosine(step: int, progress: float, *, warmup: int, floor: float = 0.02) -> float:
    """Factor of the learning rate: linear warm-up over `warmup` steps, then half a cosine down to `floor`."""
    decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return min(1.0, (step + 1) / warmup) * decay


class Average:
    """Exponential moving average of a model's trainable parameters.

    The decay grows with the steps, so that an average begun late in a short run does not remember the start.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shadow = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after `step` (0-based)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.shadow.values()), [self.live[name] for name in self.shadow], weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the averaged parameters inside the `with` block."""
        kept = {name: p.detach().clone() for name, p in self.live.items()}
        self.write()
        try:
            yield
        finally:
            self.write(kept)

    @torch.no_grad()
    def write(self, values: dict[str, Tensor] | None = None) -> None:
        """Put `values`, by default the averages, into the model."""
        for name, p in self.live.items():
            p.copy_((values or self.shadow)[name])


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int) -> None:
    """Write a checkpoint to resume from; replaces the previous one only when it is complete."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.shadow,
        "step": step,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> int:
    """Continue from the checkpoint at `path` if there is one; returns the step to go on with."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, value in state["average"].items():
        average.shadow[name].copy_(value)
    print(f"resumed at step {state['step']}", flush=True)
    return state["step"]
