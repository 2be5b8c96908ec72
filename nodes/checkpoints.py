"""Models by name: what lies in ComfyUI's model folders, and the way from a name to its path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import folder_paths


def folders_with(mark: str, *keys: str) -> dict[str, Path]:
    """The folders that hold a file named `mark`, by their names below the model folders of ComfyUI's `keys`.

    The first of several equal names counts. Keys that ComfyUI does not know are passed over.
    """
    found: dict[str, Path] = {}
    for key in keys:
        for base in map(Path, folder_paths.get_folder_paths(key) if key in folder_paths.folder_names_and_paths else ()):
            for place, inner, files in os.walk(base, followlinks=True):
                if mark in files:
                    found.setdefault(Path(place).relative_to(base).as_posix(), Path(place))
                    inner.clear()
    return dict(sorted(found.items()))


def files_with(suffix: str, *keys: str) -> dict[str, Path]:
    """The files whose names end in `suffix` in the model folders of ComfyUI's `keys`, by their names there."""
    return {
        Path(name).as_posix(): Path(folder_paths.get_full_path_or_raise(key, name))
        for key in keys
        for name in folder_paths.get_filename_list(key)
        if name.lower().endswith(suffix)
    }


def locate(field: str, name: str, known: Mapping[str, Path], cure: str) -> Path:
    """The path of a model that a node's field names.

    Raises ValueError, one sentence, for what is no name of a model: an address, a way out of the folders, an unknown
    one; `cure` ends the last.
    """
    parts = PureWindowsPath(name)  # which reads both kinds of paths
    if "://" in name:
        raise ValueError(f"{field} is the address {name!r}, and nothing is downloaded: choose a model of the list.")
    if parts.drive or parts.root or ".." in parts.parts:
        raise ValueError(f"{field} is {name!r}, which leaves ComfyUI's model folders: choose a model of the list.")
    if name not in known:
        raise ValueError(f"{field} is {name!r}, and there is no such model: {cure}.")
    return known[name]
