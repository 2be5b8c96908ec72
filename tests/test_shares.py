"""How a step's samples are shared out among micro-batches and processes."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from m3adapter.training.recipe import Stage
from m3adapter.training.shares import Share
from m3adapter.training.stage_common import denoise, own_places

SIZES = [(64, 32), (48, 48), (32, 64), (64, 64)]


@pytest.mark.parametrize(("batch", "first", "shares"), [(16, 16, 4), (17, 9, 5), (3, 1, 4), (10, 7, 8), (8, 8, 1)])
def test_a_share_has_pictures_of_as_few_sizes_as_can_be(batch: int, first: int, shares: int) -> None:
    rng = random.Random(batch)
    for _ in range(20):
        sizes = [rng.choice(SIZES) for _ in range(batch)]
        found = [Share(number, shares).of(sizes, first) for number in range(shares)]
        assert sorted(place for own in found for place in own) == list(range(batch))
        for number, own in enumerate(found):
            assert len(own) == len(range(number, batch, shares)), "as many as if they were dealt out in turn"
            painted = [place for place in own if place < first]
            assert own[: len(painted)] == painted and len(painted) == len(range(number, first, shares))
        groups = sum(len({sizes[place] for place in own if place < first}) for own in found)
        assert groups <= min(first, shares) + len(set(sizes[:first])) - 1


def test_samples_of_one_size_are_dealt_out_in_turn() -> None:
    assert [Share(number, 3).of(["a"] * 7, 4) for number in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize("part", [1.0, 0.6])
def test_pictures_of_several_sizes_have_the_same_loss_however_they_are_shared(part: float) -> None:
    """The decoder sees one size at a time, with the noise of a picture's place in the step."""
    rng, batch = random.Random(3), 12
    pictures = [SimpleNamespace(picture=number, size=rng.choice(SIZES)) for number in range(batch)]
    calls: list[int] = []

    class Denoising:
        def draw_each(self, shapes: list[Any], device: object) -> tuple[torch.Tensor, list[torch.Tensor]]:
            generator = torch.Generator().manual_seed(1)
            return torch.arange(len(shapes)), [torch.randn(shape, generator=generator) for shape in shapes]

        def __call__(self, latents: Any, embeds: Any, pooled: Any, framed: Any, draws: Any) -> torch.Tensor:
            calls.append(len(latents))
            assert torch.equal(framed.original[:, 0], latents[:, 0, 0, 0].long())
            return (latents * draws.noise).flatten(1).sum(1) * embeds[:, 0, 0] * pooled[:, 0] + draws.times

    def latents_of(numbers: list[int]) -> tuple[list[torch.Tensor], Any]:
        ids = torch.tensor(numbers)[:, None].expand(-1, 2)
        latents = [torch.full((1, *pictures[number].size), float(number)) for number in numbers]
        return latents, SimpleNamespace(original=ids, crop=ids, target=ids)

    frozen = SimpleNamespace(
        size_of=lambda size: size, latents_of=latents_of, latent_shape=lambda number: (1, *pictures[number].size),
        models=SimpleNamespace(device="cpu", at_work=lambda name: None),
    )  # fmt: skip
    setting: Any = SimpleNamespace(
        frozen=frozen, denoising=Denoising(), samples=SimpleNamespace(size=lambda index: pictures[index].size)
    )
    options = Stage(batch=batch, denoise_share=part)
    count = int(batch * part)
    values = torch.rand(batch)

    def loss(shares: int) -> float:
        total = 0.0
        for number in range(shares):
            share = Share(number, shares)
            own = own_places(setting, share, range(batch), options)
            outputs = (values[own, None, None], values[own, None])
            total += float(denoise(setting, outputs, pictures, share, own, count)) / shares  # type: ignore[arg-type]
        return total

    whole, alone = loss(1), len(calls)
    assert alone == len({picture.size for picture in pictures[:count]})
    for shares in (2, 3, 5, 12):
        calls.clear()
        assert loss(shares) == pytest.approx(whole, rel=1e-5)
        assert len(calls) <= min(shares, count) + alone - 1
