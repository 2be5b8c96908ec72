"""The characters of a font file, read from its `cmap` table (formats 4 and 12 of the OpenType specification)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_OUTLINES = (b"glyf", b"CFF ", b"CFF2")  # fonts of bitmaps alone, such as colour emoji, cannot be scaled


@lru_cache(maxsize=256)
def characters(path: Path) -> frozenset[int]:
    """Return the code points of a font with outlines; of a collection, those of its first font.

    A file that is not such a font has none.
    """
    try:
        with path.open("rb") as file:
            return frozenset(_read(file))
    except (OSError, struct.error, IndexError):
        return frozenset()


def _read(file: BinaryIO) -> Iterator[int]:
    (start,) = struct.unpack(">12xL", file.read(16)) if file.read(4) == b"ttcf" and not file.seek(0) else (0,)
    file.seek(start + 4)
    (count,) = struct.unpack(">H6x", file.read(8))
    tables = {}
    for _ in range(count):
        tag, offset, length = struct.unpack(">4s4xLL", file.read(16))
        tables[tag] = (offset, length)
    if b"cmap" not in tables or not any(tag in tables for tag in _OUTLINES):
        return
    offset, length = tables[b"cmap"]
    file.seek(offset)
    data = file.read(length)
    (count,) = struct.unpack_from(">H", data, 2)
    subtables = {}
    for index in range(count):
        platform, encoding, at = struct.unpack_from(">HHL", data, 4 + 8 * index)
        if platform == 0 or (platform == 3 and encoding in (1, 10)):
            subtables[struct.unpack_from(">H", data, at)[0]] = at
    if 12 in subtables:
        yield from _format_12(data, subtables[12])
    elif 4 in subtables:
        yield from _format_4(data, subtables[4])


def _format_12(data: bytes, at: int) -> Iterator[int]:
    (groups,) = struct.unpack_from(">L", data, at + 12)
    for index in range(groups):
        first, last, glyph = struct.unpack_from(">LLL", data, at + 16 + 12 * index)
        yield from range(first + (glyph == 0), min(last, 0x10FFFF) + 1)


def _format_4(data: bytes, at: int) -> Iterator[int]:
    (double,) = struct.unpack_from(">H", data, at + 6)
    ends, starts = at + 14, at + 16 + double
    for index in range(0, double, 2):
        (last,) = struct.unpack_from(">H", data, ends + index)
        first, delta, offset = (struct.unpack_from(">H", data, starts + k * double + index)[0] for k in range(3))
        for code in range(first, min(last, 0xFFFE) + 1):
            glyph = code
            if offset:
                (glyph,) = struct.unpack_from(">H", data, starts + 2 * double + index + offset + 2 * (code - first))
            if (glyph + delta) & 0xFFFF and (glyph or not offset):
                yield code
