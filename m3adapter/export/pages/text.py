"""Typesetting: breaking text into lines of runs, each of one font and direction."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ImageFont, features

from .bidi import is_rtl, levels, visual
from .fonts import Face, Typeface

SHAPES = features.check("raqm")  # without it, Pillow neither joins Arabic letters nor reorders text
_IGNORABLE = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u061c\u2060\ufeff") | {
    chr(c) for c in range(0xFE00, 0xFE10)
}
_JOINED = re.compile("[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u17ff]")
_IDEOGRAPH = "\u2e80-\u2fff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
# A line may not begin with closing punctuation, nor end with an opening mark (some of the rules of JIS X 4051).
_CLOSING = "、。，．・：；？！」』）】〕》〉”’…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.:;?!)]}"
_OPENING = "「『（【〔《〈“‘"
_TOKEN = re.compile(
    rf"[{_OPENING}]*[{_IDEOGRAPH}][{re.escape(_CLOSING)}]*\s*|[^\s{_IDEOGRAPH}]*?[-–—](?=\w)|[^\s{_IDEOGRAPH}]+\s*|\s+"
)
_LONGEST = 400  # characters of a word that are considered for one line


@dataclass(frozen=True)
class Run:
    """A piece of a line in one font and direction; `x` is the distance from the left end of the line in pixels."""

    text: str
    face: Face
    x: float
    rtl: bool


@dataclass(frozen=True)
class Line:
    """A line of text.

    Attributes:
        runs: From left to right.
        width: In pixels.
        end: Index in the text of the first character after the line.
        rtl: Whether its paragraph runs from right to left.
        opens: Whether a new paragraph begins with it.
    """

    runs: tuple[Run, ...]
    width: float
    end: int
    rtl: bool
    opens: bool


class Typesetter:
    """Sets text in a typeface.

    Attributes:
        typeface: The fonts.
        missing: Characters that no font has, in the order of their appearance; they are left out.
        unjoined: Whether letters that should be joined could not be, because Pillow lacks Raqm.
    """

    def __init__(self, typeface: Typeface) -> None:
        """Begin without any text."""
        self.typeface = typeface
        self.missing: dict[str, None] = {}
        self.unjoined = False
        self._fonts: dict[tuple[Face, int], ImageFont.FreeTypeFont] = {}
        self._widths: dict[tuple[str, int, bool], float] = {}

    def notes(self) -> tuple[str, ...]:
        """Return what the reader should know about the text set so far, a sentence each."""
        notes = []
        if missing := "".join(self.missing):
            listed = missing[:12] + (f" and {len(missing) - 12} more" if len(missing) > 12 else "")
            notes.append(
                f"No font here has the characters {listed}, and the pages leave them out: install a font that has "
                "them, for example of the Noto family, or put one into ComfyUI's folder models/fonts."
            )
        if self.unjoined:
            notes.append(
                "Pillow lacks the libraries Raqm and FriBiDi here, so letters are not joined: install FriBiDi."
            )
        return tuple(notes)

    def font(self, face: Face, size: int) -> ImageFont.FreeTypeFont:
        """Return Pillow's font of a size in pixels."""
        if (face, size) not in self._fonts:
            self._fonts[face, size] = ImageFont.truetype(str(face.path), size)
        return self._fonts[face, size]

    def lines(self, text: str, size: int, width: float, bold: bool = False) -> list[Line]:
        """Break text into lines.

        A newline ends a line, and empty lines separate paragraphs.

        Args:
            text: What to set.
            size: Of the type, in pixels.
            width: Of the longest line possible, in pixels.
            bold: Whether to use the bold font.
        """
        lines: list[Line] = []
        start, opens = 0, False
        for paragraph in text.split("\n"):
            if paragraph.strip():
                lines += self._paragraph(paragraph.replace("\t", " "), start, size, width, bold, opens and bool(lines))
                opens = False
            else:
                opens = True
            start += len(paragraph) + 1
        return lines

    def balanced(self, text: str, size: int, width: float, bold: bool = False) -> list[Line]:
        """Break text into as many lines as `lines` does, of about equal length unless there are many."""
        lines = self.lines(text, size, width, bold)
        if not 1 < len(lines) <= 6:
            return lines
        low, high = max(width / 2, self.widest_word(text, size, bold)), width
        while high - low > size / 4:
            middle = (low + high) / 2
            tried = self.lines(text, size, middle, bold)
            low, high = (low, middle) if len(tried) == len(lines) else (middle, high)
        return self.lines(text, size, high, bold)

    def widest_word(self, text: str, size: int, bold: bool = False) -> float:
        """Return the width of the widest word in pixels; of a very long word, only the beginning counts."""
        words = (match.group().strip()[:_LONGEST] for match in _TOKEN.finditer(text))
        return max((self._width(word, size, bold) for word in words), default=0.0)

    def _paragraph(self, text: str, start: int, size: int, width: float, bold: bool, opens: bool) -> Iterator[Line]:
        rtl = is_rtl(text)
        level = levels(text, rtl)
        for first, last in self._breaks(text, size, width, bold):
            visible = len(text[first:last].rstrip())
            runs, x = [], 0.0
            for run in self._runs(text[first : first + visible], level[first : first + visible], bold):
                runs.append(Run(run.text, run.face, x, run.rtl))
                x += self._length(run.text, run.face, size, run.rtl)
            yield Line(tuple(runs), x, start + last, rtl, opens)
            opens = False

    def _breaks(self, text: str, size: int, width: float, bold: bool) -> Iterator[tuple[int, int]]:
        """Yield the lines of a paragraph as (start, end)."""
        first = end = 0
        used = 0.0
        for match in _TOKEN.finditer(text):
            token, at = match.group(), match.start()
            if not token.strip():
                used += self._width(token, size, bold)
                end = match.end()
                continue
            if used + self._width(token.rstrip(), size, bold) > width and end > first:
                yield first, end
                first, used = end, 0.0
            while self._width(token.rstrip()[:_LONGEST], size, bold) > width:
                cut = self._longest(token, size, width, bold)
                yield at, at + cut
                token, at = token[cut:], at + cut
                first = at
            used += self._width(token, size, bold)
            end = match.end()
        if end > first:
            yield first, end

    def _longest(self, word: str, size: int, width: float, bold: bool) -> int:
        """Return how many characters of a word that is too wide fit into a line; at least one."""
        low, high = 1, min(len(word), _LONGEST)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._width(word[:middle], size, bold) <= width else (low, middle - 1)
        while low < len(word) and unicodedata.category(word[low]).startswith("M") and low > 1:
            low -= 1
        return low

    def _width(self, text: str, size: int, bold: bool) -> float:
        key = (text, size, bold)
        if key not in self._widths:
            runs = self._runs(text, levels(text, is_rtl(text)), bold)
            self._widths[key] = sum(self._length(run.text, run.face, size, run.rtl) for run in runs)
        return self._widths[key]

    def _length(self, text: str, face: Face, size: int, rtl: bool) -> float:
        return self.font(face, size).getlength(*as_drawn(text, rtl))

    def _runs(self, text: str, level: list[int], bold: bool) -> Iterator[Run]:
        """Yield the runs of a line from left to right."""
        for start, end, rtl in visual(level):
            pieces: list[tuple[str, Face]] = []
            lost = False
            for character in text[start:end]:
                face = self._face(character, pieces[-1][1] if pieces else None, bold)
                # Marks on a character that is left out are left out as well.
                lost = face is None or (lost and _depends(character))
                if face is None or lost:
                    continue
                if pieces and pieces[-1][1] == face:
                    pieces[-1] = (pieces[-1][0] + character, face)
                else:
                    pieces.append((character, face))
            for piece, face in reversed(pieces) if rtl else pieces:
                yield Run(piece, face, 0.0, rtl)

    def _face(self, character: str, current: Face | None, bold: bool) -> Face | None:
        joins = _depends(character) or character.isspace()
        if joins and current is not None and current.has(character):
            return current
        face = self.typeface.face(character, bold)
        if face is None and character not in _IGNORABLE:
            self.missing[character] = None
        if not SHAPES and _JOINED.match(character):
            self.unjoined = True
        return face


def _depends(character: str) -> bool:
    return character in _IGNORABLE or unicodedata.category(character).startswith("M")


def as_drawn(text: str, rtl: bool) -> tuple[str, str, str | None]:
    """Return text, mode and direction as Pillow's fonts take them; only Raqm knows directions."""
    if SHAPES:
        return text, "", "rtl" if rtl else "ltr"
    return (text[::-1] if rtl else text), "", None
