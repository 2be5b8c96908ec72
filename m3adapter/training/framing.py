"""How pictures of any size become pictures that a decoder learns from: a few sizes of like area, the nearest by shape.

A picture is resized until it covers its size, and what stands over is cut off evenly; the decoder is told both, as SDXL
was (`diffusion_loss.Framing`). Nothing is stretched, and a picture of the right size is left as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor
from torch.nn import functional

LONGEST = 2.0  # the ratio of the sides of the longest size


@dataclass(frozen=True)
class Cut:
    """What is cut out of a picture, in pixels as height and width, or top and left.

    Attributes:
        original: The size of the picture.
        resized: Its size after resizing.
        corner: The corner of the part of that which is kept.
        target: The size of that part.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]
    target: tuple[int, int]


@lru_cache
def sizes(side: int, step: int) -> tuple[tuple[int, int], ...]:
    """Return the sizes (height, width) of at most the area of a square of `side`, in multiples of `step` pixels.

    There is one for each width, the square among them, none longer than 2 to 1.
    """
    side = max(side // step, 1) * step
    found = {(side, side)}
    for width in range(step, int(LONGEST * side) + 1, step):
        height = side * side // width // step * step
        if height and max(height, width) <= LONGEST * min(height, width):
            found |= {(height, width), (width, height)}
    return tuple(sorted(found))


@lru_cache(maxsize=2**16)
def cut_for(size: tuple[int, int], side: int, step: int) -> Cut:
    """Return how a picture of a width and height is brought to the size that is nearest to its shape.

    Args:
        size: Width and height of the picture.
        side: Side of square pictures.
        step: What sides are multiples of.
    """
    width, height = size
    ratio = math.log(height / width)

    def distance(other: tuple[int, int]) -> tuple[float, int]:
        return round(abs(math.log(other[0] / other[1]) - ratio), 6), -other[0] * other[1]

    target = min(sizes(side, step), key=distance)
    scale = max(target[0] / height, target[1] / width)
    resized = (max(target[0], round(height * scale)), max(target[1], round(width * scale)))
    corner = ((resized[0] - target[0]) // 2, (resized[1] - target[1]) // 2)
    return Cut((height, width), resized, corner, target)


def cut_out(pixels: Tensor, cut: Cut) -> Tensor:
    """Return the part of a picture [H, W, 3] in 0..1 that the decoder learns from."""
    if pixels.shape[:2] != cut.resized:
        image = pixels.permute(2, 0, 1)[None]
        shrunk = functional.interpolate(image, cut.resized, mode="bilinear", antialias=True, align_corners=False)
        pixels = shrunk[0].permute(1, 2, 0).clamp(0, 1)
    top, left = cut.corner
    return pixels[top : top + cut.target[0], left : left + cut.target[1]]
