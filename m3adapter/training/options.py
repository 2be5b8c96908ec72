"""The options of the trainings: numbers in their bounds, and folders that are checked before anything is written."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arguments import Parser, UserError
from ..values import is_number, is_whole, shown

MOST = 10**9  # steps, samples, tokens: more is a slip of the finger
WIDEST = 2**16  # of a layer


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `train <name>`, which reports a mistake in a sentence."""
    return Parser(prog=f"m3adapter train {name}", description=(description or "").splitlines()[0])


def whole(low: int, high: int = MOST) -> Callable[[str], int]:
    """An option's type: a whole number from `low` to `high`."""

    def read(text: str) -> int:
        digits = text.strip().lstrip("+-")
        value = int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else None
        if value is None or not is_whole(value, low, high):
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float = MOST) -> Callable[[str], float]:
    """An option's type: a number from `low` to `high`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not is_number(value, low, high):
            raise argparse.ArgumentTypeError(f"{shown(text)} is no number from {low:g} to {high:g}")
        return value

    return read


def above_zero(text: str) -> float:
    """An option's type: a number above 0."""
    value = number(0)(text)
    if not value:
        raise argparse.ArgumentTypeError("0 is no number above 0")
    return value


def check_folders(args: argparse.Namespace, *names: str) -> None:
    """Raises UserError unless each of these options names a folder, or nothing."""
    for name in names:
        path = getattr(args, name)
        if path is not None and not path.is_dir():
            raise UserError(f"{_option(name)}: there is no folder {path}.")


def check_files(args: argparse.Namespace, *names: str) -> None:
    """Raises UserError unless each of these options names a file, or nothing."""
    for name in names:
        path = getattr(args, name)
        if path is not None and not path.is_file():
            raise UserError(f"{_option(name)}: there is no file {path}.")


@contextmanager
def opened(name: str, path: Path | None) -> Iterator[None]:
    """For code that opens what an option names: whatever it finds wrong there is said in a sentence (UserError).

    What the libraries raise for weights that are damaged or of another model is not one kind of error.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise _unreadable(name, path, error) from error
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise _unreadable(name, path, error) from error


def check_same(found: Any, wanted: Any, *names: str) -> None:
    """Raises ValueError unless two configurations agree in these entries, as far as they have them."""
    for name in names:
        one, other = getattr(found, name, None), getattr(wanted, name, None)
        if one != other:
            raise ValueError(f"its {name} is {shown(one)}, and {shown(other)} fits")


def check_output(output: Path, checkpoint: str | None = None, results: Sequence[str] = ()) -> None:
    """Raises UserError where `output` is a file, or holds one of the `results` that this training did not write.

    They are its own where its checkpoint lies beside them: it goes on from there.
    """
    for folder in (output, *output.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--output: {folder} is a file, choose a folder.")
    if checkpoint is not None and not (output / checkpoint).is_file():
        for name in results:
            if (output / name).exists():
                raise UserError(
                    f"--output: {output / name} is there already, and no {checkpoint} beside it says that this "
                    "training made it; choose another folder."
                )


def check_new(output: Path) -> None:
    """Raises UserError unless `output` is a folder that is yet to be made, or an empty one."""
    check_output(output)
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"--output: {output} is not empty; choose a new folder.")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _unreadable(name: str, path: Path | None, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{_option(name)}: {path} cannot be used ({type(error).__name__}: {reason[:200]}).")
