"""Where models lie: ComfyUI's registered folders, in which they are found by name and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import folder_paths

# Kinds of folders that ComfyUI does not have itself, below its folder of models; extra_model_paths.yaml can add more.
OWN = ("m2chat", "LLM", "fonts", "ipadapter")


def register() -> None:
    """Make ComfyUI know our kinds of folders; what others have registered under these names stays."""
    for kind in OWN:
        folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))


def names(kinds: tuple[str, ...], wanted: Callable[[Path], bool]) -> list[str]:
    """What is wanted in the folders of these kinds, as "kind/name" with forward slashes, in alphabetical order.

    A folder that is wanted is not searched for more. Links are followed, and none in circles.
    """
    found = {
        f"{kind}/{path.relative_to(root).as_posix()}"
        for kind in kinds
        for root in _roots(kind)
        for path in _search(root, wanted)
    }
    return sorted(found, key=str.lower)


def resolve(kinds: tuple[str, ...], name: str, wanted: Callable[[Path], bool]) -> Path:
    """Where the model of a name from `names` lies.

    Raises ValueError, one sentence: a name that leads out of the folders, or to nothing that is wanted.
    """
    check_name(name)
    kind, _, inside = name.partition("/")
    if kind in kinds and inside:
        for root in _roots(kind):
            if wanted(path := root / inside):
                return path
    listed = ", ".join(kinds)
    raise ValueError(f"There is no model {name}: put it below one of ComfyUI's model folders {listed}, then refresh.")


def check_name(name: str) -> None:
    """Raises ValueError, one sentence, for anything but a name inside the folders."""
    if "://" in name:
        raise ValueError(f"{name} is an address, and nothing is downloaded: choose a model that is on this machine.")
    strange = name.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", name)
    if strange or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise ValueError(f"{name!r} leads out of ComfyUI's model folders: choose a model from the list.")


def _roots(kind: str) -> list[Path]:
    known = folder_paths.map_legacy(kind)
    return [Path(path) for path in folder_paths.get_folder_paths(known)]


def _search(root: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        here = Path(folder)
        if here != root and wanted(here):
            folders.clear()
            yield here
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (here / name for name in files if wanted(here / name))
