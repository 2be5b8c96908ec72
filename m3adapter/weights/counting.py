"""What a file of weights or a configuration asks to be built, counted before anything is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..values import is_whole, shown
from .model_files import label, read_json

MAX_PARTS = 1024  # blocks of one kind, in those files
MAX_SIZE = 2**20  # of a width, or a number of tokens, in files of this pack's own kinds
MAX_DEPTH = 32  # of a configuration's nesting; real ones have five or so
MAX_NUMBER = 2**31 - 1  # of anything in a configuration
MAX_IMAGE_SIDE = 2**13
MAX_LAYERS = 1024  # of any kind of layer or block in a configuration
MAX_EXPERTS = 2**16  # of a layer; Doge has 2**14, which are rows of a matrix there
MAX_ALL_EXPERTS = 2**20  # of all layers together, for other models build each of them
MAX_TIMESTEPS = 2**16  # of a noise schedule; 1000 is usual
_LAYERS = re.compile(r"layer|block|depth|stage", re.IGNORECASE)
_EXPERTS = re.compile(r"expert", re.IGNORECASE)
_WIDTHS = re.compile(r"channels|size|width|dim|rank|length|window", re.IGNORECASE)  # of layers: as large as they like
_FREE = re.compile("max_length|max_seq")  # what tokenizers put there says "no bound", and builds nothing
_IMAGE = re.compile(r"image_size|sample_size|patch_size")
_TIMESTEPS = re.compile(r"timesteps|inference_steps")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one clear sentence."""


def check_count(file: str, names: Mapping[str, Any], prefix: str, count: int) -> None:
    """Raises CheckpointError, one sentence, unless `count` different parts are behind a prefix in the names of weights.

    Of `blocks.0.norm.weight` and `blocks.`, the part is 0.
    """
    found = len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})
    if found != count:
        raise CheckpointError(f"{file} does not fit together: it asks for {count} {prefix[:-1]}, and holds {found}.")


def check_sizes(file: str, **sizes: Any) -> None:
    """Raises CheckpointError, one sentence, for a size outside 1 to 2**20."""
    for name, size in sizes.items():
        if not is_whole(size, 1, MAX_SIZE):
            raise CheckpointError(f"{file} is of an impossible size: its {name} is {shown(size)}.")


def check_config(path: Path) -> None:
    """Raises ValueError, one sentence, for a config.json of a model that nobody can build in any memory or time.

    Libraries build what a configuration says before they look at the weights. A file that is missing is left to them.
    """
    if not path.is_file():
        return
    place = label(path)
    layers, experts = 1, ("", 0)
    for name, value in _entries(place, read_json(path)):
        if isinstance(value, list):
            if (_LAYERS.search(name) or _EXPERTS.search(name)) and len(value) > MAX_LAYERS:
                raise ValueError(f"{place} asks for {len(value)} entries of {name}: {MAX_LAYERS} are most.")
            continue
        if not isinstance(value, int) or isinstance(value, bool) or _FREE.search(name):
            continue
        most = _most(name)
        if abs(value) > most:
            raise ValueError(f"{place} asks for {shown(value)} as {name}: {most} is most.")
        if most == MAX_LAYERS and not name.startswith("max_"):  # max_window_layers is no number of layers
            layers = max(layers, value)
        elif most == MAX_EXPERTS:
            experts = max(experts, (name, value), key=lambda found: found[1])
    if layers * experts[1] > MAX_ALL_EXPERTS:
        raise ValueError(
            f"{place} asks for {experts[1]} as {experts[0]} in {layers} layers: {MAX_ALL_EXPERTS} are most of them all."
        )


def _most(name: str) -> int:
    """The largest number that may stand under a name."""
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
    """All names and values of a configuration, at any depth; what stands in a list has the list's name."""
    waiting = [("", content, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{place} is nested more than {MAX_DEPTH} deep: get it again.")
        yield name, value
        if isinstance(value, dict):
            waiting += [(key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner, depth + 1) for inner in value]
