"""Mistakes that a user can mend, told in one sentence that begins with the node's name."""

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

Execute = Callable[..., io.NodeOutput]


def names_node(execute: Execute) -> Execute:
    """For a node's execute(): a ValueError or OSError, whose message is already a sentence, also says which node it is.

    It comes out as a ValueError; the original one is its cause. What the node is given is checked before.
    """
    names = list(inspect.signature(execute).parameters)[1:]

    @functools.wraps(execute)
    def wrapper(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        from .checked import check  # which needs what nodes are made of

        schema = cls.SCHEMA or cls.define_schema()
        try:
            check(schema, {**dict(zip(names, args, strict=False)), **inputs})
            return execute(cls, *args, **inputs)
        except (ValueError, OSError) as error:
            raise ValueError(f"{schema.display_name}: {sentence(error)}") from error

    return wrapper


def sentence(error: Exception) -> str:
    """What an error says. Of files that the system refuses, their name is told and not where they lie on the server."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {Path(os.fsdecode(error.filename)).name}."
    return str(error)


@contextmanager
def with_packages(cure: str = "install this pack's requirements.txt for ComfyUI") -> Iterator[None]:
    """For code that imports packages of others: says so in a sentence, with the cure, where one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"The Python package {error.name} is missing: {cure}.") from error


def complaint(check: Callable[[Any], object], value: Any) -> bool | str:
    """What validate_inputs() returns for one value: True, or the sentence of the check's error.

    The engine reports it under the name of every input that validate_inputs() takes, so it takes one: the others are
    checked first thing in execute().
    """
    if value is None:  # linked to another node, and not known yet
        return True
    if not isinstance(value, str):
        return f"{shown(value)} is no text: give one."
    try:
        check(value)
    except (ValueError, OSError) as error:
        return sentence(error)
    return True
