"""Checks how much a file of weights or a configuration asks to be built, before anything is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..values import is_whole, label, shown
from .model_files import read_json

MAX_PARTS = 1024  # blocks of one kind, in files of this pack's own formats
MAX_SIZE = 2**20  # widths, and numbers of tokens, in files of this pack's own formats
MAX_DEPTH = 32  # nesting of a configuration; real ones have about five levels
MAX_NUMBER = 2**31 - 1  # any number in a configuration
MAX_IMAGE_SIDE = 2**13
MAX_LAYERS = 1024  # layers or blocks of one kind in a configuration
MAX_EXPERTS = 2**16  # in one layer; Doge has 2**14, which are rows of a matrix
MAX_ALL_EXPERTS = 2**20  # in all layers, because other models build a module for each of them
MAX_TIMESTEPS = 2**16  # of a noise schedule; 1000 is usual
_LAYERS = re.compile(r"layer|block|depth|stage", re.IGNORECASE)
_EXPERTS = re.compile(r"expert", re.IGNORECASE)
_WIDTHS = re.compile(r"channels|size|width|dim|rank|length|window", re.IGNORECASE)  # bounded by MAX_NUMBER
_FREE = re.compile("max_length|max_seq")  # tokenizers store huge numbers that mean "unlimited"; nothing is built
_IMAGE = re.compile(r"image_size|sample_size|patch_size")
_TIMESTEPS = re.compile(r"timesteps|inference_steps")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one clear sentence."""


def check_count(file: str, names: Mapping[str, Any], prefix: str, count: int) -> None:
    """Raise CheckpointError unless the names of weights have `count` different parts after a prefix.

    In `blocks.0.norm.weight` the part after `blocks.` is 0.
    """
    number = len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})
    if number != count:
        raise CheckpointError(f"{file} does not fit together: it asks for {count} {prefix[:-1]}, and holds {number}.")


def check_sizes(file: str, **sizes: Any) -> None:
    """Raise CheckpointError for a size outside 1 to 2**20."""
    for name, size in sizes.items():
        if not is_whole(size, 1, MAX_SIZE):
            raise CheckpointError(f"{file} has an impossible size: its {name} is {shown(size)}.")


def check_config(path: Path) -> None:
    """Raise ValueError for a config.json of a model too large to be built on any machine.

    Libraries build what a configuration says before they look at the weights. A missing file is no error here.
    """
    if not path.is_file():
        return
    place = label(path)
    layers, experts = 1, ("", 0)
    for name, value in _entries(place, read_json(path)):
        if isinstance(value, list):
            if (_LAYERS.search(name) or _EXPERTS.search(name)) and len(value) > MAX_LAYERS:
                raise ValueError(f"{place} asks for {len(value)} entries of {name}: the limit is {MAX_LAYERS}.")
            continue
        if not isinstance(value, int) or isinstance(value, bool) or _FREE.search(name):
            continue
        limit = _limit(name)
        if abs(value) > limit:
            raise ValueError(f"{place} asks for {shown(value)} as {name}: the limit is {limit}.")
        if limit == MAX_LAYERS and not name.startswith("max_"):  # max_window_layers does not count layers
            layers = max(layers, value)
        elif limit == MAX_EXPERTS:
            experts = max(experts, (name, value), key=lambda entry: entry[1])
    if layers * experts[1] > MAX_ALL_EXPERTS:
        raise ValueError(
            f"{place} asks for {experts[1]} as {experts[0]} in {layers} layers: "
            f"the limit for all layers is {MAX_ALL_EXPERTS}."
        )


def _limit(name: str) -> int:
    """Return the largest number that a field of that name may have."""
    if _IMAGE.search(name):
        return MAX_IMAGE_SIDE
    if _TIMESTEPS.search(name):
        return MAX_TIMESTEPS
    if _WIDTHS.search(name):
        return MAX_NUMBER
    if _LAYERS.search(name):
        return MAX_LAYERS
    return MAX_EXPERTS if _EXPERTS.search(name) else MAX_NUMBER


def _entries(place: str, content: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over names and values of a configuration, at any depth; items of a list have the list's name."""
    stack = [("", content, 0)]
    while stack:
        name, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{place} is nested more than {MAX_DEPTH} deep: get it again.")
        yield name, value
        if isinstance(value, dict):
            stack += [(key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(name, inner, depth + 1) for inner in value]
