"""Model folders: models are found by name in ComfyUI's registered folders, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ..m3adapter.values import shown

# Kinds of folders that ComfyUI does not have itself, below its folder of models; extra_model_paths.yaml can add more.
OWN = ("m2chat", "LLM", "fonts", "ipadapter")
NOTHING = "(no model yet)"  # what a list without models offers: an empty list is told of as a missing wire


def register() -> None:
    """Register our kinds of folders with ComfyUI; what others have registered under these names stays."""
    for kind in OWN:
        folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))


@dataclass(frozen=True)
class Shelf:
    """The models of one sort.

    Attributes:
        wanted: For each kind of folder that may hold them, a test whether a file or folder is one.
        hidden: Whether a model is left out of the list, although it can be found by name.
    """

    wanted: Mapping[str, Callable[[Path], bool]]
    hidden: Callable[[Path], object] = lambda path: False

    def names(self) -> list[str]:
        """Return the models as "kind/name" with forward slashes, in alphabetical order.

        A folder that is a model is not searched further. Links are followed, but never in a circle.
        """
        found = {
            f"{kind}/{path.relative_to(root).as_posix()}"
            for kind, wanted in self.wanted.items()
            for root in _roots(kind)
            for path in _search(root, wanted)
            if not self.hidden(path)
        }
        return sorted(found, key=str.lower)

    def choices(self) -> list[str]:
        """Return what a widget offers: the names, or NOTHING, which is refused with the cure."""
        return self.names() or [NOTHING]

    def find(self, name: str) -> Path:
        """Return the path of a model by its name from `names`.

        Raises:
            ValueError: The name leads out of the folders, or to nothing that is wanted.
        """
        listed = ", ".join(self.wanted)
        if name == NOTHING:
            raise ValueError(f"There is no model yet: put one below ComfyUI's model folders {listed}, then refresh.")
        check_name(name)
        kind, _, inside = name.partition("/")
        if kind in self.wanted and inside:
            for root in _roots(kind):
                if self.wanted[kind](path := root / inside):
                    return path
        raise ValueError(
            f"There is no model {name}: put it below one of ComfyUI's model folders {listed}, then refresh."
        )

    def fingerprint(self, name: str | None) -> str:
        """Return a text that changes when the model's files do; "" if the name comes from another node."""
        return fingerprint(self.find(name)) if name else ""


def fingerprint(path: Path) -> str:
    """Return a text that changes when the file does, or a file in the folder."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def check_name(name: str) -> None:
    """Raise ValueError for anything but a name inside the folders."""
    if "://" in name:
        raise ValueError(f"{name} is an address, and nothing is downloaded: choose a model that is on this machine.")
    strange = name.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", name)
    if strange or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise ValueError(f"{shown(name)} leads out of ComfyUI's model folders: choose a model from the list.")


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
