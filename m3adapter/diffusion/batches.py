"""Paints several pictures at once, in batches that get smaller when memory runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..events import NotFinite, OutOfMemory
from .condition import Condition

if TYPE_CHECKING:
    from PIL.Image import Image

    from .decoder import DiffusionDecoder

logger = logging.getLogger(__name__)

OnBatchStep = Callable[[range, int, int, "Callable[[], Image | None]"], None]

SLICED = 2**20  # pixels in a batch from which on its pictures are decoded one by one, as the VAE takes much memory
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "_status_alloc_failed")


def decode_all(
    decoder: DiffusionDecoder,
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    *,
    batch_size: int = 1,
    on_step: OnBatchStep | None = None,
    out_of_memory: tuple[type[BaseException], ...] = (),
    **options: Any,
) -> Iterator[Tensor]:
    """Paint pictures that do not depend on one another, and yield them in order, [H, W, 3] each.

    Each picture has the noise of its own seed. Painted alone it has the bits that `DiffusionDecoder.decode` gives
    it; in a batch it is within 3e-5 of them, since sums are rounded in another order. A batch that does not fit in
    memory is halved. A picture that does not fit alone is decoded with the VAE in tiles, which leaves faint seams: a
    warning in the log says so.

    Args:
        decoder: Paints.
        conditions: What to paint, each of batch 1.
        seeds: A seed for each.
        batch_size: How many to paint at once, at most.
        on_step: Called as `on_step(pictures, step, total, preview)` after every step, with the range of the pictures in
            the batch; the preview is that of the first. A batch that is halved begins again at step 1.
        out_of_memory: Further exceptions that say that memory ran out.
        **options: Of `DiffusionDecoder.decode`: steps, guidance, width, height.

    Raises:
        ValueError: There are not as many seeds as conditions, or as `DiffusionDecoder.decode`.
        NotFinite: A picture overflows; those before it have been yielded.
        OutOfMemory: A picture does not fit in memory.
    """
    if len(conditions) != len(seeds):
        raise ValueError(f"{len(conditions)} pictures need as many seeds, not {len(seeds)}.")
    start, size = 0, batch_size
    while start < len(conditions):
        pictures = range(start, start + _alike(conditions[start : start + size]))
        batch = conditions[start : pictures.stop], seeds[start : pictures.stop]
        step = partial(on_step, pictures) if on_step else None
        images = _attempt(decoder, *batch, step, out_of_memory, options)
        if images is None:
            size = len(pictures) // 2
        else:
            yield from images
            start = pictures.stop


def _alike(conditions: Sequence[Condition]) -> int:
    """Return how many of the first conditions have the same number of tokens."""

    def tokens(condition: Condition) -> tuple[int, int]:
        return condition.embeds.shape[1], condition.negative_embeds.shape[1]

    if len(conditions) == 1:
        return 1
    return len(list(takewhile(lambda condition: tokens(condition) == tokens(conditions[0]), conditions)))


def _attempt(
    decoder: DiffusionDecoder,
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    on_step: Any,
    out_of_memory: tuple[type[BaseException], ...],
    options: dict[str, Any],
) -> Tensor | None:
    """Return the pictures [B, H, W, 3] of a batch, or None if they are to be tried as smaller batches."""
    count = len(conditions)
    condition = conditions[0] if count == 1 else Condition.concatenate(conditions)
    seed = seeds[0] if count == 1 else list(seeds)
    height, width = (int(options.get(side) or decoder.native_size) for side in ("height", "width"))
    slicing = count > 1 and count * height * width >= SLICED
    for tiling in (False, True):
        try:
            with vae_in_parts(decoder.vae, slicing=slicing, tiling=tiling):
                return decoder.decode(condition, seed=seed, on_step=on_step, **options)
        except NotFinite:
            if count == 1:
                raise
            return None  # so that those before the one that overflows are painted
        except Exception as error:
            if not isinstance(error, out_of_memory) and not is_out_of_memory(error):
                raise
        release_memory(decoder.unet.device)
        if count > 1:
            return None
        if not tiling:
            logger.warning("M2Chat: A picture does not fit in memory, so the VAE decodes it in tiles.")
    raise OutOfMemory(
        "A picture does not fit in memory, even with the VAE in tiles: choose a smaller width and height, load the "
        "decoder with a smaller dtype, or close other programs."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on an accelerator or the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator, CUDA's libraries and some accelerators raise a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def release_memory(device: torch.device) -> None:
    """Free the memory that a failed attempt has left on a device."""
    from diffusers.utils.torch_utils import empty_device_cache

    gc.collect()
    empty_device_cache(device.type)


@contextmanager
def vae_in_parts(vae: Any, *, slicing: bool = False, tiling: bool = False) -> Iterator[None]:
    """Have a VAE decode the pictures of a batch one by one, to the same bits, or in tiles, with faint seams.

    What is switched on already stays on. A VAE that has no such switch decodes as always.
    """
    wanted = {"slicing": slicing, "tiling": tiling}
    switched = [
        name
        for name, on in wanted.items()
        if on and getattr(vae, f"use_{name}", None) is False and hasattr(vae, f"enable_{name}")
    ]
    try:
        for name in switched:
            getattr(vae, f"enable_{name}")()
        yield
    finally:
        for name in switched:
            getattr(vae, f"disable_{name}")()
