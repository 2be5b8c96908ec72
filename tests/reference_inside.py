"""What tests of the gate on reference latents run in a ComfyUI process: see inside_comfy.py, which has set it up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def apart(one: Tensor, other: Tensor) -> float:
    """Maximum absolute difference."""
    return float((one - other).abs().max())


def toys_paint() -> dict[str, Any]:
    """Encode a picture, sample with it as a reference and without one, and decode, with a toy of each family."""
    import toy_painters as toys

    found: dict[str, Any] = {}
    with torch.inference_mode():
        for family in toys.FAMILIES:
            toy = toys.painter(family)
            reference, latent = toy.vae.encode(torch.rand(1, 64, 64, 3)), toys.noise_like(toy)
            with_it, without = (
                toys.sample(toy.model, toys.prompt(toy, "a fox", seen), toys.prompt(toy, ""), latent=latent, cfg=2.0)
                for seen in ([reference], [])
            )
            picture = toy.vae.decode(with_it)
            found[family] = {
                "size": [*picture.shape[-3:]],
                "finite": bool(picture.isfinite().all()),
                "moved": apart(with_it, without),
                "latent": with_it.shape == latent.shape,
            }
    return found


SCENARIOS = {each.__name__: each for each in (toys_paint,)}
