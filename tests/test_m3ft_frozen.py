"""What M3FT says of captions that the decoder's text encoders cannot read to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import toy_llms
import toys
from m3adapter.training.frozen import LONG, Frozen
from m3adapter.training.m3ft_models import open_models
from m3adapter.training.recipe import recipe_of
from m3adapter.training.sources import open_samples

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("anchor", [False, True])
def test_long_captions_are_counted_and_not_told_of_one_by_one(
    tmp_path: Path, anchor: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    models = toy_llms.save_models(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for number, caption in enumerate(("a wall", "a wall " * 200, "a fence " * 200)):
        Image.new("RGB", (48, 48), (80 * number, 0, 0)).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(caption, "utf-8")
    recipe = recipe_of(
        {
            "models": {**models, "anchor": anchor},
            "data": {"path": str(data), "options": {"held_out": 0.0}, "validation": ""},
        }
    )
    samples, _ = open_samples(recipe, 1)
    frozen = Frozen(open_models(recipe), None, toys.SIDE)
    capsys.readouterr()
    frozen.prepare([samples[index] for index in range(3)], 1, denoises=False)
    printed = capsys.readouterr()
    assert f"{LONG} (2 times)" in printed.out and "truncated" not in printed.err
