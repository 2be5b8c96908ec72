"""Mistakes on the command line that its user can correct: reported in one sentence, without a traceback."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import NoReturn

from .values import shown

USER_ERROR = 2  # the exit status after a mistake that a user can correct
MAX_MESSAGE = 300


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one sentence, as all the commands do."""

    def error(self, message: str) -> NoReturn:
        """Ends the program; quotes only one line of a long value."""
        message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
        self.exit(USER_ERROR, f"{self.prog}: {message} (--help explains).\n")


class UserError(Exception):
    """Something the user can correct; the message is one sentence that says how."""


@contextmanager
def mendable() -> Iterator[None]:
    """Turns the errors of what the user gave (ValueError, and OSError from files) into UserError.

    Only for checking, reading and writing what the user named: a ValueError out of the model's depths is a defect, and
    keeps its traceback.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
        raise UserError(reason) from error


def check_reachable(name: str, path: str | Path) -> None:
    """Check that the system says whether there is something at a path.

    Args:
        name: How the error names the option, or the field of a recipe.
        path: What it names.

    Raises:
        UserError: The path is too long, or it or a folder above it cannot be read.
    """
    try:
        _is_there(path)
    except (OSError, ValueError) as error:
        raise unreachable(name, path, error) from error


def unreachable(name: str, path: str | Path, error: Exception) -> UserError:
    """Return the error for a path that cannot be read, in one sentence."""
    return UserError(f"{name}: {shown(str(path))} cannot be reached ({_reason(error)}): name another.")


def check_writable(name: str, folder: Path) -> None:
    """Check that files can be written to a folder, or where it will be made; nothing is left there.

    Args:
        name: How the error names the option, or the field of a recipe.
        folder: The folder, which need not exist yet.

    Raises:
        UserError: They cannot.
    """
    try:
        nearest = next((place for place in (folder, *folder.parents) if _is_there(place)), Path())
        for part in folder.relative_to(nearest).parts:  # a name that is too long is only noticed where its folder is
            _is_there(nearest / part)
        with TemporaryFile(dir=nearest) as file:
            file.write(b"0")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}: nothing can be written to {shown(str(folder))} ({_reason(error)}): choose another folder."
        ) from error


def _is_there(path: str | Path) -> bool:
    """Return whether there is something at a path; OSError if that is not known, unlike `exists` of newer Pythons."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
