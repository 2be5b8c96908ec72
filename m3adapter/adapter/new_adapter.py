"""Creates an untrained M³-Adapter for any language model and decoder."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..values import check_seed
from .config import HEAD_WIDTH, M3AdapterConfig
from .m3_adapter import M3Adapter

if TYPE_CHECKING:
    from ..diffusion.decoder import DiffusionDecoder
    from ..language.language_model import LanguageModel
    from .vision_encoder import VisionEncoder

# At SDXL's size and for a language model 4096 wide, these make 86 million parameters. The official release's adapter,
# which has no low-level path, has 78 million.
WIDTH, BLOCKS = 768, 4
# What the low-level path is made for if no vision encoder is given: CLIP ViT-L/14 at three depths.
VISION_WIDTH, VISION_LEVELS = 1024, 3


def new_adapter(
    language_model: LanguageModel,
    decoder: DiffusionDecoder,
    vision_encoder: VisionEncoder | None = None,
    *,
    width: int = WIDTH,
    num_blocks: int = BLOCKS,
    seed: int = 0,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M3Adapter:
    """Return an untrained, anchored adapter, with which pictures look as the decoder itself paints the captions.

    Args:
        language_model: The language model that it connects; it determines the width of the hidden states.
        decoder: The decoder that it connects; it determines widths and number of the prompt embeddings.
        vision_encoder: The vision encoder that it is to use. Without one the low-level path is made for CLIP ViT-L/14,
            and features of another width are refused later.
        width: Inner width, a multiple of 64, because heads are 64 wide.
        num_blocks: Number of blocks.
        seed: Of the random weights, 0..2**64-1: the same seed gives the same adapter.
        operations: As for M3Adapter.
        device: Where to put the weights, which are drawn on the CPU.
        dtype: Type of the weights, which are drawn in float32; float32 by default.

    Raises:
        ValueError: The width, the number of blocks or the seed is out of range.
    """
    if width % HEAD_WIDTH:
        raise ValueError(f"The adapter's width must be a multiple of {HEAD_WIDTH}, not {width}.")
    check_seed(seed)
    config = M3AdapterConfig(
        llm_width=language_model.hidden_size,
        vision_width=vision_encoder.hidden_size if vision_encoder else VISION_WIDTH,
        vision_levels=len(vision_encoder.levels) if vision_encoder else VISION_LEVELS,
        embed_width=decoder.embed_width,
        pooled_width=decoder.pooled_width,
        num_tokens=decoder.num_tokens,
        width=width,
        num_blocks=num_blocks,
        num_heads=width // HEAD_WIDTH,
        anchor=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn = M3Adapter(config)
    # Streaming operations leave their weights uninitialised, so that they have to be assigned.
    adapter = M3Adapter(config, operations=operations, device="meta")
    adapter.load_state_dict(drawn.state_dict(), assign=True)
    return adapter.to(device, dtype).eval().requires_grad_(False)
