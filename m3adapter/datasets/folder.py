"""A folder of pictures with captions: a text file beside each, or metadata.jsonl or metadata.csv.

    rosa/beach.png   rosa/beach.txt                                        the caption beside the picture
    metadata.jsonl   {"file_name": "beach.png", "text": "Rosa on the beach"}       or one line per picture

This is how the library `datasets` lays out its image folders. Folders named train, validation and test are parts of
the data set. Pictures in one folder below, or whose captions share a name, are references of each other.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..conversation.segments import Picture, Text, Turn, clean
from ..values import label, shown
from .files import SUFFIXES, is_inside, is_utf8, numbered_lines, read_part, read_text, split_of, walk, within
from .mining import named_in, ordinary_words
from .pictures import Pictures
from .reader import Place, Story
from .report import Report
from .sample import DatasetError

METADATA = ("metadata.jsonl", "metadata.csv")
NAMES = ("file_name", "filename", "file", "path", "image", "image_path", "image_file")  # columns of a picture's path
CAPTIONS = ("text", "caption", "prompt", "description", "captions", "texts")  # columns of its caption
WHO = ("character", "subject", "who", "group")  # columns that say what pictures share
BESIDE = (".txt", ".caption")
FAMILY = 64  # pictures; a folder or a name with more of them is a subject, not a character


class Entry(NamedTuple):
    """A picture with its caption.

    Attributes:
        path: The picture's path, as its metadata or the folder has it.
        base: The folder that the path is relative to.
        caption: The caption.
        where: Where the caption stands.
        who: What pictures share, "" if the metadata does not say.
    """

    path: str
    base: Path
    caption: str
    where: str
    who: str = ""


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
        entry = self.entries[place[0]]
        parts = (entry.base / entry.path).parent.parts[len(self.root.parts) :]
        return split_of(parts[0], whole=True) if parts else None

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return a picture as an answer to its caption."""
        entry = self.entries[place[0]]
        image = pictures.open(entry.path, entry.base, entry.where)
        if image is None:
            return None
        return captioned(entry.caption, image, self.groups[place[0]])

    def _entries(self, report: Report) -> Iterator[Entry]:
        files = list(walk(self.root, report))
        tables = [path for path in files if path.name in METADATA]
        told: dict[Path, set[str]] = defaultdict(set)  # the captions of each picture so far
        for table in tables:
            for row, where in _rows(table, self.root, report):
                entry = _entry(row, table.parent, where, report)
                if entry is None:
                    continue
                path = _joined(entry.base, entry.path)
                if entry.caption in told[path]:
                    report.leave_out("the same picture has the same caption twice", where, entry.path)
                    continue
                told[path].add(entry.caption)
                yield entry
        for path in files:
            if path.suffix.lower() not in SUFFIXES or path in told:
                continue
            where = within(path, self.root)
            if not is_utf8(str(path)):
                report.leave_out("the file's name is not UTF-8", where)
                continue
            caption = _beside(path, report, where)
            if caption is not None:
                yield Entry(path.name, path.parent, caption, where)


def captioned(caption: str, image: Any, groups: tuple[str, ...] = ()) -> Story:
    """Return a single picture as a conversation: its caption is asked for, and it is the answer."""
    return Story((Turn("user", (Text(caption),)), Turn("assistant", (Picture(caption, image),))), groups=groups)


def usable(caption: Any) -> str:
    """Return a caption cleaned and on one line; "" if there is none."""
    return " ".join(clean(caption).split()) if isinstance(caption, str) else ""


def _joined(base: Path, name: str) -> Path:
    return Path(base, name.replace("\\", "/"))


def _beside(path: Path, report: Report, where: str) -> str | None:
    """Return the caption in the text file beside a picture; None if the picture is left out."""
    found = next((file for file in map(path.with_suffix, BESIDE) if os.path.isfile(file)), None)
    if found is None:
        report.leave_out("the picture has no caption", where)
        return None
    if found.is_symlink() and not found.resolve().is_relative_to(path.parent.resolve()):
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


def _rows(path: Path, root: Path, report: Report) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the rows of a metadata file, and where each stands."""
    name = within(path, root)
    if not is_inside(path, root, report):
        return
    if path.suffix == ".csv":
        yield from _csv_rows(path, name, report)
        return
    for line, start, length in numbered_lines(path, report):
        where = f"{name}:{line}"
        try:
            row = json.loads(read_part(path, start, length).decode("utf-8-sig"))
        except UnicodeDecodeError:
            report.leave_out("the line is not UTF-8", where)
            continue
        except (ValueError, RecursionError):
            report.leave_out("the line is not valid JSON", where, "is it cut?")
            continue
        if not isinstance(row, dict):
            report.leave_out("the line is no JSON object", where, shown(row))
            continue
        yield row, where


def _csv_rows(path: Path, name: str, report: Report) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{label(path)} is not UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{label(path)} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            report.leave_out("the line is not valid CSV", f"{name}:{rows.line_num}", str(error))
            continue
        if row is None:
            return
        yield {key: value for key, value in row.items() if key is not None}, f"{name}:{rows.line_num}"


def _entry(row: dict[str, Any], base: Path, where: str, report: Report) -> Entry | None:
    """Return the picture of a row; None if it is left out, which is reported."""
    path = next((row[key] for key in NAMES if row.get(key)), None)
    if not isinstance(path, str):
        report.leave_out("the line names no picture", where, f"give it as {NAMES[0]}")
        return None
    found = next((row[key] for key in CAPTIONS if row.get(key)), "")
    caption = usable(found[0] if isinstance(found, list) and found else found)
    if not caption:
        report.leave_out("the caption is empty", where, path)
        return None
    who = next((row[key] for key in WHO if isinstance(row.get(key), str)), "")
    return Entry(path, base, caption, where, who.strip())


def _groups(entries: list[Entry], root: Path) -> list[tuple[str, ...]]:
    """Return what each picture shares with some others: who the metadata says it shows, a name, or its folder."""
    ordinary = ordinary_words(entry.caption for entry in entries)
    every = [
        (
            *((f"who {entry.who}",) if entry.who else ()),
            *(f"name {name}" for name in named_in(entry.caption, ordinary)),
            *_folder_group(entry, root),
        )
        for entry in entries
    ]
    counts: dict[str, int] = defaultdict(int)
    for groups in every:
        for group in groups:
            counts[group] += 1
    return [tuple(group for group in groups if 1 < counts[group] <= FAMILY) for groups in every]


def _folder_group(entry: Entry, root: Path) -> tuple[str, ...]:
    """Return the folder of a picture as a group, unless it is the whole data set's or that of a part."""
    parent = _joined(entry.base, entry.path).parent
    parts = parent.parts[len(root.parts) :]
    if not parts or (len(parts) == 1 and (split_of(parts[0], whole=True) or parts[0] in ("images", "data"))):
        return ()
    return (f"folder {'/'.join(parts)}",)
