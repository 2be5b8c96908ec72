"""Compiling what a training step spends its time in, which pays on a GPU and in long runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from torch import nn

from .fast_norm import use_fast_norm


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--compile`."""
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the model with torch.compile: about a minute at the start, faster steps on a GPU",
    )


def compiled(function: Callable[..., Any], args: argparse.Namespace) -> Callable[..., Any]:
    """Return `function`, compiled anew for every shape of its inputs if `--compile` says so."""
    import torch

    return torch.compile(function, dynamic=False) if args.compile else function


def use_norm(model: nn.Module, args: argparse.Namespace) -> None:
    """Give `model` the norm that trains fastest: that of `fast_norm`, or torch's own where a compiler fuses it."""
    if not args.compile:
        use_fast_norm(model)
