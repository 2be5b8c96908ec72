"""Training in several processes is training on all their samples at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from m3adapter.training.loop import Average, accelerator, cosine, train
from m3adapter.training.muon import Muon
from tools import environment

pytestmark = pytest.mark.slow

STEPS, WARMUP = 3, 2


def parts() -> tuple[nn.Module, Muon, Average]:
    """A small model with parameters of both of Muon's kinds, its optimizer and its average."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))
    optimizer = Muon(model.named_parameters(), lr=0.1)
    return model, optimizer, Average(model)


def loss_of(model: nn.Module, rng: random.Random) -> Tensor:
    """The loss on one drawn sample."""
    x = torch.tensor([rng.random() for _ in range(4)])
    return (model(x) - x.sum()).square().mean()


def main(output: Path) -> None:
    """What each process runs."""
    model, optimizer, average = parts()
    args = Namespace(output=output, steps=STEPS, minutes=0, lr=0.1, seed=5)
    train(args, "toy", model, optimizer, average, lambda rng, _: (loss_of(model, rng), {}), warmup=WARMUP, every=1)
    torch.save(model.state_dict(), output / f"rank{accelerator().process_index}.pt")


def test_two_processes_train_as_one_on_the_samples_of_both(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    paths = os.pathsep.join([str(environment.REPO), str(environment.REPO / "tests")])
    settings = {**os.environ, "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, str(tmp_path)], env=settings, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("toy step") == STEPS, "only the first process reports"
    model, optimizer, average = parts()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * cosine(step, step / STEPS, warmup=WARMUP)
        both = []
        for rank in ("", " 1"):
            rng = random.Random(f"toy 5 {step}{rank}")
            rng.randrange(2**62)  # torch's seed
            both.append(loss_of(model, rng))
        optimizer.zero_grad()
        (sum(both) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(step)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, expected in model.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name])
        torch.testing.assert_close(ranks[0][name], expected, atol=1e-5, rtol=1e-4)
    saved = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert saved["step"] == STEPS and torch.equal(saved["model"]["0.bias"], ranks[0]["0.bias"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
