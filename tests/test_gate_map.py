"""The picture of a gate: open places are bright, and each token has its place."""

from __future__ import annotations

import torch
from torch import Tensor

from m3adapter.adapter.gate_map import (
    BARS_BOTTOM,
    BARS_TOP,
    COLD,
    HEIGHT,
    LEFT,
    MAP_BOTTOM,
    MAP_TOP,
    RIGHT,
    WARM,
    WIDTH,
    draw_gate,
)

TOKENS, CHANNELS = 4, 6


def column(token: int) -> int:
    """The x of a token's middle."""
    return round(LEFT + (token + 0.3) * (RIGHT - LEFT) / TOKENS)


def row(place: int) -> int:
    """The y of the middle of a channel's place in the map, from the top."""
    return round(MAP_TOP + (place + 0.5) * (MAP_BOTTOM - MAP_TOP) / CHANNELS)


def colour(picture: Tensor, x: int, y: int) -> tuple[int, ...]:
    return tuple((picture[y, x] * 255).round().int().tolist())


def test_the_map_shows_which_tokens_and_channels_are_open() -> None:
    gate = torch.zeros(TOKENS, CHANNELS)
    gate[2, 4] = 1.0  # channel 4 is the most open one: it stands on top
    gate[1, 0] = 0.9
    picture = draw_gate(gate, "a fox")
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.min() >= 0 and picture.max() <= 1
    assert colour(picture, column(2), row(0)) == WARM
    assert colour(picture, column(1), row(0)) == COLD
    assert colour(picture, column(1), row(1))[0] > colour(picture, column(2), row(1))[0]
    for token in range(TOKENS):
        assert colour(picture, column(token), row(5)) == COLD


def test_bars_are_as_high_as_the_tokens_mean_gates() -> None:
    gate = torch.zeros(TOKENS, CHANNELS)
    gate[0], gate[3] = 0.25, 0.5
    picture = draw_gate(gate, "a fox")

    def height(token: int) -> float:
        x = column(token)
        paper = picture[BARS_TOP + 10, column(1)]
        filled = (picture[BARS_TOP + 2 : BARS_BOTTOM, x] - paper).abs().sum(-1) > 0.2
        return float(filled.float().mean())

    assert height(3) > 0.95 and 0.45 < height(0) < 0.6 and height(1) < 0.1


def test_a_gate_beyond_the_scale_and_more_channels_than_pixels_are_drawn() -> None:
    torch.manual_seed(0)
    assert draw_gate(torch.rand(77, 2048) * 9, "x" * 1000).shape == (HEIGHT, WIDTH, 3)


def test_a_shut_gate_says_so() -> None:
    shut, other = draw_gate(torch.zeros(TOKENS, CHANNELS), "a fox"), draw_gate(torch.zeros(TOKENS, CHANNELS), "an owl")
    assert torch.equal(shut, other), "there is no caption to show, but why it is shut"
