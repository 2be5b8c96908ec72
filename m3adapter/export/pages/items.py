"""The items on a page, in the order in which they are drawn; units are pixels from the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...conversation.segments import Picture

if TYPE_CHECKING:
    from .text import Run

Colour = tuple[int, int, int]
Point = tuple[float, float]

PAPER: Colour = (251, 247, 238)
INK: Colour = (44, 38, 32)
FAINT: Colour = (119, 107, 93)
ACCENT: Colour = (154, 79, 43)
WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Photo:
    """A picture scaled into a box, with rounded corners and, if `border` is not 0, a border of ink of that width."""

    picture: Picture
    x: float
    y: float
    width: float
    height: float
    radius: float
    border: float


@dataclass(frozen=True)
class Words:
    """A run of text whose left end is at (x, y), where y is its baseline."""

    run: Run
    x: float
    y: float
    size: int
    colour: Colour = INK


@dataclass(frozen=True)
class Shape:
    """A closed polygon with a fill and, if `outline` is not 0, an outline of ink of that width."""

    points: tuple[Point, ...]
    fill: Colour
    outline: float


Item = Photo | Words | Shape


@dataclass(frozen=True)
class Book:
    """Pages of one size.

    Attributes:
        title: Of the book.
        width: Of a page, in pixels.
        height: Of a page, in pixels.
        pages: The items of each page.
        notes: What the reader should know about the pages, a sentence each.
    """

    title: str
    width: int
    height: int
    pages: tuple[tuple[Item, ...], ...]
    notes: tuple[str, ...]
