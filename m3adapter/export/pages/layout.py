"""The arrangement of pictures and words on comic and storybook pages; both shrink until all words fit."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...conversation.conversation import Conversation
from ...conversation.displayed import one_line, story_title
from ...values import shown
from .balloons import balloons
from .fonts import typeface
from .items import ACCENT, FAINT, INK, Book, Colour, Item, Photo, Shape, Words
from .panels import Panel, by_page, panels_of, speeches, without_speeches
from .styles import LAYOUTS, MAX_WIDTH, MIN_WIDTH, Style
from .text import Line, Typesetter

# Factors of the type size and of the picture size, tried until all words fit: pictures shrink first.
_TRIES = sorted(
    itertools.product((1.0, 0.94, 0.88, 0.82), (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)),
    key=lambda pair: (1 - pair[0]) * 1.5 + (1 - pair[1]),
)


@dataclass(frozen=True)
class _Cell:
    """A picture and the lines below it; `rest` is the text that did not fit."""

    panel: Panel
    lines: tuple[Line, ...]
    rest: str = ""


def lay_out(
    conversation: Conversation,
    *,
    layout: str = "grid",
    width: int = 1600,
    words: str = "below",
    title: str | None = None,
    font: str | Path = "serif",
    more_fonts: Sequence[Path] = (),
) -> tuple[Book, Typesetter]:
    """Lay out the pictures and words of a conversation on pages.

    Text that does not fit below its picture continues on pages of text. On one machine, equal arguments give equal
    pages.

    Args:
        conversation: A story with at least one painted picture.
        layout: A name in LAYOUTS.
        width: Of a page, in pixels, from 512 to 4096.
        words: "below" prints the text below the pictures; "balloons" does so too, but puts speeches into balloons as
            far as they fit; "captions" prints the captions that the pictures were painted from; "none" prints nothing.
        title: On the first page; None takes the first sentence of the first message, "" omits it.
        font: A name in `fonts.FONTS`, or a font file.
        more_fonts: Font files for characters that `font` lacks, which come before installed ones.

    Returns:
        The pages, and the typesetter to draw them with.

    Raises:
        ValueError: An argument is not possible, or no picture is painted.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {shown(layout)}: choose one of {', '.join(LAYOUTS)}.")
    if type(width) is not int or not MIN_WIDTH <= width <= MAX_WIDTH:
        raise ValueError(
            f"The page's width is {shown(width)}: give a whole number of pixels from {MIN_WIDTH} to {MAX_WIDTH}."
        )
    panels = panels_of(conversation, words)
    typesetter = Typesetter(typeface(font, more_fonts))
    title = story_title(conversation) if title is None else one_line(title)
    pages = _Pages(LAYOUTS[layout], width, panels, words == "balloons", title, typesetter)
    return Book(title, width, *pages.composed(), typesetter.notes()), typesetter


