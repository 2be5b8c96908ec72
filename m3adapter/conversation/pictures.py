"""A picture: a float32 tensor [H, W, 3] in 0..1 on the CPU, and its way from and to image files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


MAX_PIXELS = 2**26  # of a picture, 8192 x 8192: in memory it takes 12 bytes for each


class PictureError(ValueError):
    """What was given is not a picture; the message is one clear sentence."""


def normalised(image: Any) -> Tensor:
    """The picture as the library keeps it: a new float32 tensor [H, W, 3] on the CPU, values clamped to 0..1.

    `image` is a floating point tensor [H, W, 3], or [H, W, 4] whose alpha is composited over white. Any size from 1 x 1
    up is kept. Raises PictureError for anything else.
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
    pixels = pixels.clamp(0, 1)  # also the copy that keeps a later in-place change by the caller out of here
    if shape[2] == 3:
        return pixels.contiguous()
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    return (colour * alpha + (1 - alpha)).contiguous()


def check_pixels(width: int, height: int, name: str = "") -> None:
    """Raises PictureError, one sentence, for a picture that is too large; `name` is its file's."""
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{f'The picture {name}' if name else 'A picture'} is too large: it has {width} x {height} pixels, and "
            f"{MAX_PIXELS // 2**20} million are most, so make it smaller."
        )


def to_pil(image: Tensor) -> Image.Image:
    """A picture [H, W, 3] as Pillow's, with 8 bits."""
    from PIL import Image

    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())


def png_bytes(image: Tensor | Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """A picture ([H, W, 3], or Pillow's) as the bytes of an 8-bit PNG: the same bytes for the same arguments.

    `text` (keyword: text) goes into its text chunks, where ComfyUI looks for a workflow.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks, buffer = PngInfo(), io.BytesIO()
    for keyword, value in (text or {}).items():
        chunks.add_text(keyword, value)
    image = image if isinstance(image, Image.Image) else to_pil(image)
    image.save(buffer, format="PNG", compress_level=6, pnginfo=chunks)
    return buffer.getvalue()


def read_picture(source: Path | bytes, *, formats: Sequence[str] | None = None) -> Tensor:
    """The picture in an image file as [H, W, 3], turned upright by its EXIF orientation, alpha composited over white.

    `source` is the path of the file, or what it holds. `formats` limits the file formats that are tried (Pillow's
    names). Raises PictureError when the file cannot be read.
    """
    import numpy
    import torch
    from PIL import Image, ImageOps

    name = f"of {len(source)} bytes" if isinstance(source, bytes) else source.name
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as file:
            check_pixels(*file.size, name)  # a few bytes may hold thousands of millions
            upright = ImageOps.exif_transpose(file)
            pixels = numpy.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"The picture {name} does not exist.") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"The picture {name} is too large to be opened safely.") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reports a broken PNG as a SyntaxError
        raise PictureError(f"The picture {name} cannot be read: {_reason(error)}.") from error
    return normalised(torch.from_numpy(pixels).float() / 255)


def _reason(error: Exception) -> str:
    """Why a file could not be read, without where it lies."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a known kind"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
