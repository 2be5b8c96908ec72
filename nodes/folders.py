"""Where models lie: ComfyUI's registered folders, in which they are found by name and nowhere else."""

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


def register() -> None:
    """Make ComfyUI know our kinds of folders; what others have registered under these names stays."""
    for kind in OWN:
        folder_paths.add_model_folder_path(kind, os.path.join(folder_paths.models_dir, kind))


@dataclass(frozen=True)
class Shelf:
    """The models of one sort.

    Attributes:
        wanted: For each kind of folder in which they may lie: whether a file or folder is one.
        hidden: Whether one is not offered in the list, though it is found by its name.
    """

    wanted: Mapping[str, Callable[[Path], bool]]
    hidden: Callable[[Path], object] = lambda path: False

    def names(self) -> list[str]:
        """What there is, as "kind/name" with forward slashes, in alphabetical order.

        A folder that is wanted is not searched for more. Links are followed, and none in circles.
        """
        found = {
            f"{kind}/{path.relative_to(root).as_posix()}"
            for kind, wanted in self.wanted.items()
            for root in _roots(kind)
            for path in _search(root, wanted)
            if not self.hidden(path)
        }
        return sorted(found, key=str.lower)

    def find(self, name: str) -> Path:
        """Where the model of a name from `names` lies.

        Raises ValueError, one sentence: a name that leads out of the folders, or to nothing that is wanted.
        """
        check_name(name)
        kind, _, inside = name.partition("/")
        if kind in self.wanted and inside:
            for root in _roots(kind):
                if self.wanted[kind](path := root / inside):
                    return path
        listed = ", ".join(self.wanted)
        raise ValueError(
            f"There is no model {name}: put it below one of ComfyUI's model folders {listed}, then refresh."
        )

    def fingerprint(self, name: str | None) -> str:
        """Changes when the model's files do; "" where the name comes from another node and is not known yet."""
        return fingerprint(self.find(name)) if name else ""


def fingerprint(path: Path) -> str:
    """Changes when the file does, or a file in the folder."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def check_name(name: str) -> None:
    """Raises ValueError, one sentence, for anything but a name inside the folders."""
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
