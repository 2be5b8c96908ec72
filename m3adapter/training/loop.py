"""What all trainings share: options, the loop, the learning-rate schedule, the average of the weights, checkpoints."""

from __future__ import annotations

import argparse
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..arguments import mendable
from .options import above_zero, check_output, number, opened, whole

if TYPE_CHECKING:
    from accelerate import Accelerator

# From the random numbers of a step and the progress 0..1 to the loss and figures to print.
StepLoss = Callable[[random.Random, float], tuple[Tensor, Mapping[str, Tensor | float]]]


@lru_cache
def native_bfloat16() -> bool:
    """Return whether the device supports bfloat16; where it is only emulated, float32 is several times faster."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@lru_cache
def accelerator() -> Accelerator:
    """Return the device, processes and precision of the run, as `accelerate launch` or `torchrun` set them up."""
    from accelerate import Accelerator

    return Accelerator(mixed_precision="bf16" if native_bfloat16() else "no")


def autocast() -> AbstractContextManager[None]:
    """Return a context in which trainings compute: in bfloat16 if the device supports it, else in float32."""
    return accelerator().autocast()


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of every process by their mean over all processes.

    A parameter that was not used in this step counts as zero; one that has been frozen in the meantime is left out.
    """
    if accelerator().num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is None and parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = accelerator().reduce(torch.cat([grad.flatten() for grad in grads]), reduction="mean")
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def cosine(step: int, progress: float, *, warmup: int, floor: float = 0.02) -> float:
    """Return the factor of the learning rate: a linear warm-up, then half a cosine.

    Args:
        step: Number of the step, from 0.
        progress: How much of the training is done, 0..1.
        warmup: Steps of the warm-up.
        floor: The factor at the end.
    """
    decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return min(1.0, (step + 1) / warmup) * decay


class Average:
    """Exponential moving average of a model's trainable parameters.

    The average is computed by torch's `get_ema_multi_avg_fn`; `AveragedModel` would also copy the frozen parts of a
    model, which are the largest. The decay grows with the steps so that the average forgets how the model began.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        """Begin with the parameters as they are."""
        self.decay = decay
        self.live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shadow = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the parameters after `step`, counted from 0."""
        update = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        update(list(self.shadow.values()), [self.live[name] for name in self.shadow], step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model hold the averaged parameters inside a `with` block."""
        current = {name: p.detach().clone() for name, p in self.live.items()}
        try:
            self.write()
            yield
        finally:
            with uninterrupted():
                self.write(current)

    @torch.no_grad()
    def write(self, values: dict[str, Tensor] | None = None) -> None:
        """Copy `values`, by default the averages, into the model."""
        for name, p in self.live.items():
            p.copy_((values or self.shadow)[name])


def step_random(name: str, seed: int, step: int, process: int = 0) -> tuple[random.Random, int]:
    """Return the random numbers of a step, and the seed of torch's.

    Args:
        name: Of the training.
        seed: The option --seed.
        step: The number of the step, from 0.
        process: The number of the process, each of which draws other samples.
    """
    rng = random.Random(f"{name} {seed} {step}" + (f" {process}" if process else ""))
    return rng, rng.randrange(2**62)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the end of a `with` block that must not be left half done."""
    held = signal.getsignal(signal.SIGINT)
    if held is None or threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread only
        return
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, held)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    step: int,
    told: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint to resume from; the previous one is replaced when the new one is complete.

    Args:
        path: Of the file.
        model: What is trained.
        optimizer: Of the model.
        average: Of its parameters.
        step: How many steps are done.
        told: What else `about` returns: numbers, texts and dictionaries of these.
    """
    state = {
        **(told or {}),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.shadow,
        "step": step,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> int:
    """Load the checkpoint at `path` if there is one, and return the step to continue with.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    if not path.is_file():
        return 0
    with opened("output", path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            average.shadow[name].copy_(value)
    print(f"resumed at step {state['step']}", flush=True)
    return state["step"]


def about(path: Path) -> dict[str, Any]:
    """Return what a checkpoint tells besides its weights: `step` and what else was kept; nothing if there is none.

    Raises:
        UserError: It cannot be read.
    """
    if not path.is_file():
        return {}
    with opened("output", path):
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: value for name, value in state.items() if name not in ("model", "optimizer", "average")}


def clock(began: float) -> float:
    """Return the seconds since `began` by the clock of the first process, so that all stop at the same step."""
    elapsed = torch.tensor(time.time() - began, dtype=torch.float64)
    if accelerator().num_processes > 1:
        from accelerate.utils import broadcast

        elapsed = broadcast(elapsed.to(accelerator().device))
    return float(elapsed)


