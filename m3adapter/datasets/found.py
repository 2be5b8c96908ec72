"""What lies in a data set's folder, by which its layout is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from .captions import BESIDE, CAPTIONS
from .files import MAX_TEXT, SUFFIXES
from .messages import MESSAGES
from .metadata import NAMES, is_metadata
from .mmdialog import MEDIA, TEXT
from .vist import SUFFIX

LOOKED_AT = 8  # lines at the beginning of a file, of which some may be bad
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Found:
    """The files of a data set, sorted by the layouts that they could belong to.

    Args:
        root: The data set's folder.
        files: Its files, or the one that is given.
    """

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root, files
        self.pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        self.tables = [path for path in files if is_metadata(path)]
        self.stories = [path for path in files if path.name.endswith(SUFFIX)]
        self.tars = [path for path in files if path.name.lower().endswith(TARS)]
        self.lines = [path for path in files if path.suffix.lower() == ".jsonl" and not is_metadata(path)]

    @cached_property
    def captioned(self) -> list[Path]:
        """Pictures with a caption beside them."""
        captions = {path.with_suffix("") for path in self.files if path.suffix in BESIDE}
        return [path for path in self.pictures if path.with_suffix("") in captions]

    @cached_property
    def dialogues(self) -> list[Path]:
        """Files of MMDialog's."""
        own = [path for path in self.files if is_json(path) and path.stem == "conversations"]
        return [path for path in dict.fromkeys([*self.lines, *own]) if is_dialogue(path)]

    @cached_property
    def _firsts(self) -> dict[Path, Any]:
        """What each file of JSON Lines begins with; None if that cannot be read."""
        return {path: self._first(path) for path in self.lines}

    @cached_property
    def surely_conversations(self) -> list[Path]:
        """Files of JSON Lines that begin with a conversation."""
        return [path for path, first in self._firsts.items() if _is_conversation(first)]

    @cached_property
    def conversations(self) -> list[Path]:
        """Those, and files whose beginning cannot be read: their readers say what is wrong."""
        return [path for path, first in self._firsts.items() if first is None or _is_conversation(first)]

    @cached_property
    def misnamed(self) -> list[Path]:
        """Files of JSON Lines that begin like a table of captioned pictures."""
        return [path for path, first in self._firsts.items() if isinstance(first, dict) and _is_row(first)]

    def unread(self, kind: str) -> list[Path]:
        """Return the files that a layout does not read, and another could learn from."""
        return list(dict.fromkeys(self._unread(kind)))

    def _unread(self, kind: str) -> Iterator[Path]:
        if kind != "folder":
            yield from self.tables
            yield from self.pictures if kind == "webdataset" else self.captioned
        if kind != "webdataset":
            yield from self.tars
        read = {"messages": self.conversations or self.lines, "mmdialog": self.dialogues}.get(kind, [])
        yield from (path for path in self.lines if path not in read)

    def _first(self, path: Path) -> Any:
        """Return the first conversation of a file's beginning, else its first line; None if a line cannot be read."""
        if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
            return None
        records: list[Any] = []
        try:
            with path.open("rb") as file:
                while len(records) < LOOKED_AT and (line := file.readline(MAX_TEXT)):
                    if line.strip():
                        records.append(_parsed(line))
        except OSError:
            return None
        first = next((record for record in records if _is_conversation(record)), None)
        return first if first is not None or None in records or not records else records[0]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def is_json(path: Path) -> bool:
    """Return whether a file is JSON or JSON Lines by its name, and no table of captioned pictures."""
    return path.suffix.lower() in (".json", ".jsonl") and not is_metadata(path)


def is_dialogue(path: Path) -> bool:
    """Return whether a file begins as MMDialog's do."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2**16)
    except OSError:
        return False
    return any(f'"{mark}"'.encode() in beginning for mark in (TEXT, MEDIA))


def _is_conversation(first: Any) -> bool:
    return isinstance(first, list) or (isinstance(first, dict) and any(key in first for key in MESSAGES))


def _is_row(first: dict[str, Any]) -> bool:
    return any(first.get(key) for key in NAMES) and any(first.get(key) for key in CAPTIONS)
