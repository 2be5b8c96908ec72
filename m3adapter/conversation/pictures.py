"""Pictures, float32 tensors [H, W, 3] in 0..1 on the CPU: checking them, and reading and writing image files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


# What Pillow raises for files that are broken in one way or another: a broken PNG is a SyntaxError, for instance.
DAMAGED = (
    OSError, ValueError, SyntaxError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
    struct.error, zlib.error,
)  # fmt: skip
MAX_PIXELS = 2**26  # of a picture, 8192 x 8192; each takes 12 bytes of memory


class PictureError(ValueError):
    """A value or file that is not a usable picture; the message is one sentence."""


class UnknownWhite(PictureError):
    """A file whose values have 32 bits, so that nothing says which of them is white."""

    def __init__(self, name: str = "") -> None:
        what = f"The picture {name}" if name else "A picture"
        super().__init__(f"{what} has 32-bit values, of which none is known as white: save it with 8 or 16 bits.")


def normalised(image: Any) -> Tensor:
    """Return a picture as the library keeps it: a new float32 tensor [H, W, 3] on the CPU, values clamped to 0..1.

    Args:
        image: A floating point tensor [H, W, 3], or [H, W, 4] whose alpha is composited over white, of any size.

    Raises:
        PictureError: `image` is anything else, is too large, or contains NaN.
    """
    import torch

    if not isinstance(image, torch.Tensor):
        raise PictureError(f"A picture must be a tensor of shape [height, width, 3], not {type(image).__name__}.")
    shape = list(image.shape)
    if len(shape) != 3 or shape[2] not in (3, 4):
        raise PictureError(f"A picture must have the shape [height, width, 3 or 4], not {shape}.")
    if not shape[0] or not shape[1]:
        raise PictureError(f"A picture must have at least one pixel, but its shape is {shape}.")
    check_pixels(shape[1], shape[0])
    if not image.is_floating_point():
        raise PictureError(f"A picture must hold floats from 0 to 1, not {image.dtype}: divide 8-bit values by 255.")
    pixels = image.detach().to(device="cpu", dtype=torch.float32)
    if torch.isnan(pixels).any():
        raise PictureError("The picture contains values that are not numbers (NaN): repair it where it was made.")
    pixels = pixels.clamp(0, 1)  # this also copies, so that later in-place changes by the caller do not reach it
    if shape[2] == 3:
        return pixels.contiguous()
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    return (colour * alpha + (1 - alpha)).contiguous()


def check_pixels(width: int, height: int, name: str = "") -> None:
    """Raise PictureError if a picture is too large; `name` is the name of its file."""
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{f'The picture {name}' if name else 'A picture'} is too large, with {width} x {height} pixels: "
            f"make it smaller, of at most {MAX_PIXELS // 2**20} million pixels."
        )


def to_pil(image: Tensor) -> Image.Image:
    """Convert a picture [H, W, 3] to an 8-bit image of Pillow."""
    from PIL import Image

    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())


def png_bytes(image: Tensor | Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """Encode a picture as an 8-bit PNG; the same arguments give the same bytes.

    Args:
        image: A picture [H, W, 3], or an image of Pillow.
        text: Texts by keyword, for the PNG's text chunks, in which ComfyUI looks for a workflow.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks, buffer = PngInfo(), io.BytesIO()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    image = image if isinstance(image, Image.Image) else to_pil(image)
    image.save(buffer, format="PNG", compress_level=6, pnginfo=chunks)
    return buffer.getvalue()


def read_picture(source: Path | bytes, *, formats: tuple[str, ...] | None = None, name: str = "") -> Tensor:
    """Read the picture [H, W, 3] in an image file, upright by its EXIF orientation, alpha composited over white.

    Args:
        source: The path of the file, or its contents.
        formats: The file formats to accept, by Pillow's names; None accepts all.
        name: What errors call the file; by default its own name.

    Raises:
        PictureError: The file cannot be read, or the picture is too large.
    """
    with _opened(source, formats, name) as file:
        return upright(file)


def check_white(image: Image.Image) -> None:
    """Raise UnknownWhite if an image of Pillow has values of 32 bits, as far as its header tells."""
    if image.mode == "F":
        raise UnknownWhite


def upright(image: Image.Image) -> Tensor:
    """Return an image of Pillow as a picture [H, W, 3], upright by its EXIF orientation, its alpha over white.

    Raises:
        PictureError: It is too large, or nothing says which of its values is white.
    """
    import numpy
    import torch
    from PIL import ImageOps

    check_white(image)
    deep = image.mode.startswith("I;16") or image.format == "PNG"  # older Pillows open 16-bit PNGs as "I"
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        values = numpy.array(image)
        if not deep and not (values.min() >= 0 and 255 < values.max() < 2**16):  # such 32-bit integers hold 16 bits
            raise UnknownWhite
        grey = values.astype(numpy.float32) / 65535
        return normalised(torch.from_numpy(grey)[..., None].expand(-1, -1, 3))
    pixels = numpy.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    return normalised(torch.from_numpy(pixels).float() / 255)


def png_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of the picture in a PNG from its header; None if only decoding tells.

    Raises:
        PictureError: The file cannot be read or is not a PNG, or the picture is too large.
    """
    with _opened(path, ("PNG",)) as file:
        return None if "exif" in file.info else file.size


@contextmanager
def _opened(source: Path | bytes, formats: tuple[str, ...] | None, name: str = "") -> Iterator[Image.Image]:
    """Open an image file; what goes wrong with it in the `with` block becomes a PictureError."""
    from PIL import Image

    name = name or (f"of {len(source)} bytes" if isinstance(source, bytes) else source.name)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as file:
            width, height = file.size
            check_pixels(width, height, name)  # a few bytes may expand to billions
            yield file
    except UnknownWhite as error:
        raise UnknownWhite(name) from error
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"The picture {name} does not exist.") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"The picture {name} is too large to be opened safely.") from error
    except DAMAGED as error:
        raise PictureError(f"The picture {name} cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Return why a file could not be read, without its path."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
