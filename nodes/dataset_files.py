"""Data sets for training: below ComfyUI's input folder, among the saved sessions, or in the pack."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import folder_paths

from ..m3adapter import datasets
from ..m3adapter.conversation.storage import is_conversation
from ..m3adapter.datasets.sample import Dataset
from ..m3adapter.values import shown
from .session_folders import sessions

INPUT, SESSIONS, EXAMPLES = "input", "sessions", "examples"
SHIPPED = Path(datasets.__file__).parent / "examples"  # those that come with the pack
DEPTH = 3  # folders below the input folder that are listed
FILES = (".jsonl", ".tar")  # data sets that are a single file


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on a wire: where it lies, what of it is learned from, and the samples as they were read.

    Attributes:
        path: Its folder or file.
        kind: Its layout.
        split: "train", "validation" or "test"; "" is all of it.
        held_out: The part that is kept for measuring, if it has no part for that.
        check: Whether every picture is decoded before a training begins.
        fingerprint: Changes when a file of it does.
        report: What was read, and what was left out and why.
        samples: How many there are to learn from.
        opened: The samples; their pictures are read when somebody looks at them.
    """

    path: Path
    kind: str
    split: str
    held_out: float
    check: bool
    fingerprint: str
    report: str
    samples: int
    opened: Dataset = field(compare=False, repr=False)


def names() -> list[str]:
    """Return what can be chosen: "examples/...", "input/..." in alphabetical order, "sessions" and "sessions/..."."""
    root = Path(folder_paths.get_input_directory())
    found = sorted((f"{INPUT}/{path.relative_to(root).as_posix()}" for path in _listed(root, DEPTH)), key=str.lower)
    saved = [f"{SESSIONS}/{path.name}" for path in _sessions()]
    shipped = sorted(f"{EXAMPLES}/{path.name}" for path in SHIPPED.iterdir())
    return [*shipped, *found, *([SESSIONS] if saved else []), *saved]  # what everybody has is the default


def find(name: str) -> Path:
    """Return the path of a data set by its name from `names`.

    Raises:
        ValueError: The name leads out of these folders, or to nothing.
    """
    kind, _, inside = name.partition("/")
    strange = not name or inside.startswith("/") or any(c in name for c in "\\\0:") or ".." in name.split("/")
    if strange or kind not in (INPUT, SESSIONS, EXAMPLES) or (kind != SESSIONS and not inside):
        raise ValueError(f"dataset is {shown(name)}, which is no place for a data set: choose one from the list.")
    if kind == EXAMPLES:
        root = SHIPPED
    else:
        root = Path(folder_paths.get_input_directory()) if kind == INPUT else sessions().root
    path = root / inside if inside else root
    if not path.exists():
        raise ValueError(
            f"dataset: there is no {shown(name)}: put the data set below ComfyUI's input folder, then refresh."
        )
    return path


def fingerprint(path: Path) -> str:
    """Return a digest that changes when the file does, or a file in the folder."""
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            about = file.stat()
            found.update(
                f"{file.relative_to(path.parent)}:{about.st_size}:{about.st_mtime_ns}\n".encode("utf-8", "replace")
            )
    return found.hexdigest()


def _listed(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # what cannot be read cannot be chosen
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield Path(entry.path)
            if depth > 1:
                yield from _listed(Path(entry.path), depth - 1)
        elif entry.name.endswith(FILES):
            yield Path(entry.path)


def _sessions() -> list[Path]:
    root = sessions().root
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if not path.name.startswith(".") and is_conversation(path))
