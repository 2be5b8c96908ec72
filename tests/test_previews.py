"""Previews: what latents roughly look like, by a linear map that a decoder's files hold; the VAE takes no part."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import toys
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.condition import Condition
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.preview import CONFIG, LatentRGB, Preview
from m3adapter.storybook.render import render
from m3adapter.storybook.world import random_scene
from m3adapter.weights.starter import STARTER

STEPS = 3
CELL = 8  # pixels per side of a latent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def decoder(folder: Path) -> DiffusionDecoder:
    pipeline = load_decoder(folder).pipeline
    return DiffusionDecoder(pipeline, latent_rgb=LatentRGB.fit(pipeline.vae, torch.rand(16, 32, 32, 3)))


@contextmanager
def decoded(decoder: DiffusionDecoder) -> Iterator[list[int]]:
    """How many pictures each pass of the VAE's decoder decodes in the block."""
    seen: list[int] = []
    hook = decoder.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        yield seen
    finally:
        hook.remove()


def painted(decoder: DiffusionDecoder, condition: Condition, **how: Any) -> tuple[torch.Tensor, list[Preview]]:
    previews: list[Preview] = []
    how = {"seed": 5, "steps": STEPS, **how}
    picture = decoder.decode(condition, on_step=lambda _, __, preview: previews.append(preview), **how)
    return picture, previews


def test_a_preview_is_a_small_picture_of_its_own_step(decoder: DiffusionDecoder) -> None:
    with decoded(decoder) as passes:
        picture, previews = painted(decoder, toys.condition(2))
        shown = [preview() for preview in previews]
    assert passes == [2], "the VAE decodes what is finished, and nothing else"
    assert {each.size for each in shown} == {(toys.SIDE // CELL, toys.SIDE // CELL)}
    assert {each.mode for each in shown} == {"RGB"} and len({each.tobytes() for each in shown}) == STEPS
    assert [preview().tobytes() for preview in previews] == [each.tobytes() for each in shown], "at any time"
    assert torch.equal(decoder.decode(toys.condition(2), seed=5, steps=STEPS), picture), "and changes nothing"


def test_what_a_model_says_nothing_of_has_no_preview(folder: Path) -> None:
    decoder = load_decoder(folder)
    assert decoder.latent_rgb is None
    assert [preview() for preview in painted(decoder, toys.condition())[1]] == [None] * STEPS


def test_a_preview_of_what_are_no_numbers_is_none() -> None:
    colours = LatentRGB(((1.0, 0.0, 0.0),) * 4)
    for value in (torch.nan, torch.inf):
        assert Preview(torch.full((1, 4, 2, 2), value), colours, {})() is None
    assert Preview(torch.ones(1, 4, 2, 2), colours, {})().getpixel((0, 0)) == (255, 127, 127)


def test_a_map_is_found_again_and_stays_with_the_decoder(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    decoder.save_pretrained(tmp_path)
    for again in (load_decoder(tmp_path), DiffusionDecoder.from_pretrained(tmp_path)):
        assert again.latent_rgb == decoder.latent_rgb != None  # noqa: E711
    latents = torch.randn(4, 2, 2, generator=toys.generator())
    colours = torch.tensor(decoder.latent_rgb.latent_rgb_factors)
    expected = torch.einsum("chw,cr->hwr", latents, colours) + torch.tensor(decoder.latent_rgb.latent_rgb_factors_bias)
    torch.testing.assert_close(decoder.latent_rgb(latents), (expected / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_rgb_factors", [[1, 2, 3]] * 3),
        ("latent_rgb_factors", [[1, 2]] * 4),
        ("latent_rgb_factors", [[1, 2, float("nan")]] * 4),
        ("latent_rgb_factors", [[1, 2, True]] * 4),
        ("latent_rgb_factors", "red"),
        ("latent_rgb_factors_bias", [1, 2]),
        ("latent_rgb_factors_bias", {"red": 1}),
        ("latent_rgb_factors_bias", None),
    ],
)
def test_a_map_that_does_not_fit_is_named(folder: Path, tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"latent_rgb_factors": [[1, 2, 3]] * 4, name: value}))
    with pytest.raises(ValueError, match=f"{CONFIG} has .* as {name}, which does not fit latents of 4 chan") as caught:
        LatentRGB.load(tmp_path, 4)
    assert toys.one_sentence(caught.value)


@pytest.mark.slow
def test_the_starters_previews_look_like_its_pictures() -> None:
    decoder = load_decoder(STARTER / "decoder")
    rng = random.Random(5)
    scenes = torch.stack([torch.from_numpy(render(random_scene(rng), seed)).float() / 255 for seed in range(16)])
    fitted = torch.tensor(LatentRGB.fit(decoder.vae, scenes).latent_rgb_factors)
    stored = torch.tensor(decoder.latent_rgb.latent_rgb_factors)
    assert (fitted - stored).norm() < 0.15 * stored.norm(), "what the file holds is what least squares gives"
    alike = []
    for seed, caption in enumerate(("a fox on the beach", "an owl in the snow at night", "a rabbit in the forest")):
        picture, previews = painted(decoder, decoder.encode_text([caption]), seed=seed, steps=12)
        shown = Image.fromarray((picture[0] * 255).byte().numpy())
        small = shown.resize(previews[-1]().size, Image.Resampling.BOX)
        pairs = [np.corrcoef(np.asarray(each()).ravel(), np.asarray(small).ravel())[0, 1] for each in previews]
        alike.append((pairs[0], pairs[len(pairs) // 2], pairs[-1]))
    first, middle, last = np.array(alike).min(0)
    assert last > 0.9 and middle > 0.8 and last > first, alike
