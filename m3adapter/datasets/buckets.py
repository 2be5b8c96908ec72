"""Aspect-ratio buckets: pictures of many shapes, cut to a few sizes of about the same area, so that batches fit.

SDXL was trained so: it is told a picture's original size, where it was cropped, and its size afterwards.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..values import number, whole

if TYPE_CHECKING:
    from torch import Tensor


class Bucket(NamedTuple):
    """A size of pictures in pixels."""

    width: int
    height: int

    @property
    def ratio(self) -> float:
        """Width over height."""
        return self.width / self.height


@dataclass(frozen=True)
class Fitted:
    """A picture that was resized and cropped for its bucket, and what SDXL is told of it.

    Attributes:
        pixels: The picture [H, W, 3] in 0..1, of the bucket's size.
        original: Its width and height before.
        crop: How many pixels were cut off at the left and at the top, after resizing.
        bucket: The size.
    """

    pixels: Tensor
    original: tuple[int, int]
    crop: tuple[int, int]
    bucket: Bucket

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's time ids: original height and width, top and left of the crop, height and width."""
        (width, height), (left, top) = self.original, self.crop
        return height, width, top, left, self.bucket.height, self.bucket.width


def buckets(area: int, step: int = 64, *, ratio: float = 4.0) -> tuple[Bucket, ...]:
    """Return the sizes of at most `area` pixels whose sides are multiples of `step`, from narrow to wide.

    For each width it is the tallest that fits, and the other way round; 1024 x 1024 in steps of 64 gives SDXL's sizes.

    Args:
        area: The most pixels.
        step: Of which sides are multiples.
        ratio: The longer side over the shorter one, at most.

    Raises:
        ValueError: `area` has no room for even one square of `step`, or a value is out of range.
    """
    whole("step", step, 1, 1024)
    number("ratio", ratio, 1, 64)
    whole("area", area, step * step, 2**26)
    found = set()
    for short in range(step, math.isqrt(area) + 1, step):
        long = area // short // step * step
        if long <= short * ratio:
            found |= {Bucket(short, long), Bucket(long, short)}
    return tuple(sorted(found, key=lambda bucket: (bucket.ratio, bucket.width)))


def assign(size: tuple[int, int], among: Sequence[Bucket]) -> Bucket:
    """Return the bucket whose shape is nearest to a size (width, height): of those alike, the largest."""
    shape = math.log(size[0] / size[1])
    return min(among, key=lambda bucket: (round(abs(math.log(bucket.ratio) - shape), 9), -bucket.width * bucket.height))


def fit(pixels: Tensor, bucket: Bucket, rng: random.Random | None = None) -> Fitted:
    """Resize a picture [H, W, 3] so that it covers a bucket, and crop what is over.

    Args:
        pixels: The picture.
        bucket: Its bucket.
        rng: Chooses where to crop; in the middle without it.
    """
    from torch.nn import functional

    height, width = pixels.shape[:2]
    scale = max(bucket.width / width, bucket.height / height)
    wide, high = max(bucket.width, round(width * scale)), max(bucket.height, round(height * scale))
    if (wide, high) != (width, height):
        moved = pixels.permute(2, 0, 1)[None]
        moved = functional.interpolate(moved, (high, wide), mode="bicubic", antialias=True, align_corners=False)
        pixels = moved[0].permute(1, 2, 0).clamp(0, 1)
    spare = wide - bucket.width, high - bucket.height
    left, top = (rng.randint(0, over) if rng else over // 2 for over in spare)
    cut = pixels[top : top + bucket.height, left : left + bucket.width].contiguous()
    return Fitted(cut, (width, height), (left, top), bucket)
