"""Installed fonts: a preferred one for each family, and others for the characters that it lacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...values import shown
from .cmap import characters

FONTS = ("serif", "sans serif", "comic")
FILES = (".ttf", ".otf", ".ttc", ".otc")

# File names without extension, regular and bold, best first.
_PREFERRED: dict[str, tuple[tuple[str, str], ...]] = {
    "serif": (
        ("Georgia", "Georgiab"),
        ("Georgia", "Georgia Bold"),
        ("SourceSerif4-Regular", "SourceSerif4-Bold"),
        ("NotoSerif-Regular", "NotoSerif-Bold"),
        ("DejaVuSerif", "DejaVuSerif-Bold"),
        ("LiberationSerif-Regular", "LiberationSerif-Bold"),
        ("times", "timesbd"),
        ("Times New Roman", "Times New Roman Bold"),
    ),
    "sans serif": (
        ("SourceSans3-Regular", "SourceSans3-Bold"),
        ("NotoSans-Regular", "NotoSans-Bold"),
        ("segoeui", "segoeuib"),
        ("OpenSans-Regular", "OpenSans-Bold"),
        ("DejaVuSans", "DejaVuSans-Bold"),
        ("LiberationSans-Regular", "LiberationSans-Bold"),
        ("arial", "arialbd"),
        ("Arial", "Arial Bold"),
    ),
    "comic": (
        ("ComicNeue-Regular", "ComicNeue-Bold"),
        ("ComicRelief-Regular", "ComicRelief-Bold"),
        ("comic", "comicbd"),
        ("Comic Sans MS", "Comic Sans MS Bold"),
    ),
}
# For scripts that a font for Latin text lacks; any other installed font follows.
_OTHERS = (
    *("NotoSerifCJK-Regular", "NotoSansCJK-Regular", "SourceHanSans-Regular", "msyh", "YuGothM", "meiryo", "malgun"),
    *("PingFang", "Hiragino Sans GB", "AppleSDGothicNeo", "Arial Unicode", "wqy-microhei", "DroidSansFallbackFull"),
    *("NotoNaskhArabic-Regular", "NotoSansArabic-Regular", "Amiri-Regular", "GeezaPro", "NotoSerifHebrew-Regular"),
    *("NotoSansHebrew-Regular", "ArialHB", "tahoma", "NotoSansDevanagari-Regular", "Nirmala", "NotoSansThai-Regular"),
    *("LeelawUI", "seguisym", "NotoSansSymbols2-Regular", "Apple Symbols"),
)
_PREFERRED_ANYWHERE = tuple(regular for family in ("serif", "sans serif") for regular, _ in _PREFERRED[family])


@dataclass(frozen=True)
class Face:
    """A font file, or the first font of a collection."""

    path: Path

    def has(self, character: str) -> bool:
        """Return whether the font can draw a character."""
        return ord(character) in characters(self.path)


class Typeface:
    """A regular and a bold font for text, and fallback fonts for characters that they lack."""

    def __init__(self, regular: Face, bold: Face, others: Sequence[Path]) -> None:
        """Take the fonts for text and the files of the fallback fonts, best first."""
        self.regular, self.bold = regular, bold
        self._others = [Face(path) for path in others]
        self._faces: dict[tuple[str, bool], Face | None] = {}

    def face(self, character: str, bold: bool = False) -> Face | None:
        """Return the first font that has a character, or None."""
        key = (character, bold)
        if key not in self._faces:
            first = (self.bold, self.regular) if bold else (self.regular,)
            self._faces[key] = next((face for face in (*first, *self._others) if face.has(character)), None)
        return self._faces[key]


def typeface(font: str | Path = "serif", more: Sequence[Path] = ()) -> Typeface:
    """Choose the fonts for a text.

    Args:
        font: A family in FONTS, or a font file. If no font of a family is installed, another family is used.
        more: Font files for characters that `font` lacks, which come before installed ones.

    Raises:
        ValueError: The family is not in FONTS, the file is not a font with outlines, or no font is installed.
    """
    installed = _installed()
    by_name = {path.stem.lower(): path for path in reversed(installed)}  # the first of equal names is used
    likely = [by_name[name.lower()] for name in (*_PREFERRED_ANYWHERE, *_OTHERS) if name.lower() in by_name]
    others = list(dict.fromkeys([*more, *likely, *installed]))
    if isinstance(font, Path):
        if not characters(font):
            raise ValueError(f"The font {font.name} cannot be used: choose a TrueType or OpenType font with outlines.")
        return Typeface(Face(font), Face(font), others)
    if font not in FONTS:
        raise ValueError(f"font is {shown(font)}: choose one of {', '.join(FONTS)}.")
    for family in (font, "sans serif", "serif"):
        for names in _PREFERRED[family]:
            regular, bold = (by_name.get(name.lower()) for name in names)
            if regular and bold and characters(regular) and characters(bold):
                return Typeface(Face(regular), Face(bold), others)
    for path in others:
        if characters(path) >= set(range(ord("A"), ord("Z"))):
            return Typeface(Face(path), Face(path), others)
    raise ValueError("No font for text is installed on this machine: install one, for example DejaVu.")


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    """Return the font files of this machine, those of the user first."""
    paths: list[Path] = []
    for root in _folders():
        for folder, folders, files in os.walk(root):
            folders.sort()
            paths += [Path(folder, name) for name in sorted(files) if name.lower().endswith(FILES)]
    return tuple(paths)


def _folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("LOCALAPPDATA", home), "Microsoft", "Windows", "Fonts")
        yield Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
    elif sys.platform == "darwin":
        yield from (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    else:
        yield Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share", "fonts")
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        yield from (Path(folder, "fonts") for folder in shared.split(os.pathsep) if folder)
