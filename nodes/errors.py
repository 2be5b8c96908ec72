"""Mistakes that a user can mend, told in one sentence that begins with the node's name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from comfy_api.latest import io

Execute = Callable[..., io.NodeOutput]


def names_node(execute: Execute) -> Execute:
    """For a node's execute(): a ValueError or OSError, whose message is already a sentence, also says which node it is.

    It comes out as a ValueError; the original one is its cause.
    """

    @functools.wraps(execute)
    def wrapper(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        try:
            return execute(cls, *args, **inputs)
        except (ValueError, OSError) as error:
            raise ValueError(f"{cls.define_schema().display_name}: {error}") from error

    return wrapper


@contextmanager
def with_packages(cure: str = "install this pack's requirements.txt for ComfyUI") -> Iterator[None]:
    """For code that imports packages of others: says so in a sentence, with the cure, where one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"The Python package {error.name} is missing: {cure}.") from error


def complaint(check: Callable[[Any], object], value: Any) -> bool | str:
    """What validate_inputs() returns for one value: True, or the sentence of the check's error."""
    if value is None:  # linked to another node, and not known yet
        return True
    try:
        check(value)
    except (ValueError, OSError) as error:
        return str(error)
    return True