class _Pages:
    """The pages of one book while they are being laid out."""

    def __init__(
        self, style: Style, width: int, panels: list[Panel], speaking: bool, title: str, typesetter: Typesetter
    ) -> None:
        self.style, self.width, self.speaking, self.typesetter = style, width, speaking, typesetter
        self.margin, self.gutter = style.margin * width, style.gutter * width
        self.inner = width - 2 * self.margin
        self.most = style.tallest * width
        self.panels, self.title = panels, title
        self.chunks = list(by_page(panels, sum(map(len, style.shares))))
        ratios = [panel.picture.size[0] / panel.picture.size[1] for panel in panels]
        self.ratio = min(2.0, max(0.5, statistics.median(ratios)))
        self.size, self.scale = 1, 1.0
        # By text, type size and width; they do not depend on the size of the pictures.
        self.lines: dict[tuple[str, int, float], tuple[Line, ...]] = {}

    def composed(self) -> tuple[int, tuple[tuple[Item, ...], ...]]:
        """Return the height of the pages and their items."""
        content = self._tried(_TRIES[-1])
        if self._tallest(content) > self.most:
            content = [self._cut(rows, index == 0) for index, rows in enumerate(content)]
        else:
            tries = map(self._tried, _TRIES)
            content = next(content for content in tries if self._tallest(content) <= self.most)
        height = round(min(self.most, max(self._tallest(content), self.style.shortest * self.width)))
        top = self.margin + max(0.0, height - self._tallest(content)) / 2
        pages = [self._cover(height)] if self.style.cover and self.title else []
        unnumbered = len(pages)
        for index, rows in enumerate(content):
            pages.append(self._page(rows, top, index == 0))
            rest = "\n\n".join(cell.rest for row in rows for cell in row if cell.rest)
            pages += self._text_pages(rest, height)
        if len(pages) - unnumbered > 1:
            for number, page in enumerate(pages[unnumbered:], 1):
                page += self._centred(str(number), round(0.85 * self.size), height - 0.5 * self.margin, FAINT)
        return height, tuple(map(tuple, pages))

    # Rows and cells

    def _tried(self, factors: tuple[float, float]) -> list[list[list[_Cell]]]:
        """Return the rows of all pages with the type and the pictures scaled by two factors."""
        factor, self.scale = factors
        self.size = max(8, round(self.style.size * self.width * factor))
        return [self._rows(chunk) for chunk in self.chunks]

    def _rows(self, chunk: list[Panel]) -> list[list[_Cell]]:
        rows, panels = [], iter(chunk)
        for shares in self._shares(len(chunk)):
            rows.append([self._cell(panel, share) for share, panel in zip(shares, panels, strict=False)])
        return rows

    def _cell(self, panel: Panel, share: float) -> _Cell:
        text = panel.text
        if self.speaking:
            text = without_speeches(text, len(self._balloons(panel, self._photo(panel, share, 0, 0))))
        key = (text, self.size, self._cell_width(share))
        if key not in self.lines:
            setting = self.typesetter.balanced if self.style.centred else self.typesetter.lines
            self.lines[key] = tuple(setting(*key))
        return _Cell(Panel(panel.picture, text), self.lines[key])

    def _balloons(self, panel: Panel, photo: Photo) -> list[list[Item]]:
        return balloons(speeches(panel.text), photo, self.typesetter, self.size)

    def _shares(self, count: int) -> list[tuple[float, ...]]:
        """Return the widths of the cells on a page of `count` pictures, row by row."""
        rows = []
        for shares in self.style.shares:
            if count > 0:
                taken = shares[: min(count, len(shares))]
                # If a book has fewer pictures than a row has cells, they share the whole width.
                rows.append(tuple(1 / len(taken) for _ in taken) if len(self.panels) < len(shares) else taken)
            count -= len(shares)
        return rows

    def _cell_width(self, share: float) -> float:
        columns = round(1 / share) if share < 0.75 else 1
        return self.inner * share if columns == 1 else (self.inner - (columns - 1) * self.gutter) / columns

    def _photo(self, panel: Panel, share: float, x: float, y: float) -> Photo:
        """Place a picture in the middle of its box, whose upper left corner is (x, y)."""
        box_width, box_height = self._box(share)
        width, height = panel.picture.size
        scale = min(box_width / width, box_height / height)
        wide, high = width * scale, height * scale
        left, top = x + (self._cell_width(share) - wide) / 2, y + (box_height - high) / 2
        border = self.style.border * self.width
        return Photo(panel.picture, left, top, wide, high, self.style.radius * self.width, border)

    def _box(self, share: float) -> tuple[float, float]:
        width = self._cell_width(share)
        # Very tall pictures are limited in height, so that they leave room for words.
        part = share / sum(row[0] for row in self.style.shares) if len(self.style.shares) > 1 else 1.0
        highest = 0.78 * (self.most - 2 * self.margin) * min(1.0, part)
        return width * self.scale, min(width / self.ratio, highest) * self.scale

    # Heights

    def _tallest(self, content: list[list[list[_Cell]]]) -> float:
        return max(self._height(rows, index == 0) for index, rows in enumerate(content))

    def _height(self, rows: list[list[_Cell]], first: bool, with_text: bool = True) -> float:
        """Return the height of a page from edge to edge."""
        shares = self._shares(sum(map(len, rows)))
        boxes = sum(self._box(row[0])[1] for row in shares)
        text = sum(max(self._text_height(cell.lines) for cell in row) for row in rows) if with_text else 0.0
        title = self._title_height() if first and not self.style.cover else 0.0
        return 2 * self.margin + title + boxes + text + (len(rows) - 1) * self.gutter

    def _text_height(self, lines: Sequence[Line]) -> float:
        if not lines:
            return 0.0
        return (0.55 + self.style.leading * (len(lines) + 0.4 * sum(line.opens for line in lines))) * self.size

    def _title_lines(self) -> list[Line]:
        return self.typesetter.balanced(_shortened(self.title), self._title_size(), self.inner * 0.9, bold=True)

    def _title_size(self) -> int:
        return round(self.style.size * self.width * (2.1 if self.style.cover else 1.9))

    def _title_height(self) -> float:
        lines = len(self._title_lines())
        return (1.22 * lines + 0.6) * self._title_size() if lines else 0.0

    # Text that does not fit

    def _cut(self, rows: list[list[_Cell]], first: bool) -> list[list[_Cell]]:
        """Cut the texts to as many lines as fit and end them with an ellipsis; the cells keep the rest."""
        room = (self.most - self._height(rows, first, with_text=False)) / len(rows)
        lines = max(2, int((room / self.size - 0.55) / self.style.leading))
        return [[self._cut_cell(cell, lines) for cell in row] for row in rows]

    def _cut_cell(self, cell: _Cell, most: int) -> _Cell:
        if len(cell.lines) <= most and self._text_height(cell.lines) <= self._text_height(cell.lines[:1]) * most:
            return cell
        kept = cell.lines[: most - 1]
        dots = self.typesetter.lines("…", self.size, self.inner)
        flat = tuple(Line(line.runs, line.width, line.end, line.rtl, opens=False) for line in kept)
        return _Cell(cell.panel, (*flat, *dots), "… " + cell.panel.text[kept[-1].end :].strip())

    def _text_pages(self, text: str, height: int) -> Iterator[list[Item]]:
        width = min(self.inner, 36 * self.size)
        lines = self.typesetter.lines(text, self.size, width) if text else []
        most = max(1, int((height - 2 * self.margin) / (self.style.leading * self.size) / 1.05))
        for start in range(0, len(lines), most):
            part = lines[start : start + most]
            yield self._set(part, (self.width - width) / 2, self.margin - 0.55 * self.size, width, centred=False)

    # Items

    def _page(self, rows: list[list[_Cell]], top: float, first: bool) -> list[Item]:
        items: list[Item] = []
        y = top
        if first and not self.style.cover and self.title:
            items += self._heading(y)
            y += self._title_height()
        for row, shares in zip(rows, self._shares(sum(map(len, rows))), strict=True):
            widths = [self._cell_width(share) for share in shares]
            x = (self.width - sum(widths) - (len(row) - 1) * self.gutter) / 2
            below = y + self._box(shares[0])[1]
            for cell, share, width in zip(row, shares, widths, strict=True):
                photo = self._photo(cell.panel, share, x, y)
                items.append(photo)
                # Words are aligned with the left edge of their picture if they fit beside it.
                widest = max((line.width for line in cell.lines), default=0.0)
                indent = min(photo.x - x, width - widest)
                items += self._set(cell.lines, x + indent, below, width - 2 * indent, self.style.centred)
                x += width + self.gutter
            y = below + max(self._text_height(cell.lines) for cell in row) + self.gutter
        return [*items, *self._said(items)]

    def _said(self, items: list[Item]) -> Iterator[Item]:
        if self.speaking:
            by_picture = {id(panel.picture): panel for panel in self.panels}
            for photo in [item for item in items if isinstance(item, Photo)]:
                yield from itertools.chain(*self._balloons(by_picture[id(photo.picture)], photo))

    def _heading(self, y: float) -> Iterator[Item]:
        size = self._title_size()
        for index, line in enumerate(self._title_lines()):
            base = y + (0.85 + 1.22 * index) * size
            yield from _words(line, (self.width - line.width) / 2, base, size, INK)

    def _cover(self, height: int) -> list[Item]:
        """Return a page with the title, a rule, and the first picture."""
        size, lines = self._title_size(), self._title_lines()
        photo = self._photo(self.panels[0], 1.0, self.margin, 0)
        reduced = 0.72
        wide, high = photo.width * reduced, photo.height * reduced
        block = 1.25 * size * len(lines) + 2.2 * size + high
        y = (height - block) / 2
        items: list[Item] = []
        for index, line in enumerate(lines):
            items += _words(line, (self.width - line.width) / 2, y + (0.85 + 1.25 * index) * size, size, INK)
        y += 1.25 * size * len(lines) + 0.8 * size
        left, right, thick = self.width * 0.46, self.width * 0.54, 0.0015 * self.width
        items.append(Shape(((left, y), (right, y), (right, y + thick), (left, y + thick)), ACCENT, 0))
        y += 1.4 * size
        return [*items, Photo(photo.picture, (self.width - wide) / 2, y, wide, high, photo.radius, photo.border)]

    def _set(self, lines: Sequence[Line], x: float, y: float, width: float, centred: bool) -> list[Item]:
        """Set lines below y, at the side where they begin or in the middle."""
        items: list[Item] = []
        y += 0.55 * self.size
        for line in lines:
            y += self.style.leading * self.size * (1 + 0.4 * line.opens)
            left = x + (width - line.width) * (0.5 if centred else float(line.rtl))
            items += _words(line, left, y - 0.36 * self.size, self.size, INK)
        return items

    def _centred(self, text: str, size: int, y: float, colour: Colour) -> list[Item]:
        (line,) = self.typesetter.lines(text, size, self.width)
        return list(_words(line, (self.width - line.width) / 2, y, size, colour))


def _words(line: Line, x: float, y: float, size: int, colour: Colour) -> Iterator[Item]:
    for run in line.runs:
        yield Words(run, x + run.x, y, size, colour)


def _shortened(title: str, most: int = 120) -> str:
    return title if len(title) <= most else title[: most - 1].rstrip() + "…"
