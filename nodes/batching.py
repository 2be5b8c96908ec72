"""How many pictures are painted at once: as many as the memory holds, by what ComfyUI says of it."""

from __future__ import annotations

import comfy.model_management
import torch

from ..m3adapter.limits import MAX_BATCH
from .memory import Handle

MOST = 16  # a run can only be interrupted between two steps of a batch
CPU_PIXELS = 8 * 1024  # of latents; a CPU is busy with larger batches, and gains nothing by them
# What an SDXL model takes for a pixel of latents, with and without guidance, and its VAE for one picture, both measured
# in elements of the weights' type; the engine reckons with about as much.
UNET_ELEMENTS, VAE_ELEMENTS = 2 * 8500, 140_000

# Raised where memory ran out, beside torch's own exception; older torches do not tell it from others.
OUT_OF_MEMORY = tuple({comfy.model_management.OOM_EXCEPTION} - {Exception})


def batch_size(decoder: Handle, width: int, height: int) -> int:
    """Return how many pictures of that size (0 is the native one) fit in the memory at once, 1..16.

    Call it when the decoder's weights are loaded.
    """
    part = decoder.part
    factor = part.pipeline.vae_scale_factor
    pixels = (width or part.native_size) // factor * ((height or part.native_size) // factor)
    device = comfy.model_management.get_torch_device()
    if comfy.model_management.is_device_cpu(device):
        return max(1, min(MOST, CPU_PIXELS // pixels))
    size = torch.finfo(part.unet.dtype).bits // 8
    vae = VAE_ELEMENTS * pixels * torch.finfo(part.vae.dtype).bits // 8  # which decodes one picture at a time
    free = comfy.model_management.get_free_memory(device) - max(vae, comfy.model_management.minimum_inference_memory())
    return int(max(1, min(MOST, MAX_BATCH, free // (UNET_ELEMENTS * pixels * size))))
