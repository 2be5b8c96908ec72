"""How many pictures are painted at once: as many as fit in memory, as far as ComfyUI can tell."""

from __future__ import annotations

import comfy.model_management

from ..m3adapter.diffusion.work_size import unet_work
from ..m3adapter.painter import Painter
from . import memory

MOST = 16  # a run is interrupted between two steps of a batch
CPU_PIXELS = 8 * 1024  # of latents: with larger batches a CPU gains nothing, and a step takes long


def batch_size(painter: memory.Handle | Painter, width: int, height: int) -> int:
    """Return how many pictures of that size (0 is the native one) a painter can paint at once, 1..16.

    One that is not a decoder, with or without its adapter, paints them one by one.
    """
    decoder = painter.handle if isinstance(painter, memory.ManagedPainter) else painter
    if not isinstance(decoder, memory.Handle):
        return 1
    part, device = decoder.part, comfy.model_management.get_torch_device()
    factor = part.pipeline.vae_scale_factor
    rows, columns = (max(1, (side or part.native_size) // factor) for side in (height, width))
    if comfy.model_management.is_device_cpu(device):
        return max(1, min(MOST, CPU_PIXELS // (rows * columns)))
    weights = decoder.patcher.model_size() if decoder.patcher else 0
    room = memory.room(device) - weights - comfy.model_management.minimum_inference_memory()
    return max(1, min(MOST, room // unet_work(part.unet, 2, rows, columns)))  # 2: with guidance
