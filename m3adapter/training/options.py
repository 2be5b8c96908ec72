"""The options of the trainings: numbers within bounds, and folders that are checked before anything is written."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arguments import Parser, UserError, check_reachable, mendable
from ..values import is_number, is_whole, shown

MOST = 10**9  # steps, samples, tokens: larger numbers are typing errors
WIDEST = 2**16  # of a layer


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `train <name>`, which reports a mistake in one sentence."""
    return Parser(prog=f"m3adapter train {name}", description=(description or "").splitlines()[0])


def whole(low: int, high: int = MOST) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from `low` to `high`."""

    def read(text: str) -> int:
        digits = text.strip().lstrip("+-")
        value = int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else None
        if value is None or not is_whole(value, low, high):
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float = MOST) -> Callable[[str], float]:
    """Return the type of an option that takes a number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not is_number(value, low, high):
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a number from {low:g} to {high:g}")
        return value

    return read


def above_zero(text: str) -> float:
    """Read the value of an option that takes a number above 0."""
    value = number(0)(text)
    if not value:
        raise argparse.ArgumentTypeError("0 is not above 0")
    return value


def check_folders(args: argparse.Namespace, *names: str) -> None:
    """Check that each of these options names a folder or is not given.

    Raises:
        UserError: A folder is missing.
    """
    for name in names:
        path = getattr(args, name)
        if path is not None:
            check_reachable(_option(name), path)
            if not path.is_dir():
                raise UserError(f"{_option(name)}: there is no folder {path}.")


def check_files(args: argparse.Namespace, *names: str) -> None:
    """Check that each of these options names a file or is not given.

    Raises:
        UserError: A file is missing.
    """
    for name in names:
        path = getattr(args, name)
        if path is not None:
            check_reachable(_option(name), path)
            if not path.is_file():
                raise UserError(f"{_option(name)}: there is no file {path}.")


@contextmanager
def opened(name: str, path: Path | None) -> Iterator[None]:
    """Report whatever goes wrong while opening what an option names in one sentence.

    Libraries raise many kinds of errors for weights that are damaged or belong to another model.

    Raises:
        UserError: The code in the `with` block failed.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise _unreadable(name, path, error) from error
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise _unreadable(name, path, error) from error


def check_same(actual: Any, required: Any, *names: str) -> None:
    """Check that two configurations agree in these entries; entries that both lack are equal.

    Raises:
        ValueError: An entry differs.
    """
    for name in names:
        value, expected = getattr(actual, name, None), getattr(required, name, None)
        if value != expected:
            raise ValueError(f"its {name} is {shown(value)} but must be {shown(expected)}")


def check_output(
    output: Path, checkpoint: str | None = None, results: Sequence[str] = (), *, name: str = "output"
) -> None:
    """Check that a training can write to a folder.

    Results that lie beside the checkpoint of the training are its own: it continues from there.

    Args:
        output: The folder.
        checkpoint: Name of the training's checkpoint.
        results: Names of what the training writes.
        name: Of the option that names the folder, or of a recipe's field.

    Raises:
        UserError: `output` is a file, cannot be reached, or holds results of another training.
    """
    check_reachable(_option(name), output)
    for folder in (output, *output.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{_option(name)}: {folder} is a file, choose a folder.")
    if checkpoint is not None and not (output / checkpoint).is_file():
        for result in results:
            if (output / result).exists():
                raise UserError(
                    f"{_option(name)}: {output / result} is there already, and without {checkpoint} beside it this "
                    "training cannot have written it; choose another folder."
                )


def check_new(output: Path) -> None:
    """Check that a folder does not exist yet or is empty.

    Raises:
        UserError: It is a file, or there is something in it.
    """
    check_output(output)
    with mendable():
        if output.is_dir() and any(output.iterdir()):
            raise UserError(f"--output: {output} is not empty; choose a new folder.")


def _option(name: str) -> str:
    """Return how people know an option; a recipe's field has the name of its table before it."""
    return name if "." in name else "--" + name.replace("_", "-")


def _unreadable(name: str, path: Path | None, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    return UserError(f"{_option(name)}: {path} cannot be used ({type(error).__name__}: {reason or 'no reason given'}).")
