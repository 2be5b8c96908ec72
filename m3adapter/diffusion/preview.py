"""Previews of a picture while it is painted, by a linear map from latents to colours; the VAE takes no part in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from ..values import label, shown
from ..weights.layouts import read_json
from .finite import is_finite
from .latents import latent_means

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG = "m2chat.json"  # in a decoder's folder
AT_A_TIME = 8  # pictures that are encoded together


@dataclass(frozen=True)
class LatentRGB:
    """A linear map from scaled latents to colours in -1..1.

    Attributes:
        latent_rgb_factors: For each channel of the latents, what it adds to red, green and blue.
        latent_rgb_factors_bias: Red, green and blue of latents that are zero.
    """

    latent_rgb_factors: tuple[tuple[float, ...], ...]
    latent_rgb_factors_bias: tuple[float, ...] = (0.0, 0.0, 0.0)

    @classmethod
    def fit(cls, vae: Any, pictures: Tensor) -> LatentRGB:
        """Fit a map by least squares to the latents that a VAE makes of pictures.

        Args:
            vae: An `AutoencoderKL` or `AutoencoderTiny`.
            pictures: [N, H, W, 3] in 0..1, of the kind that will be painted.
        """
        images = pictures.permute(0, 3, 1, 2).float() * 2 - 1
        latents = torch.cat([latent_means(vae, part) for part in images.split(AT_A_TIME)]).float().cpu()
        colours = functional.interpolate(images.cpu(), latents.shape[-2:], mode="area")
        inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], 1)
        solution = torch.linalg.lstsq(*(each.transpose(0, 1).flatten(1).T.double() for each in (inputs, colours)))
        *factors, bias = [tuple(round(value, 4) for value in row) for row in solution.solution.tolist()]
        return cls(tuple(factors), bias)

    @classmethod
    def load(cls, folder: Path, channels: int) -> LatentRGB | None:
        """Read the map in a decoder's folder, for latents of this many channels; None if there is none.

        Raises:
            ValueError: The file does not hold such a map.
        """
        path = folder / CONFIG
        if not path.is_file():
            return None
        config = read_json(path)
        if "latent_rgb_factors" not in config:
            return None
        factors, bias = config["latent_rgb_factors"], config.get("latent_rgb_factors_bias", [0.0] * 3)
        rows = [*factors, bias] if isinstance(factors, list) else []
        for name, value, fits in (
            ("latent_rgb_factors", factors, len(rows) == channels + 1 and all(map(_is_colour, rows[:-1]))),
            ("latent_rgb_factors_bias", bias, _is_colour(bias)),
        ):
            if not fits:
                raise ValueError(
                    f"{label(path)} has {shown(value)} as {name}, which does not fit latents of {channels} channels: "
                    "get the file again, or delete it to go without previews."
                )
        return cls(tuple(map(tuple, factors)), tuple(bias))

    def save(self, folder: Path) -> None:
        """Write the map to a decoder's folder."""
        (folder / CONFIG).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the colours [h, w, 3] in 0..1 of scaled latents [C, h, w]."""
        factors = latents.new_tensor(self.latent_rgb_factors, dtype=torch.float32)
        colours = latents.float().movedim(0, -1) @ factors + factors.new_tensor(self.latent_rgb_factors_bias)
        return (colours / 2 + 0.5).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Preview:
    """What is known about pictures while they are painted. Call it for a small image of the first one.

    Attributes:
        latents: The latest estimate of their scaled latents [B, C, h, w], without noise if the scheduler makes one.
        latent_rgb: The map to what those roughly look like; None if unknown.
        vae_config: Configuration of the VAE that will decode them.
    """

    latents: Tensor
    latent_rgb: LatentRGB | None
    vae_config: Mapping[str, Any]

    @property
    def is_finite(self) -> bool:
        """Whether there is anything to see in the first picture. On an accelerator this waits for the step."""
        return is_finite(self.latents[:1])

    def __call__(self) -> Image | None:
        """Return the first picture, a pixel for each latent.

        None without `latent_rgb`, or if the latents are not finite.
        """
        from PIL import Image

        if self.latent_rgb is None or not self.is_finite:
            return None
        return Image.fromarray((self.latent_rgb(self.latents[0]) * 255).byte().cpu().numpy())


def _is_colour(value: Any) -> bool:
    """Return whether a value of a configuration is a list of three finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in value)
    )
