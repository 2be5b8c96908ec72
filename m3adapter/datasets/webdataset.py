"""Tar files as WebDataset lays them out: for each key a picture, and its caption as .txt or in .json.

Nothing is unpacked: a picture is read from its place in the archive when somebody looks at it. Compressed archives have
no such places, and are refused.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..values import label
from .captions import BESIDE, CAPTIONS, usable
from .files import SUFFIXES, is_inside, is_utf8, read_part, split_of, within
from .folder import captioned
from .pictures import Pictures
from .reader import Place, Story
from .report import Report
from .sample import DatasetError

MAX_CAPTION = 2**20  # bytes of a caption's member
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # how such files begin


class Tars:
    """Captioned pictures in tar files.

    Args:
        root: The folder of the files.
        files: The files.
    """

    kind = "webdataset"

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root, files

    def places(self, report: Report) -> Iterator[Place]:
        """Yield (file, key, start and length of the picture and of the caption, whether that is JSON)."""
        for number, path in enumerate(self.files):
            if is_inside(path, self.root, report):
                yield from self._places(number, path, report)

    def where(self, place: Place) -> str:
        """Return the archive, and the key in it."""
        return f"{within(self.files[place[0]], self.root)}: {place[1]}"

    def split(self, place: Place) -> str | None:
        """Return what the name of the file, or of its folder, says."""
        path = self.files[place[0]]
        return split_of(path.stem) or (split_of(path.parent.name, whole=True) if path.parent != self.root else None)

    def unit(self, place: Place) -> str:
        """Return the place, since each conversation stands for itself."""
        return self.where(place)

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return a picture as an answer to its caption."""
        number, key, start, length, at, size, is_json = place
        where, path = self.where(place), self.files[number]
        caption = _caption(path, at, size, bool(is_json), where, report)
        if caption is None:
            return None
        image = pictures.inspected(path, where, start, length, name=f"{key} of {path.name}")
        return None if image is None else captioned(caption, image)

    def _places(self, number: int, path: Path, report: Report) -> Iterator[Place]:
        name, seen = within(path, self.root), set()
        parts: dict[str, tuple[int, int]] = {}
        last = ""

        def found() -> Iterator[Place]:
            place = _place(number, last, parts, f"{name}: {last}", report)
            if place is None:
                return
            if last in seen:
                report.leave_out("its id was used before", f"{name}: {last}")
                return
            seen.add(last)
            yield place

        for key, suffix, start, length in _members(path, name, report):
            if key != last and parts:
                yield from found()
                parts = {}
            last = key
            if suffix in parts:
                what = "picture" if suffix in SUFFIXES else "caption"
                report.leave_out(f"another {what} has the same key", f"{name}: {key}{suffix}")
                continue
            parts[suffix] = (start, length)
        if parts:
            yield from found()


def _members(path: Path, name: str, report: Report) -> Iterator[tuple[str, str, int, int]]:
    """Yield (key, suffix, start, length) of an archive's files, up to where it is cut."""
    whole = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # millions of them take memory
                where = f"{name}: {member.name}"
                folder, _, file = member.name.rpartition("/")
                if member.isdir() or file.startswith("."):  # a Mac puts a hidden ._0.jpg in front of each 0.jpg
                    continue
                if not member.isreg() or member.issparse():
                    report.leave_out("the archive's member is a link or no plain file", where)
                elif not is_utf8(member.name):
                    report.leave_out("the file's name is not UTF-8", where)
                elif member.size < 0 or member.offset_data + member.size > whole:
                    report.leave_out("the archive is cut", where)
                    return
                else:
                    key, dot, suffix = file.partition(".")
                    yield f"{folder}/{key}" if folder else key, dot + suffix.lower(), member.offset_data, member.size
            end = archive.offset  # type: ignore[attr-defined]
        if read_part(path, end, min(tarfile.BLOCKSIZE, whole - end)) != bytes(tarfile.BLOCKSIZE):
            report.leave_out("the archive is cut", name)
        elif whole - end > 2 * tarfile.RECORDSIZE:
            report.leave_out("the archive goes on after its end", name, f"{whole - end} bytes")
    except tarfile.ReadError as error:
        if whole and is_compressed(path):
            raise DatasetError(f"{label(path)} is compressed: decompress it, then open the .tar.") from error
        report.leave_out("the archive is cut", name, str(error))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        report.leave_out("the archive is damaged", name, getattr(error, "strerror", None) or str(error))


def is_compressed(path: Path) -> bool:
    """Return whether a file begins as those of gzip, bzip2, xz or zstandard do."""
    return read_part(path, 0, min(6, path.stat().st_size)).startswith(COMPRESSED)


def _place(number: int, key: str, parts: dict[str, tuple[int, int]], where: str, report: Report) -> Place | None:
    """Return where the picture and the caption of a key stand; None if it has not both, which is reported."""
    pictures = [suffix for suffix in parts if suffix in SUFFIXES]
    image = parts[pictures[0]] if pictures else None
    for suffix in pictures[1:]:
        report.leave_out("another picture has the same key", f"{where}{suffix}")
    for suffix in parts:  # ".v2.jpg"
        if suffix not in SUFFIXES and suffix[suffix.rfind(".") :] in SUFFIXES:
            report.leave_out("its name has a second dot, and keys end at the first", f"{where}{suffix}")
    words = next((parts[suffix] for suffix in BESIDE if suffix in parts), None)
    told = words or parts.get(".json")
    if image is None:
        if told is not None:
            report.leave_out("the caption has no picture", where)
        return None
    if told is None:
        report.leave_out("the picture has no caption", where)
        return None
    return (number, key, *image, *told, int(words is None))


def _caption(path: Path, start: int, length: int, is_json: bool, where: str, report: Report) -> str | None:
    """Return the caption in a member; None if it is left out, which is reported."""
    if length > MAX_CAPTION:
        report.leave_out(f"the caption is longer than {MAX_CAPTION // 2**20} MB", where)
        return None
    try:
        told: Any = read_part(path, start, length).decode("utf-8-sig")
        if is_json:
            record = json.loads(told)
            told = next((record[key] for key in CAPTIONS if record.get(key)), "") if isinstance(record, dict) else ""
    except UnicodeDecodeError:
        report.leave_out("the caption is not UTF-8", where)
        return None
    except (ValueError, RecursionError):
        report.leave_out("the caption's JSON is not valid", where)
        return None
    caption = usable(told)
    if not caption:
        report.leave_out("the caption is empty", where)
        return None
    return caption
