"""A folder of pictures with captions: a text file beside each, or metadata.jsonl or metadata.csv.

    rosa/beach.png   rosa/beach.txt                                        the caption beside the picture
    metadata.jsonl   {"file_name": "beach.png", "text": "Rosa on the beach"}       or one line per picture

This is how the library `datasets` lays out its image folders. Folders named train, validation and test are parts of
the data set. Pictures in one folder below, or whose captions share a name, are references of each other.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..conversation.segments import Picture, Text, Turn
from .captions import BESIDE, usable
from .files import SUFFIXES, is_utf8, read_text, split_of, walk, within
from .metadata import Entry, entries_of, is_metadata
from .mining import named_in, ordinary_words
from .pictures import Pictures
from .reader import Place, Story
from .report import Report

FAMILY = 64  # pictures; a folder or a name with more of them is a subject, not a character


class Folder:
    """A folder of captioned pictures."""

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[Entry] = []
        self.groups: list[tuple[str, ...]] = []

    def places(self, report: Report) -> Iterator[Place]:
        """Yield the number of every picture with a caption."""
        self.entries = list(self._entries(report))
        self.groups = _groups(self.entries, self.root)
        for number in range(len(self.entries)):
            yield (number,)

    def where(self, place: Place) -> str:
        """Return the caption's file, and its line in a file of many."""
        return self.entries[place[0]].where

    def split(self, place: Place) -> str | None:
        """Return the part that the topmost folder says."""
        folders = _folders(self.entries[place[0]].joined, self.root)
        return split_of(folders[0], whole=True) if folders else None

    def unit(self, place: Place) -> str:
        """Return the picture: all its captions are for training, or all for validation."""
        return _shown_as(_resolved(self.entries[place[0]].joined), self.root)

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return a picture as an answer to its caption."""
        entry = self.entries[place[0]]
        image = pictures.open(entry.path, entry.base, entry.where)
        if image is None:
            return None
        return captioned(entry.caption, image, self.groups[place[0]])

    def _entries(self, report: Report) -> Iterator[Entry]:
        files = list(walk(self.root, report))
        told: dict[str, set[str]] = defaultdict(set)  # the captions of each picture so far
        for table in filter(is_metadata, files):
            for entry in entries_of(table, self.root, report):
                captions = told[_shown_as(entry.joined, self.root)]
                if entry.caption in captions:
                    report.leave_out("the same picture has the same caption twice", entry.where, entry.path)
                    continue
                captions.add(entry.caption)
                yield entry
        for path in files:
            where = within(path, self.root)
            if path.suffix.lower() not in SUFFIXES or _shown_as(path, self.root) in told:
                continue
            if not is_utf8(str(path)):
                report.leave_out("the file's name is not UTF-8", where)
                continue
            caption = self._beside(path, report, where)
            if caption is not None:
                yield Entry(path.name, path.parent, caption, where)
        self._report_alone(files, report)

    def _report_alone(self, files: list[Path], report: Report) -> None:
        """Report captions beside which no picture lies, with what lies there instead."""
        beside: dict[Path, list[Path]] = defaultdict(list)
        for path in files:
            beside[path.with_suffix("")].append(path)
        for path in files:
            if path.suffix.lower() not in BESIDE:
                continue
            others = [other for other in beside[path.with_suffix("")] if other.suffix.lower() not in BESIDE]
            if not any(other.suffix.lower() in SUFFIXES for other in others):
                detail = f"{others[0].name} is of no known format" if others else ""
                report.leave_out("the caption has no picture", within(path, self.root), detail)

    def _beside(self, path: Path, report: Report, where: str) -> str | None:
        """Return the caption in the text file beside a picture; None if the picture is left out."""
        found = next((file for file in map(path.with_suffix, BESIDE) if os.path.isfile(file)), None)
        if found is None:
            report.leave_out("the picture has no caption", where)
            return None
        if found.is_symlink() and not found.resolve().is_relative_to(self.root.resolve()):
            report.leave_out("the caption lies outside the data set's folder", where)
            return None
        try:
            caption = usable(read_text(found))
        except UnicodeDecodeError:
            report.leave_out("the caption is not UTF-8", where, found.name)
            return None
        except (OSError, ValueError) as error:
            report.leave_out("the caption cannot be read", where, getattr(error, "strerror", None) or str(error))
            return None
        if not caption:
            report.leave_out("the caption is empty", where, found.name)
            return None
        return caption


def captioned(caption: str, image: Any, groups: tuple[str, ...] = ()) -> Story:
    """Return a single picture as a conversation: its caption is asked for, and it is the answer."""
    return Story((Turn("user", (Text(caption),)), Turn("assistant", (Picture(caption, image),))), groups=groups)


def _shown_as(path: Path, root: Path) -> str:
    """Return the name of a picture by which two spellings of it are known as one."""
    return unicodedata.normalize("NFC", _below(path, root) or str(path))


def _below(path: Path, root: Path) -> str:
    """Return the path of a picture below the data set's folder; "" if it lies elsewhere. Made for millions of them."""
    start = f"{root}{os.sep}"
    name = str(path)
    if not name.startswith(start):
        name = str(_resolved(path))  # it may be a whole path through a link
    return name[len(start) :] if name.startswith(start) else ""


def _resolved(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):  # no file system has such a path
        return path


def _folders(path: Path, root: Path) -> list[str]:
    """Return the folders below the data set's own in which a picture lies."""
    return _below(path, root).split(os.sep)[:-1]


def _groups(entries: list[Entry], root: Path) -> list[tuple[str, ...]]:
    """Return what each picture shares with some others: who the metadata says it shows, a name, or its folder."""
    ordinary = ordinary_words(entry.caption for entry in entries)
    paths = [entry.joined for entry in entries]
    every = [
        (
            *((f"who {entry.who}",) if entry.who else ()),
            *(f"name {name}" for name in named_in(entry.caption, ordinary)),
            *_folder_group(path, root),
        )
        for entry, path in zip(entries, paths, strict=True)
    ]
    pictures: dict[str, set[Path]] = defaultdict(set)
    for path, groups in zip(paths, every, strict=True):
        for group in groups:
            pictures[group].add(path)
    return [tuple(group for group in groups if 1 < len(pictures[group]) <= FAMILY) for groups in every]


def _folder_group(path: Path, root: Path) -> tuple[str, ...]:
    """Return the folder of a picture as a group, unless it is the whole data set's or that of a part."""
    parts = _folders(path, root)
    if not parts or (len(parts) == 1 and (split_of(parts[0], whole=True) or parts[0] in ("images", "data"))):
        return ()
    return (f"folder {'/'.join(parts)}",)
