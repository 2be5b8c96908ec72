"""The pictures of a data set: read when they are looked at, all within its folder, each inspected once."""

from __future__ import annotations

import copy
import io
import os
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..conversation.deferred import Deferred
from ..conversation.pictures import (
    DAMAGED,
    PictureError,
    UnknownWhite,
    check_pixels,
    check_white,
    read_picture,
    upright,
)
from ..values import shown
from .files import digest_of, is_utf8, read_part
from .report import Report

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # by Pillow's names; none runs a program
MIN_SIDE = 16  # pixels; what is smaller shows nothing
MAX_FILE = 2**28  # bytes of a picture's file
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
                check_white(file)
                if self.check:
                    file.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))  # of a JPEG, decodes less
                    upright(file)
                turned = _orientation(file, self.check) in (5, 6, 7, 8)
        except UnknownWhite:
            return "the picture has 32-bit values, of which none is known as white: save it with 8 or 16 bits"
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
    if file.format == "TIFF" and not loaded:
        tags = file.tag_v2  # type: ignore[attr-defined]
        if file.size != (tags.get(0x0100), tags.get(0x0101)):
            return 1  # Pillow has turned the size already
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
