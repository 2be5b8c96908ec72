"""The files of a data set: its pictures, read when they are looked at, and its texts, all within its folder."""

from __future__ import annotations

import copy
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..conversation.deferred import Deferred
from ..conversation.pictures import DAMAGED, PictureError, check_pixels, read_picture, upright
from ..values import label, shown
from .report import Report
from .sample import DatasetError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"))
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # by Pillow's names; none runs a program
MIN_SIDE = 16  # pixels; what is smaller shows nothing
MAX_FILE = 2**28  # bytes of a picture's file
MAX_TEXT = 2**26  # bytes of a line of JSON, or of a caption's file
SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|(data|file|blob|ftp|https?):", re.IGNORECASE)


class StoredPicture(Deferred):
    """A picture in a file, or in a part of one, whose contents are read at every look.

    Args:
        path: The file.
        size: Width and height in pixels, upright.
        digest: The digest of the contents; "" if it is not known yet.
        start: Where the picture begins in the file, in bytes.
        length: How many bytes it has; None for the whole file.
        name: What errors call it; by default the file's own name.
    """

    __slots__ = ("_digest", "_size", "length", "name", "path", "start")

    def __init__(
        self, path: Path, size: tuple[int, int], digest: str = "", start: int = 0, length: int | None = None,
        name: str = "",
    ) -> None:  # fmt: skip
        self.path, self.start, self.length, self.name = path, start, length, name or path.name
        self._size, self._digest = size, digest

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    @property
    def digest(self) -> str:
        """The digest of the file's bytes."""
        self._digest = self._digest or digest_of(self.read())
        return self._digest

    def read(self) -> bytes:
        """Return the bytes; raise PictureError if they cannot be read."""
        try:
            return read_part(self.path, self.start, self.length)
        except OSError as error:
            raise PictureError(f"The picture {self.name} cannot be read: {error.strerror}.") from error

    def decode(self) -> Tensor:
        """Return the picture [H, W, 3]; raise PictureError if it cannot be read any more, or is another one now."""
        data = self.read()
        if self._digest and digest_of(data) != self._digest:
            raise PictureError(f"The picture {self.name} was changed after the data set was opened: start again.")
        return read_picture(data, formats=formats(), name=self.name)


class Pictures:
    """Opens the pictures of a data set, each of which is looked at once.

    Args:
        root: The folder that no picture may leave, by whatever path or link.
        report: Counts what cannot be opened.
        check: Whether every picture is decoded once; otherwise only its header is read.
    """

    def __init__(self, root: Path, report: Report, *, check: bool = True) -> None:
        self.root, self.report, self.check = root.resolve(), report, check
        self._known: dict[Path, StoredPicture | str] = {}
        self._named: dict[tuple[str, str], StoredPicture | str] = {}

    def silent(self, report: Report) -> Pictures:
        """Return the same pictures for a second reading: what was looked at is not looked at again."""
        other = copy.copy(self)
        other.report, other.check = report, False
        return other

    def open(self, name: Any, base: Path, place: str) -> StoredPicture | None:
        """Return a picture; None if it is left out, which is reported.

        Args:
            name: Its path as the data set states it, relative to `base`.
            base: A folder of the data set.
            place: Where its name stands.
        """
        key = (str(base), name) if isinstance(name, str) else None
        found = self._named.get(key) if key else None
        if found is None:
            found = self._found(name, base)
            if key:
                self._named[key] = found
        if isinstance(found, str):
            self.report.leave_out(found, place, name if isinstance(name, str) else shown(name))
            return None
        return found

    def inspected(
        self, path: Path, place: str, start: int = 0, length: int | None = None, name: str = ""
    ) -> StoredPicture | None:
        """Return the picture in a file, or in a part of one; None if it is left out, which is reported."""
        found = self._inspect(path, start, length, name)
        if isinstance(found, str):
            self.report.leave_out(found, place)
            return None
        return found

    def _found(self, name: Any, base: Path) -> StoredPicture | str:
        if not isinstance(name, str) or not name.strip():
            return "the picture has no path"
        if _ADDRESS.match(name):
            return "the picture is a web address, and nothing is downloaded"
        if not is_utf8(name):
            return "the file's name is not UTF-8"
        if "\0" in name or len(name) > 4096:
            return "the picture's path is no path"
        try:
            path = _spelled(base, name).resolve()
        except (OSError, RuntimeError):  # links in a circle
            return "the picture cannot be read"
        if not path.is_relative_to(self.root):
            return "the picture lies outside the data set's folder"
        if path not in self._known:
            self._known[path] = self._inspect(path)
        return self._known[path]

    def _inspect(self, path: Path, start: int = 0, length: int | None = None, name: str = "") -> StoredPicture | str:
        from PIL import Image

        self.report.pictures += 1
        if not is_utf8(str(path)):
            return "the file's name is not UTF-8"
        try:
            if length is None and not path.is_file():
                return "the picture does not exist"
            if (path.stat().st_size if length is None else length) > MAX_FILE:
                return f"the picture's file is larger than {MAX_FILE // 2**20} MB"
            data = read_part(path, start, length) if self.check else None
            source: Any = io.BytesIO(data) if data is not None else path
            if data is None and length is not None:
                source = io.BytesIO(read_part(path, start, length))
            with Image.open(source, formats=formats()) as file:
                width, height = file.size
                check_pixels(width, height)
                if min(width, height) < MIN_SIDE:
                    return f"the picture is smaller than {MIN_SIDE} pixels"
                if self.check:
                    file.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))  # of a JPEG, decodes less
                    upright(file)
                turned = _orientation(file, self.check) in (5, 6, 7, 8)
        except (PictureError, Image.DecompressionBombError):
            return "the picture is too large"
        except DAMAGED:
            return "the picture is damaged, or no picture"
        except MemoryError:
            return "the picture is too large"
        size = (height, width) if turned else (width, height)
        return StoredPicture(path, size, digest_of(data) if data is not None else "", start, length, name)


def _orientation(file: Image.Image, loaded: bool) -> int:
    """Return how EXIF says that a picture is turned; of a PNG that is not loaded, only what stands in front."""
    if file.format == "PNG" and not loaded and "exif" not in file.info:
        return 1  # Pillow would decode it all to look behind the pixels
    return file.getexif().get(0x0112, 1)


@cache
def formats() -> tuple[str, ...]:
    """Return the formats of pictures that are read, as far as this Pillow knows them."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _spelled(base: Path, name: str) -> Path:
    """Return the path of a file as this system spells it: some write backslashes, or compose letters otherwise."""
    spellings = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")), name.replace("\\", "/")]
    paths = [base / spelling for spelling in dict.fromkeys(spellings)]
    return next((path for path in paths if os.path.exists(path)), paths[0])


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
