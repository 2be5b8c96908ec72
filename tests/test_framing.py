"""Sizes of pictures that a decoder learns from."""

from __future__ import annotations

import pytest
import torch

from m3adapter.training.framing import cut_for, cut_out, sizes


def test_sizes_are_of_like_area_and_of_every_shape_up_to_two_to_one() -> None:
    found = sizes(1024, 64)
    assert (1024, 1024) in found and (832, 1216) in found and (1216, 832) in found
    for height, width in found:
        assert (
            height % 64 == width % 64 == 0
            and 0.85 < height * width / 1024**2 <= 1
            and max(height / width, width / height) <= 2
        )
    assert sizes(64, 32) == ((64, 64),) and sizes(20, 32) == ((32, 32),)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (640, 480), (3000, 2000), (128, 128), (127, 129)])
@pytest.mark.parametrize(("side", "step"), [(128, 32), (512, 32), (1024, 64)])
def test_a_picture_covers_its_size_and_is_never_stretched(size: tuple[int, int], side: int, step: int) -> None:
    cut = cut_for(size, side, step)
    assert cut.original == (size[1], size[0]) and cut.target in sizes(side, step)
    scale = cut.resized[0] / size[1], cut.resized[1] / size[0]
    slack = max(1 / size[1], 1 / size[0])
    assert abs(scale[0] - scale[1]) <= slack
    for resized, corner, target in zip(cut.resized, cut.corner, cut.target, strict=True):
        assert 0 <= corner <= resized - target and abs(resized - target - 2 * corner) <= 1
    assert cut.corner[0] == 0 or cut.corner[1] == 0, "it is cut along one side only"


def test_what_is_cut_out_is_the_middle_and_a_picture_of_the_right_size_stays() -> None:
    pixels = torch.rand(64, 64, 3)
    assert torch.equal(cut_out(pixels, cut_for((64, 64), 64, 32)), pixels)
    wide = torch.zeros(64, 256, 3)
    wide[:, 96:160] = 1
    assert cut_out(wide, cut_for((256, 64), 64, 32)).shape == (64, 64, 3)
    assert (cut_out(wide, cut_for((256, 64), 64, 32)) == 1).all()
    assert cut_out(torch.rand(1, 1, 3), cut_for((1, 1), 64, 32)).shape == (64, 64, 3)
