"""The vision encoder: any picture in, features from several depths out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import toys
from m3adapter.adapter.vision_encoder import VisionEncoder


@pytest.fixture(scope="module")
def encoder() -> VisionEncoder:
    return toys.vision_encoder()


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(height, width, 3, generator=toys.generator(seed))


def test_pictures_of_all_sizes_in_one_batch(encoder: VisionEncoder) -> None:
    pictures = [noise(1, 1), noise(8000, 10), noise(10, 8000), noise(32, 32), noise(200, 333), noise(2, 3)]
    seen = encoder.encode(pictures)
    assert seen.levels.shape == (6, len(toys.LEVELS), toys.PATCHES, toys.VISION_WIDTH)
    assert seen.pooled.shape == (6, 4, toys.VISION_WIDTH)
    assert seen.levels.isfinite().all() and not seen.levels.requires_grad
    for row, picture in enumerate(pictures):
        torch.testing.assert_close(encoder.encode([picture]).levels[0], seen.levels[row], rtol=1e-4, atol=1e-5)


def test_a_picture_is_seen_the_same_twice(encoder: VisionEncoder) -> None:
    picture = noise(40, 50)
    kept = picture.clone()
    assert torch.equal(encoder.encode([picture]).levels, encoder.encode([picture]).levels)
    assert torch.equal(picture, kept)
    assert not torch.equal(encoder.encode([picture]).levels, encoder.encode([noise(40, 50, seed=1)]).levels)


def test_the_middle_square_is_seen(encoder: VisionEncoder) -> None:
    square = noise(20, 20)
    for long in (torch.zeros(20, 100, 3), torch.ones(20, 100, 3)):
        long[:, 40:60] = square
        assert torch.equal(encoder.encode([long]).levels, encoder.encode([square]).levels)
        tall = long.transpose(0, 1)
        assert torch.equal(encoder.encode([tall]).levels, encoder.encode([square.transpose(0, 1)]).levels)


def test_a_large_picture_is_averaged(encoder: VisionEncoder) -> None:
    board = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float()[..., None].expand(-1, -1, 3)
    torch.testing.assert_close(encoder.encode([board]).levels, encoder.encode([torch.full((8, 8, 3), 0.5)]).levels)


def test_levels_are_the_hidden_states_without_the_class_token(encoder: VisionEncoder) -> None:
    picture = noise(32, 32)
    pixels = (picture.permute(2, 0, 1)[None] - 0.5) / 0.5
    states = encoder.model(pixel_values=pixels, output_hidden_states=True).hidden_states
    seen = encoder.encode([picture])
    for depth, level in enumerate(toys.LEVELS):
        torch.testing.assert_close(seen.levels[:, depth], states[level][:, 1:])
    quarters = seen.levels[:, -1].unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)  # 4 x 4 patches
    torch.testing.assert_close(seen.pooled, quarters)


def test_half_precision_and_numbers_of_any_type() -> None:
    encoder = toys.vision_encoder()
    exact = encoder.encode([noise(50, 40)]).levels
    encoder.model.to(torch.bfloat16)
    half = encoder.encode([noise(50, 40)]).levels
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.1, atol=0.1)
    assert torch.equal(encoder.encode([noise(50, 40).double()]).levels, half)


def test_no_picture(encoder: VisionEncoder) -> None:
    with pytest.raises(ValueError, match="needs at least one picture") as caught:
        encoder.encode([])
    assert toys.one_sentence(caught.value)


def test_saved_and_loaded(tmp_path: Path) -> None:
    encoder = VisionEncoder(toys.vision_encoder().model, (0, 2), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    encoder.save_pretrained(tmp_path)
    loaded = VisionEncoder.from_pretrained(tmp_path)
    assert (loaded.levels, loaded.mean, loaded.std) == ((0, 2), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (loaded.image_size, loaded.hidden_size) == (32, toys.VISION_WIDTH)
    picture = noise(30, 30)
    assert torch.equal(loaded.encode([picture]).levels, encoder.encode([picture]).levels)
    assert loaded.encode([picture]).levels.shape[1] == 2
    (tmp_path / "preprocessor_config.json").unlink()
    assert VisionEncoder.from_pretrained(tmp_path).levels == (1, 1, 3), "a stock model: a quarter, a half, the end"


def test_no_encoder_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no vision encoder in .*: config.json is missing"):
        VisionEncoder.from_pretrained(tmp_path)
