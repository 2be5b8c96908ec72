"""Positions: sinusoids for the tokens of a span, and the places of references by their weights."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoids(x: Tensor) -> Tensor:
    """Return sinusoidal position encodings [L, W] for x [B, L, W] (Vaswani et al., 2017)."""
    length, width = x.shape[1:]
    position = torch.arange(length, device=x.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) * (-9.21 / width))
    return torch.cat([torch.sin(position * rate), torch.cos(position * rate)], dim=-1)[:, :width].to(x.dtype)


def places_by_weight(weight: Tensor, mask: Tensor) -> Tensor:
    """Return the place that each of R references takes when the heavier ones move forward.

    When references contradict each other, a trained adapter believes the one in front, so scaling their attention
    would not be enough: a heavier reference has to move forward. It passes a lighter one in front of it by
    1 - lighter / heavier places: by none if they weigh the same, and by a whole one if the other weighs nothing. A
    place may therefore lie between two.

    Args:
        weight: Weights [B, R], above 0.
        mask: Which references exist [B, R].

    Returns:
        [B, R, R], each row an interpolation of places; the identity for equal weights.
    """
    passes = (1 - weight[:, None, :] / weight[:, :, None]).clamp(min=0)  # [b, i, j]: by how much i passes j
    passes = (passes * mask[:, None, :] * mask[:, :, None]).tril(-1)  # only references in front can be passed
    index = torch.arange(weight.shape[1], device=weight.device)
    places = index - passes.sum(2) + passes.sum(1)
    return (1 - (places[..., None] - index).abs()).clamp(min=0)
