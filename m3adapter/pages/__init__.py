"""Comic and storybook pages of a conversation: laid out once, drawn as pictures or as a PDF."""

from .drawing import draw
from .fonts import FONTS
from .items import Book
from .layout import LAYOUTS, MAX_WIDTH, MIN_WIDTH, lay_out
from .panels import WORDS

__all__ = ["FONTS", "LAYOUTS", "MAX_WIDTH", "MIN_WIDTH", "WORDS", "Book", "draw", "lay_out"]
