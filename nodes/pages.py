"""Lays out a conversation as pages of a comic or a picture book."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy
import torch
from comfy_api.latest import io

from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.export.pages.drawing import draw
from ..m3adapter.export.pages.fonts import FONTS
from ..m3adapter.export.pages.items import Book
from ..m3adapter.export.pages.layout import lay_out
from . import inputs
from .errors import names_node
from .running import PaintingProgress, ShowsText, show_text, shown

logger = logging.getLogger(__name__)

LARGEST = 8 * 2**30  # bytes of all pages together


def page_arguments(layout: str, words: str, font: str, page_width: int = 1600) -> dict[str, Any]:
    """Return the arguments of layout.lay_out() for the inputs of a node."""
    files = [inputs.FONT_FILES.find(name) for name in inputs.FONT_FILES.names()]
    chosen: str | Path = font if font in FONTS else inputs.FONT_FILES.find(font)
    return {"layout": layout, "words": words, "font": chosen, "width": page_width, "more_fonts": tuple(files)}


class LayOutPages(ShowsText, io.ComfyNode):
    """Draws pages of a conversation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Pages",
            display_name="Lay Out Pages",
            category="M2Chat/story",
            description="Lays out a story's pictures and text as pages of a comic or picture book.",
            search_aliases=["comic", "storybook", "page", "panels", "speech balloon", "bubble", "caption", "grid"],
            inputs=[
                inputs.conversation("A story, or any conversation in which the assistant has painted a picture."),
                inputs.layout("grid"),
                inputs.words(),
                inputs.font(),
                inputs.page_width(),
                inputs.title(),
            ],
            outputs=[io.Image.Output(display_name="pages", tooltip="The pages as one batch, all of one size.")],
        )

    @classmethod
    @names_node
    def execute(
        cls, conversation: Conversation, layout: str, words: str, font: str, page_width: int, title: str = ""
    ) -> io.NodeOutput:
        """Lay out and draw the pages."""
        arguments = page_arguments(layout, words, font, page_width)
        book, typesetter = lay_out(conversation, title=title.strip() or None, **arguments)
        _check_size(book)
        for note in book.notes:
            logger.warning("M2Chat: %s", note)
        show_text("\n\n".join(book.notes))
        progress = PaintingProgress(len(book.pages))
        pages = torch.empty(len(book.pages), book.height, book.width, 3)
        for index, page in enumerate(draw(book, typesetter)):
            progress.update(index)
            pages[index] = torch.from_numpy(numpy.array(page)).float() / 255
        progress.update(len(book.pages))
        return io.NodeOutput(pages, ui=shown(*book.notes))


def _check_size(book: Book) -> None:
    size = len(book.pages) * book.height * book.width * 3 * 4
    if size > LARGEST:
        raise ValueError(
            f"{len(book.pages)} pages of {book.width} × {book.height} would take {size / 2**30:.0f} GB: choose a "
            "smaller page_width."
        )


NODES = [LayOutPages]
