"""Fonts that are installed: one that is liked for a kind of text, and others for the characters that it lacks."""

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

# File names without ending, regular and bold, best first.
_LIKED: dict[str, tuple[tuple[str, str], ...]] = {
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
# For the scripts that a font for Latin text lacks; after these, any font that is installed.
_OTHERS = (
    *("NotoSerifCJK-Regular", "NotoSansCJK-Regular", "SourceHanSans-Regular", "msyh", "YuGothM", "meiryo", "malgun"),
    *("PingFang", "Hiragino Sans GB", "AppleSDGothicNeo", "Arial Unicode", "wqy-microhei", "DroidSansFallbackFull"),
    *("NotoNaskhArabic-Regular", "NotoSansArabic-Regular", "Amiri-Regular", "GeezaPro", "NotoSerifHebrew-Regular"),
    *("NotoSansHebrew-Regular", "ArialHB", "tahoma", "NotoSansDevanagari-Regular", "Nirmala", "NotoSansThai-Regular"),
    *("LeelawUI", "seguisym", "NotoSansSymbols2-Regular", "Apple Symbols"),
)
_LIKED_ANYWHERE = tuple(regular for family in ("serif", "sans serif") for regular, _ in _LIKED[family])


@dataclass(frozen=True)
class Face:
    """A font file; of a collection, its first font."""

    path: Path

    def has(self, character: str) -> bool:
        """Whether it can draw the character."""
        return ord(character) in characters(self.path)


class Typeface:
    """A font for text, regular and bold, and the fonts that stand in for characters that it lacks."""

    def __init__(self, regular: Face, bold: Face, others: Sequence[Path]) -> None:
        self.regular, self.bold = regular, bold
        self._others = [Face(path) for path in others]
        self._found: dict[tuple[str, bool], Face | None] = {}

    def face(self, character: str, bold: bool = False) -> Face | None:
        """The first font that has the character, or None."""
        key = (character, bold)
        if key not in self._found:
            first = (self.bold, self.regular) if bold else (self.regular,)
            self._found[key] = next((face for face in (*first, *self._others) if face.has(character)), None)
        return self._found[key]


def typeface(font: str | Path = "serif", more: Sequence[Path] = ()) -> Typeface:
    """The font of a kind in FONTS as far as one is installed, or of a file; `more` files come before installed ones.

    Where no comic font is installed, the sans serif one stands in. Raises ValueError, one sentence: a file that is no
    font with outlines, or no font on this machine at all.
    """
    installed = _installed()
    by_name = {path.stem.lower(): path for path in reversed(installed)}  # of equal names, the first counts
    likely = [by_name[name.lower()] for name in (*_LIKED_ANYWHERE, *_OTHERS) if name.lower() in by_name]
    others = list(dict.fromkeys([*more, *likely, *installed]))
    if isinstance(font, Path):
        if not characters(font):
            raise ValueError(f"The font {font.name} cannot be used: choose a TrueType or OpenType font with outlines.")
        return Typeface(Face(font), Face(font), others)
    if font not in FONTS:
        raise ValueError(f"font is {shown(font)}: choose one of {', '.join(FONTS)}.")
    for kind in (font, "sans serif", "serif"):
        for regular, bold in _LIKED[kind]:
            pair = [by_name.get(name.lower()) for name in (regular, bold)]
            if all(path and characters(path) for path in pair):
                return Typeface(Face(pair[0]), Face(pair[1]), others)
    for path in others:
        if characters(path) >= set(range(ord("A"), ord("Z"))):
            return Typeface(Face(path), Face(path), others)
    raise ValueError("No font for text is installed on this machine: install one, for example DejaVu.")


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    """The font files of this machine, the user's own first."""
    found = []
    for root in _folders():
        for folder, folders, files in os.walk(root):
            folders.sort()
            found += [Path(folder, name) for name in sorted(files) if name.lower().endswith(FILES)]
    return tuple(found)


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
