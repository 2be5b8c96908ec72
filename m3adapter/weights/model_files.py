"""Checks files of models before a library reads them; every error names the file and the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..values import label

LARGEST_JSON = 256 * 2**20  # bytes; the largest tokenizers have about 40 MiB

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")


def check_whole(path: Path) -> None:
    """Raise ValueError for an empty file, a Git LFS pointer, or a web page saved under a model file's name."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{label(path)} is empty: get the file again.")
    if start.startswith(_POINTER):
        raise ValueError(
            f"{label(path)} is a Git LFS pointer, which only says where the file lies: "
            "run `git lfs pull` in its folder, or download the file itself."
        )
    if start.lstrip().lower().startswith(_PAGES):
        raise ValueError(f"{label(path)} is a web page saved under the file's name: download the file itself.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: The file holds anything else, is too large, or is not the file that was meant (see `check_whole`).
    """
    check_whole(path)
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{label(path)} is larger than any file of its kind: get the file again.")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label(path)} is cut off or not valid JSON: get the file again.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{label(path)} does not hold a JSON object: get the file again.")
    return value
