"""Pages as pictures, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageChops, ImageDraw

from ...conversation.pictures import to_pil
from .items import INK, PAPER, Book, Item, Photo, Point, Shape, Words
from .text import Typesetter, as_drawn

_SUPERSAMPLING = 4  # shapes are drawn larger and then reduced, because Pillow does not smooth edges


def draw(book: Book, typesetter: Typesetter) -> Iterator[Image.Image]:
    """Yield the pages of a book as pictures."""
    for items in book.pages:
        page = Image.new("RGB", (book.width, book.height), PAPER)
        canvas = ImageDraw.Draw(page)
        for item in items:
            _draw(item, page, canvas, typesetter)
        yield page


def photo_image(photo: Photo) -> Image.Image:
    """Return a picture at its size on the page, with its border and with corners in the colour of the paper."""
    size = (max(1, round(photo.width)), max(1, round(photo.height)))
    image = to_pil(photo.picture.pixels).resize(size, Image.Resampling.LANCZOS)
    if photo.radius or photo.border:
        outer = _rounded(size, 0, photo.radius)
        inner = _rounded(size, photo.border, max(0.0, photo.radius - photo.border))
        image.paste(INK, mask=ImageChops.subtract(outer, inner))
        image.paste(PAPER, mask=ImageChops.invert(outer))
    return image


def _draw(item: Item, page: Image.Image, canvas: ImageDraw.ImageDraw, typesetter: Typesetter) -> None:
    if isinstance(item, Photo):
        page.paste(photo_image(item), (round(item.x), round(item.y)))
    elif isinstance(item, Shape):
        _polygon(page, item.points, item.fill, item.outline)
    elif isinstance(item, Words):
        text, _, direction = as_drawn(item.run.text, item.run.rtl)
        font = typesetter.font(item.run.face, item.size)
        canvas.text((item.x, item.y), text, item.colour, font, anchor="ls", direction=direction)


def _polygon(page: Image.Image, points: tuple[Point, ...], fill: tuple[int, int, int], outline: float) -> None:
    margin = outline + 2
    left, top = (int(min(point[axis] for point in points) - margin) for axis in (0, 1))
    right, bottom = (int(max(point[axis] for point in points) + margin) + 1 for axis in (0, 1))
    size = (right - left, bottom - top)
    larger = [((x - left) * _SUPERSAMPLING, (y - top) * _SUPERSAMPLING) for x, y in points]
    area, edge = (Image.new("L", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)) for _ in range(2))
    ImageDraw.Draw(area).polygon(larger, fill=255)
    page.paste(fill, (left, top), area.resize(size, Image.Resampling.BOX))
    if outline:
        ImageDraw.Draw(edge).line(
            [*larger, *larger[:2]], fill=255, width=round(outline * _SUPERSAMPLING), joint="curve"
        )
        page.paste(INK, (left, top), edge.resize(size, Image.Resampling.BOX))


def _rounded(size: tuple[int, int], inset: float, radius: float) -> Image.Image:
    mask = Image.new("L", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
    box = (
        inset * _SUPERSAMPLING,
        inset * _SUPERSAMPLING,
        (size[0] - inset) * _SUPERSAMPLING - 1,
        (size[1] - inset) * _SUPERSAMPLING - 1,
    )
    if box[2] > box[0] and box[3] > box[1]:
        ImageDraw.Draw(mask).rounded_rectangle(box, radius * _SUPERSAMPLING, fill=255)
    return mask.resize(size, Image.Resampling.BOX)
