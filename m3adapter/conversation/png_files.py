"""PNGs in the folders of conversations, read only when they are viewed.

A loaded conversation stays the same, whatever happens to its folder. Code that replaces or removes a folder announces
it here (`replacing`, `kept_in_memory`): files that are still needed are followed to their new place, or read. No file
stays open, because some systems do not let open files be replaced.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from .pictures import PictureError, png_size, read_picture

if TYPE_CHECKING:
    from torch import Tensor

_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the last chunk of a PNG
_HEAD, _TAIL = 33, 64  # the first chunk; the last ones, in which there are checksums of the pixels

_lock = threading.RLock()  # a folder is not replaced while one of its files is being read
# By folder and id, because files are compared by their bytes, which should not be read for this.
_live: defaultdict[Path, WeakValueDictionary[int, PngFile]] = defaultdict(WeakValueDictionary)


class PngFile:
    """A PNG in a file, which must not be changed, only replaced.

    Args:
        path: The file.

    Attributes:
        size: Width and height in pixels; None if only decoding tells.

    Raises:
        PictureError: The file is missing, not a PNG, not whole, or too large; the message is one sentence.
    """

    def __init__(self, path: Path) -> None:
        self.size = png_size(path)
        self._name = path.name
        self._path = path
        self._data: bytes | None = None
        with _lock:
            self._mark = _mark(path)
            if self._mark is None or not self._mark[2].endswith(_END):
                read_picture(path, formats=("PNG",))  # raises PictureError if something is wrong
            _live[path.parent][id(self)] = self

    def read(self) -> bytes:
        """Return the bytes; raise PictureError if the file has been removed or changed since."""
        with _lock:
            if self._data is not None:
                return self._data
            try:
                return self._found().read_bytes()
            except OSError as error:
                raise PictureError(f"The picture {self._name} cannot be read: {error.strerror}.") from error

    def decode(self) -> Tensor:
        """Return the picture [H, W, 3]; raise PictureError if it cannot be read any more."""
        return read_picture(self.read(), formats=("PNG",), name=self._name)

    def __eq__(self, other: object) -> bool:
        """Compare the bytes with those of another file, or with bytes."""
        return is_same(self, other) if isinstance(other, (bytes, PngFile)) else NotImplemented

    def __hash__(self) -> int:
        """Hash as the bytes do."""
        return hash(self.read())

    @property
    def is_whole(self) -> bool:
        """Whether the bytes can still be read."""
        with _lock:
            return self._data is not None or self._find() is not None

    def link(self, folder: Path, path: Path) -> str | None:
        """Give the file another name, and return its own; None if it is not in `folder` or cannot be linked."""
        with _lock:
            found = None if self._data is not None else self._find()
            if found is None or found.parent != folder:
                return None
            try:
                os.link(found, path)
            except OSError:  # not on every file system
                return None
            return found.name

    @property
    def path(self) -> Path | None:
        """Where the file lies; None if its bytes are in memory."""
        return None if self._data is not None else self._path

    def _found(self) -> Path:
        found = self._find()
        if found is None:
            raise PictureError(
                f"The picture {self._name} was removed or changed by another program: load the conversation again."
            )
        return found

    def _find(self) -> Path | None:
        """Return the file: where it was or, if another process has saved the conversation, by another name there."""
        if _mark(self._path) == self._mark:
            return self._path
        folder = self._path.parent
        backed_up = folder.name.removeprefix(".").removesuffix(".previous")
        for place in (folder, folder.with_name(backed_up), backup_of(folder)):
            for other in sorted(place.glob("picture_*.png")):
                if _mark(other) == self._mark:
                    self._move(other)
                    return other
        return None

    def _move(self, path: Path) -> None:
        _live[self._path.parent].pop(id(self), None)
        self._path = path
        _live[path.parent][id(self)] = self

    def _keep(self) -> None:
        """Read the bytes, since the file goes."""
        try:
            self._data = self._found().read_bytes()
        except (OSError, PictureError):  # reported when the picture is viewed
            return
        _live[self._path.parent].pop(id(self), None)


def data_of(png: bytes | PngFile) -> bytes:
    """Return the bytes of a PNG."""
    return png if isinstance(png, bytes) else png.read()


def is_same(one: bytes | PngFile, other: bytes | PngFile) -> bool:
    """Return whether two PNGs have the same bytes."""
    return one is other or (length(one) == length(other) and data_of(one) == data_of(other))


def length(png: bytes | PngFile) -> int:
    """Return how many bytes a PNG has."""
    return len(png) if isinstance(png, bytes) else png._mark[0] if png._mark else -1


def kept_in_memory(folder: Path, contents: Mapping[str, bytes] | None = None) -> None:
    """Read the files of a folder that are still needed, before it is removed or gets other `contents`."""
    with _lock:
        for png in _wanted(folder):
            if contents is None or contents.get(png._path.name) is None or png.read() != contents[png._path.name]:
                png._keep()


@contextmanager
def replacing(source: Path, old: Path, target: Path, names: Mapping[str, str]) -> Iterator[None]:
    """Keep others from reading files of a folder while it is replaced, then follow the files.

    Args:
        source: The folder.
        old: Where its files lie afterwards.
        target: The folder in its place.
        names: The new names of the files that stay, by their old names.
    """
    with _lock:
        yield
        for png in _wanted(source):
            name = names.get(png._path.name)
            png._move(old / png._path.name if name is None else target / name)
            if name is None:
                png._keep()


def backup_of(folder: Path) -> Path:
    """Return where a folder lies while it is being replaced."""
    return folder.with_name(f".{folder.name}.previous")


def _wanted(folder: Path) -> list[PngFile]:
    return list(_live[folder].values()) if folder in _live else []


def _mark(path: Path) -> tuple[int, bytes, bytes] | None:
    """Return what distinguishes a file from others without reading all of it: its length, first and last bytes."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            file.seek(max(0, size - _TAIL))
            return size, head, file.read(_TAIL)
    except OSError:
        return None