def add_options(parser: argparse.ArgumentParser, *, steps: int, batch: int, lr: float) -> None:
    """Add the options of every training, with the defaults of one."""
    parser.add_argument("--output", type=Path, required=True, help="folder for the result and for checkpoints")
    parser.add_argument("--steps", type=whole(0), default=steps, help="steps in all (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=number(0), default=0, help="stop after this time; the learning rate follows the clock"
    )
    parser.add_argument("--batch", type=whole(1), default=batch, help="samples per step (default: %(default)s)")
    parser.add_argument("--lr", type=above_zero, default=lr, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0)
    parser.add_argument(
        "--threads", type=whole(0, 4096), default=0, help="threads of torch (default: as many as there are cores)"
    )
    parser.add_argument(
        "--export-every",
        type=number(0),
        default=0,
        metavar="SECONDS",
        help="time between two exports of the averaged weights",
    )


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on what is computed once: how much of it stays in memory, and where it is kept between runs."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder that keeps what is prepared between runs, also for other trainings (default: --output)",
    )
    parser.add_argument(
        "--cache-mb",
        type=number(0),
        default=2048,
        metavar="N",
        help="memory for embeddings, and as much for latents, that are computed once; 0 computes them at every step "
        "(default: %(default)s)",
    )


def cache_folder(args: argparse.Namespace) -> Path:
    """Return the folder that keeps what is prepared between runs."""
    return args.cache or args.output


def begin(args: argparse.Namespace, name: str, *results: str) -> None:
    """Prepare a run with the options of `add_options`: check the output, set threads and seed.

    Args:
        args: The options.
        name: Of the training.
        results: Names of what the training writes to --output.

    Raises:
        UserError: --output is a file, or holds results of another training.
    """
    check_output(args.output, f"{name}.pt", results)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    args.began = time.time()


def make_folder(args: argparse.Namespace) -> None:
    """Create the folder --output, and the one of --cache.

    Raises:
        UserError: One of them cannot be created.
    """
    with mendable():
        args.output.mkdir(parents=True, exist_ok=True)
        if getattr(args, "cache", None):
            args.cache.mkdir(parents=True, exist_ok=True)


def train(
    args: argparse.Namespace,
    name: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    step_loss: StepLoss,
    *,
    warmup: int = 100,
    every: int = 50,
    save_every: int = 500,
    measure: Callable[[], dict[str, float]] | None = None,
    export: Callable[[], None] | None = None,
    started: Callable[[int], None] | None = None,
) -> bool:
    """Train a model; resumes from and writes the checkpoint `<output>/<name>.pt`.

    Several processes (`accelerate launch`, `torchrun`) draw different samples and share the mean of their gradients.
    What a step draws depends only on the seed and the number of the step, so a resumed run sees what an uninterrupted
    one would see.

    Args:
        args: Options of `add_options`.
        name: Of the checkpoint, and in the printed lines.
        model: What is trained.
        optimizer: Of the model; its learning rate is set at every step.
        average: Of the model's parameters.
        step_loss: Returns the loss of a step and figures to print.
        warmup: Steps of the warm-up of the learning rate.
        every: Steps between two printed lines.
        save_every: Steps between two checkpoints.
        measure: Returns more figures; called before a line is printed.
        export: Writes the result so far, as often as `--export-every` says; the model then holds the averages.
        started: Is told the number of the first step, which is 0 unless the run is resumed.

    Returns:
        Whether this process should write the result.

    Raises:
        UserError: --output cannot be created, or its checkpoint cannot be read.
    """
    make_folder(args)
    path = args.output / f"{name}.pt"
    process = accelerator().process_index
    done = start = resume(path, model, optimizer, average)
    if started:
        started(start)
    trained = [p for p in model.parameters() if p.requires_grad]
    began, exported = getattr(args, "began", time.time()), time.time()
    for step in range(start, args.steps):
        progress = clock(began) / (60 * args.minutes) if args.minutes else step / args.steps
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cosine(step, progress, warmup=warmup)
        rng, noise = step_random(name, args.seed, step, process)
        torch.manual_seed(noise)
        loss, printed = step_loss(rng, progress)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(step)
        done = step + 1
        if done % every == 0 and process == 0:
            figures = {"loss": loss.item(), **printed, **(measure() if measure else {})}
            values = " ".join(f"{key} {float(value):.4f}" for key, value in figures.items())
            print(f"{name} step {done} {values} {(time.time() - began) / 60:.1f} min", flush=True)
        if done % save_every == 0 and process == 0:
            save_state(path, model, optimizer, average, done)
        if export and args.export_every and process == 0 and time.time() - exported > args.export_every:
            with average.applied():
                export()
            exported = time.time()
    if process == 0:
        save_state(path, model, optimizer, average, done)
        print(f"{name}: {done} steps, {done - start} of them in these {(time.time() - began) / 60:.1f} min", flush=True)
    accelerator().wait_for_everyone()
    return process == 0
