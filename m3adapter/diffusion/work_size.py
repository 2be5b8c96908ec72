"""How much memory a model's work takes beside its weights, so that others can make room for it.

What counts are maps of the width of the first level at full resolution. On an H100, SDXL's UNet took 24 of them, and
its VAE 10 to decode; the rest is for attention and convolutions that need more elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch

UNET_MAPS = 26
DECODER_MAPS, ENCODER_MAPS = 12, 10


def unet_work(unet: Any, rows: int, height: int, width: int) -> int:
    """Return the bytes that a UNet takes for a step on `rows` latents (twice the pictures, with guidance) of a size."""
    return UNET_MAPS * unet.config.block_out_channels[0] * rows * height * width * unet.dtype.itemsize


def decoding_work(vae: Any, batch: int, height: int, width: int) -> int:
    """Return the bytes that a VAE takes to decode pictures of a size in pixels."""
    return _vae_work(vae, DECODER_MAPS, batch, height, width)


def encoding_work(vae: Any, height: int, width: int) -> int:
    """Return the bytes that a VAE takes to encode a picture of a size in pixels."""
    return _vae_work(vae, ENCODER_MAPS, 1, height, width)


def _vae_work(vae: Any, maps: int, batch: int, height: int, width: int) -> int:
    if vae.use_tiling:
        height, width = (min(side, vae.tile_sample_min_size) for side in (height, width))
    rows = 1 if vae.use_slicing else batch
    upcast = vae.dtype == torch.float16 and vae.config.force_upcast
    itemsize = torch.float32.itemsize if upcast else vae.dtype.itemsize
    return maps * vae.config.block_out_channels[0] * rows * height * width * itemsize
