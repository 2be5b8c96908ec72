"""The files of a data set: what lies in its folder, and texts read line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from ..values import label
from .report import Report
from .sample import DatasetError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"))
MAX_TEXT = 2**26  # bytes of a line of JSON, or of a caption's file
SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def digest_of(data: bytes) -> str:
    """Return the digest of a file's contents."""
    return blake2b(data, digest_size=16).hexdigest()


def read_part(path: Path, start: int = 0, length: int | None = None) -> bytes:
    """Return the bytes of a file, or of a part of it; raise OSError if they cannot be read."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read() if length is None else file.read(length)
    if length is not None and len(data) < length:
        raise OSError(0, "the file is shorter than it was")
    return data


def decoded(data: bytes) -> str:
    """Return the text of bytes in UTF-8, without a byte order mark.

    Raises:
        UnicodeDecodeError: They are in another encoding.
    """
    return data.decode("utf-8-sig")


def read_text(path: Path, *, limit: int = MAX_TEXT) -> str:
    """Return the text of a file; raise OSError, or ValueError if it has more bytes than `limit` or is not UTF-8."""
    if path.stat().st_size > limit:
        raise ValueError("too large")
    return decoded(path.read_bytes())


def numbered_lines(path: Path, report: Report) -> Iterator[tuple[int, int, int]]:
    """Yield (line, start, length) of a text file's lines that are not blank, lines counted from 1.

    Raises:
        DatasetError: The file is in UTF-16, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = 0
            line = 0
            while data := file.readline(MAX_TEXT + 1):
                line += 1
                length = len(data)
                if line == 1 and data.startswith(UTF16_BOMS):
                    raise DatasetError(f"{label(path)} is written in UTF-16: save it as UTF-8.")
                if length > MAX_TEXT:
                    while not data.endswith(b"\n") and (data := file.readline(MAX_TEXT)):
                        length += len(data)
                    report.leave_out(f"the line is longer than {MAX_TEXT // 2**20} MB", f"{label(path)}:{line}")
                elif data.strip() and data.strip() != UTF8_BOM:
                    yield line, start, length
                start += length
    except OSError as error:
        raise DatasetError(f"{label(path)} cannot be read: {error.strerror}.") from error


def is_utf8(name: str) -> bool:
    """Return whether the name of a file can be written in UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_inside(path: Path, root: Path, report: Report) -> bool:
    """Return whether a file lies in a folder, wherever it is linked from; report it if it does not."""
    if not path.is_symlink() or path.resolve().is_relative_to(root.resolve()):
        return True
    report.leave_out("the file lies outside the data set's folder", within(path, root))
    return False


def split_of(name: str, *, whole: bool = False) -> str | None:
    """Return the part of a data set that a file's name, or the whole name of a folder, states."""
    parts = [name.lower()] if whole else re.split(r"[._\-\s]", name.lower())
    return next((SPLITS[part] for part in parts if part in SPLITS), None)


def walk(root: Path, report: Report) -> Iterator[Path]:
    """Yield the files below a folder in order; links to folders and hidden files are left out."""

    def unreadable(error: OSError) -> None:
        report.leave_out("the folder cannot be read", str(error.filename), error.strerror or "")

    for folder, folders, files in os.walk(root, onerror=unreadable):
        for name in sorted(folders):
            if (Path(folder) / name).is_symlink():
                report.leave_out("links to folders are not followed", within(Path(folder) / name, root))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait for its other end
                report.leave_out("it is no plain file", within(path, root))
                continue
            yield path


def by_stem(root: Path, report: Report) -> dict[str, Path]:
    """Return the pictures below a folder by their names without suffix; of two with one name, the first."""
    found: dict[str, Path] = {}
    for path in walk(root, report):
        if path.suffix.lower() in SUFFIXES and found.setdefault(path.stem, path) is not path:
            report.leave_out("another picture has the same name", within(path, root))
    return found


def within(path: Path, root: Path) -> str:
    """Return a path below a folder as it is shown to people."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else label(path)
