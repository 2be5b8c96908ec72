"""Mistakes on the command line that its user can correct: reported in one sentence, without a traceback."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

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
