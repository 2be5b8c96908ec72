"""The layouts by name: how pictures are arranged on a page, and the measures of the page."""

from __future__ import annotations

from dataclasses import dataclass

MIN_WIDTH, MAX_WIDTH = 512, 4096  # of a page, in pixels


@dataclass(frozen=True)
class Style:
    """The measures of a layout; all lengths are fractions of the width of the page."""

    shares: tuple[
        tuple[float, ...], ...
    ]  # widths of the cells, row by row, as fractions of the width between the margins
    margin: float
    gutter: float
    size: float  # of the type
    shortest: float  # height of a page
    tallest: float  # height of a page
    leading: float = 1.42  # in units of the type size
    radius: float = 0.0
    border: float = 0.002
    centred: bool = False
    cover: bool = False


LAYOUTS: dict[str, Style] = {
    "grid": Style(((0.5, 0.5), (0.5, 0.5)), 0.055, 0.03, 0.0195, 0.5, 1.4142),
    "strip": Style(((0.25, 0.25, 0.25, 0.25),), 0.03, 0.016, 0.0125, 0.2, 1.0, border=0.0014),
    "large and small": Style(((0.78,), (1 / 3, 1 / 3, 1 / 3)), 0.055, 0.03, 0.0185, 0.8, 1.4142),
    "one per page": Style(((1.0,),), 0.1, 0.045, 0.031, 1.3, 1.3, 1.5, 0.02, 0.0, centred=True, cover=True),
}
