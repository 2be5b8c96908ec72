"""Aspect-ratio buckets: sizes, assignment, crops and what SDXL is told of them."""

from __future__ import annotations

import random

import pytest
import torch

from m3adapter.datasets.buckets import Bucket, assign, buckets, fit


def test_buckets_have_about_one_area_and_come_in_pairs() -> None:
    sizes = buckets(1024 * 1024)
    assert Bucket(1024, 1024) in sizes and Bucket(896, 1152) in sizes and Bucket(1344, 768) in sizes
    assert all(Bucket(b.height, b.width) in sizes and b.width % 64 == b.height % 64 == 0 for b in sizes)
    assert all(0.9 * 1024**2 < b.width * b.height <= 1024**2 and 0.25 <= b.ratio <= 4 for b in sizes)
    assert list(sizes) == sorted(sizes, key=lambda b: b.ratio) and len(set(sizes)) == len(sizes)
    assert buckets(64 * 64, 64) == (Bucket(64, 64),)
    with pytest.raises(ValueError, match="^area is 4095: "):
        buckets(4095, 64)


@pytest.mark.parametrize(
    ("size", "bucket"), [((500, 500), (1024, 1024)), ((4000, 3000), (1152, 896)), ((10, 4000), (512, 2048))]
)
def test_a_picture_goes_where_its_shape_is_nearest(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert assign(size, buckets(1024 * 1024)) == bucket


def test_a_picture_is_resized_to_cover_its_bucket_and_cropped() -> None:
    pixels = torch.linspace(0, 1, 200)[None, :, None].expand(100, -1, 3)
    found = fit(pixels, Bucket(64, 64))
    assert found.pixels.shape == (64, 64, 3) and found.pixels.is_contiguous()
    assert found.original == (200, 100) and found.crop == (32, 0) and found.time_ids == (100, 200, 0, 32, 64, 64)
    assert found.pixels[0, 0, 0] == pytest.approx(0.25, abs=0.02) and found.pixels[0, -1, 0] == pytest.approx(
        0.75, abs=0.02
    )
    left = {fit(pixels, Bucket(64, 64), random.Random(seed)).crop[0] for seed in range(20)}
    assert len(left) > 5 and min(left) >= 0 and max(left) <= 64
    same = fit(pixels, Bucket(200, 100))
    assert torch.equal(same.pixels, pixels) and same.crop == (0, 0), "nothing is computed where nothing changes"


@pytest.mark.parametrize("size", [(1, 1), (3000, 16), (63, 65), (64, 64)])
def test_any_shape_fits_any_bucket(size: tuple[int, int]) -> None:
    for bucket in buckets(64 * 64, 16):
        assert fit(torch.rand(size[1], size[0], 3), bucket).pixels.shape == (bucket.height, bucket.width, 3)
