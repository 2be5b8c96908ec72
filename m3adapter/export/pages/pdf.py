"""Pages as a PDF with embedded fonts, text that can be searched and copied, and descriptions of pictures."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from ...conversation.displayed import GENERATOR, displayed
from .items import INK, PAPER, Book, Photo, Shape, Words

_PACKAGES = {"fpdf": "fpdf2", "uharfbuzz": "uharfbuzz"}
_WIDTH, _LANDSCAPE = 595.28, 841.89  # points: A4's width and height
_FIXED_TIME = datetime(2000, 1, 1, tzinfo=timezone.utc)  # equal books are equal files, whenever they are written


def check_packages() -> None:
    """Check that the packages that write PDFs are installed.

    Raises:
        ValueError: One is missing.
    """
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        names = " and ".join(missing)
        command = f"pip install {' '.join(missing)}"
        raise ValueError(
            f"For PDF, {names} must be installed: run `{command}` in the Python that runs this, or choose another "
            "format."
        )


def pdf_bytes(book: Book, *, language: str = "") -> bytes:
    """Return a book as the bytes of a PDF; equal books give equal bytes.

    Pages are as wide as A4, in landscape if they are wider than high.

    Args:
        book: The pages.
        language: The language tag of the document.

    Raises:
        ValueError: A package that writes PDFs is missing.
    """
    check_packages()
    with _quiet():
        return _written(book, language)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the hundreds of lines that the libraries log about every font.

    Whatever the reader should know about fonts is in the notes of the book.
    """
    loggers = [logging.getLogger(name) for name in ("fontTools", "fpdf")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _written(book: Book, language: str) -> bytes:
    from fpdf import FPDF
    from fpdf.enums import PathPaintRule, StrokeJoinStyle
    from fpdf.prefs import ViewerPreferences

    from .drawing import photo_image

    scale = (_WIDTH if book.height >= book.width else _LANDSCAPE) / book.width
    pdf = FPDF(unit="pt", format=(book.width * scale, book.height * scale))
    pdf.set_title(book.title)
    pdf.set_creator(GENERATOR)
    pdf.set_producer("fpdf2")
    pdf.set_creation_date(_FIXED_TIME)
    pdf.set_lang(language)
    pdf.viewer_preferences = ViewerPreferences(display_doc_title=True)
    pdf.set_auto_page_break(False)
    pdf.set_margin(0)
    pdf.c_margin = 0
    fonts: dict[Path, str] = {}

    def photo(item: Photo) -> None:
        jpeg = io.BytesIO()  # a lossless picture would be ten times larger
        photo_image(item).save(jpeg, format="JPEG", quality=92, subsampling=0)
        pdf.image(
            jpeg,
            x=item.x * scale,
            y=item.y * scale,
            w=item.width * scale,
            h=item.height * scale,
            alt_text=displayed(item.picture.caption) or "A picture",
        )

    def shape(item: Shape) -> None:
        with pdf.new_path() as path:
            path.style.fill_color = "#{:02x}{:02x}{:02x}".format(*item.fill)
            path.style.stroke_color = "#{:02x}{:02x}{:02x}".format(*INK) if item.outline else None
            path.style.stroke_width = item.outline * scale
            path.style.stroke_join_style = StrokeJoinStyle.ROUND
            path.style.paint_rule = PathPaintRule.STROKE_FILL_NONZERO if item.outline else PathPaintRule.FILL_NONZERO
            path.move_to(*(value * scale for value in item.points[0]))
            for point in item.points[1:]:
                path.line_to(*(value * scale for value in point))
            path.close()

    def words(item: Words) -> None:
        if item.run.face.path not in fonts:
            fonts[item.run.face.path] = f"font{len(fonts)}"
            pdf.add_font(fonts[item.run.face.path], fname=item.run.face.path)
        size = item.size * scale
        pdf.set_font(fonts[item.run.face.path], size=size)
        pdf.set_text_color(*item.colour)
        pdf.set_text_shaping(True, direction="rtl" if item.run.rtl else "ltr")
        pdf.set_xy(item.x * scale, item.y * scale - 0.8 * size)  # a cell's baseline lies 0.8 of the size below its top
        pdf.cell(h=size, text=item.run.text)

    for items in book.pages:
        pdf.add_page()
        pdf.set_fill_color(*PAPER)
        pdf.rect(0, 0, pdf.w, pdf.h, style="F")
        for item in items:
            if isinstance(item, Photo):
                photo(item)
            elif isinstance(item, Shape):
                shape(item)
            else:
                words(item)
    return bytes(pdf.output())
