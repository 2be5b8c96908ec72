"""Tables of captioned pictures: metadata.jsonl and metadata.csv, a row for each picture."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..values import label, shown
from .captions import CAPTIONS, usable
from .files import is_inside, numbered_lines, read_part, read_text, within
from .report import Report
from .sample import DatasetError

METADATA = ("metadata.jsonl", "metadata.csv")
NAMES = ("file_name", "filename", "file", "path", "image", "image_path", "image_file")  # columns of a picture's path
WHO = ("character", "subject", "who", "group")  # columns that say what pictures share


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

    @property
    def joined(self) -> Path:
        """The picture's whole path without "..", its backslashes read as slashes unless a file is called so."""
        path = Path(self.base, self.path)
        if "\\" in self.path and not os.path.exists(path):
            path = Path(self.base, self.path.replace("\\", "/"))
        return Path(os.path.normpath(path))


def is_metadata(path: Path) -> bool:
    """Return whether a file is a table of captioned pictures by its name."""
    return path.name.lower() in METADATA


def entries_of(table: Path, root: Path, report: Report) -> Iterator[Entry]:
    """Yield the captions of a table with their pictures; what is left out is reported.

    Args:
        table: The file.
        root: The data set's folder.
        report: Counts what is left out.

    Raises:
        DatasetError: The file cannot be read, or is in another encoding.
    """
    for row, where in _rows(table, root, report):
        yield from _entries(row, table.parent, where, report)


def _rows(path: Path, root: Path, report: Report) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the rows of a metadata file, and where each stands."""
    name = within(path, root)
    if not is_inside(path, root, report):
        return
    if path.suffix.lower() == ".csv":
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
            row: dict[Any, Any] | None = next(rows, None)
        except csv.Error as error:
            report.leave_out("the line is not valid CSV", f"{name}:{rows.line_num}", str(error))
            continue
        if row is None:
            return
        where = f"{name}:{rows.line_num}"
        if any(field.strip() for field in row.pop(None, None) or ()):  # empty ones are commas that a program adds
            report.leave_out("the line has more fields than the header: quote captions with commas", where)
            continue
        yield row, where


def _entries(row: dict[str, Any], base: Path, where: str, report: Report) -> Iterator[Entry]:
    """Yield the picture of a row once for each of its captions; report what is left out."""
    path = next((row[key] for key in NAMES if row.get(key)), None)
    if not isinstance(path, str):
        report.leave_out("the line names no picture", where, f"give it as {NAMES[0]}")
        return
    found = next((row[key] for key in CAPTIONS if row.get(key)), "")
    who = next((row[key] for key in WHO if isinstance(row.get(key), str)), "")
    for told in found if isinstance(found, list) else [found]:
        caption = usable(told)
        if caption:
            yield Entry(path, base, caption, where, who.strip())
        else:
            report.leave_out("the caption is empty", where, path)
