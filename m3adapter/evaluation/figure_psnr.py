"""How well the figures of pictures are drawn: their PSNR to the nearest render of the same scene (`figure_psnr`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..diffusion.condition import Condition
from ..pipeline import M2Chat

# A caption, and the different renders of what it may mean, uint8 [H, W, 3], with the masks of their figures [H, W].
Drawn = tuple[str, Sequence[tuple[np.ndarray, np.ndarray]]]


def nearest(picture: Tensor, among: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the PSNR in dB of a picture's figures [H, W, 3] in 0..1 to those of the nearest render."""
    pixels, best = picture.float().cpu().numpy(), 0.0
    for render, figures in among:
        error = float(((pixels - render / 255.0)[figures] ** 2).mean())
        best = max(best, -10 * math.log10(max(error, 1e-8)))
    return best


def psnr_of_model(
    model: M2Chat, paint: Callable[[Condition], Sequence[Tensor]], drawn: Sequence[Drawn]
) -> dict[str, float | None]:
    """Return `figure_psnr` of an M²Chat, whose captions its decoder's own text encoders read.

    Args:
        model: The M²Chat.
        paint: Paints conditions with it.
        drawn: What is painted.
    """

    def autoencode(images: Tensor) -> Tensor:
        vae = model.decoder.vae
        latents = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()
        return vae.decode(latents).sample.clamp(-1, 1)

    return figure_psnr(autoencode, lambda texts: paint(model.encode_text(texts)), drawn)


@torch.no_grad()
def figure_psnr(
    autoencode: Callable[[Tensor], Tensor],
    paint: Callable[[list[str]], Sequence[Tensor]] | None,
    drawn: Sequence[Drawn],
) -> dict[str, float | None]:
    """Return the mean PSNR of figures: of renders that went through the autoencoder, and of painted pictures.

    Args:
        autoencode: Encodes and decodes pictures [B, 3, H, W] in -1..1.
        paint: Paints captions as pictures [H, W, 3] in 0..1; without it, only the autoencoder is measured.
        drawn: Captions and their renders; the first render of each goes through the autoencoder.
    """
    decoded = []
    for _, among in drawn:
        picture = torch.from_numpy(among[0][0].copy()).float() / 255
        out = autoencode(picture.permute(2, 0, 1)[None] * 2 - 1)[0].float().cpu()
        decoded.append(nearest((out.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1), among[:1]))
    found: dict[str, float | None] = {"autoencoder": round(sum(decoded) / len(decoded), 2), "painted": None}
    if paint is not None:
        pictures = paint([text for text, _ in drawn])
        painted = [nearest(picture, among) for picture, (_, among) in zip(pictures, drawn, strict=True)]
        found["painted"] = round(sum(painted) / len(painted), 2)
    return found
