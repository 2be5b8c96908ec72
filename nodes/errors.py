"""Mistakes of the user, reported in one sentence that begins with the node's name."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..m3adapter.values import shown
from .checked import check

Execute = Callable[..., io.NodeOutput]


def names_node(execute: Execute) -> Execute:
    """Decorate a node's execute() so that its ValueErrors and OSErrors also name the node.

    Their messages must be sentences. They are raised again as a ValueError, with the original error as its cause.
    Inputs are checked against the schema first.
    """
    names = list(inspect.signature(execute).parameters)[1:]

    @functools.wraps(execute)
    def wrapper(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        schema = cls.SCHEMA or cls.define_schema()
        try:
            check(schema, {**dict(zip(names, args, strict=False)), **inputs})
            return execute(cls, *args, **inputs)
        except (ValueError, OSError) as error:
            raise ValueError(f"{schema.display_name}: {sentence(error)}") from error

    return wrapper


def sentence(error: Exception) -> str:
    """Return the message of an error; a file is named without its path on the server."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {Path(os.fsdecode(error.filename)).name}."
    return str(error)


@contextmanager
def with_packages(cure: str = "install this pack's requirements.txt for ComfyUI") -> Iterator[None]:
    """Turn the ModuleNotFoundError of a missing package into a ValueError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"The Python package {error.name} is missing: {cure}.") from error


def complaint(check: Callable[[Any], object], value: Any) -> bool | str:
    """Return what validate_inputs() should return for one value: True, or the message of the check's error.

    The engine reports it under the name of every input that validate_inputs() takes, so it should take only one; the
    others are checked first thing in execute().
    """
    if value is None:  # linked to another node, and not known yet
        return True
    if not isinstance(value, str):
        return f"{shown(value)} is not a text: give one."
    try:
        check(value)
    except (ValueError, OSError) as error:
        return sentence(error)
    return True
