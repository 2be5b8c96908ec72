"""A fresh M³-Adapter for a language model and a decoder that have never met."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..limits import check_seed
from .checkpoint import HEAD_WIDTH
from .m3_adapter import M3Adapter, M3AdapterConfig

if TYPE_CHECKING:
    from ..diffusion.decoder import DiffusionDecoder
    from ..language.language_model import LanguageModel
    from .vision_encoder import VisionEncoder

# At SDXL's size, and for a language model 4096 wide, these make 86 million parameters; the official release's
# adapter, which has no low-level path, has 78 million.
WIDTH, BLOCKS = 768, 4
# What the low-level path is made for where no vision encoder is given: CLIP ViT-L/14 at three depths.
VISION_WIDTH, VISION_LEVELS = 1024, 3


def new_adapter(
    language_model: LanguageModel,
    decoder: DiffusionDecoder,
    vision_encoder: VisionEncoder | None = None,
    *,
    width: int = WIDTH,
    blocks: int = BLOCKS,
    seed: int = 0,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M3Adapter:
    """An untrained, anchored adapter: it paints the language model's caption as the decoder itself would.

    Args:
        language_model, decoder: What it is to stand between; they give its outer widths and its number of tokens.
        vision_encoder: What it is to see with. Without one the low-level path is made for CLIP ViT-L/14, and pictures
            seen by an encoder of another width are refused at use.
        width: Inner width, a multiple of 64 (its heads are 64 wide).
        blocks: Number of blocks.
        seed: Of the random weights, 0..2**64-1: the same seed gives the same adapter.
        operations, device, dtype: As for M3Adapter; the weights are drawn on the CPU in float32 (default) all the same.

    Raises ValueError, one sentence, for a bad width, number of blocks or seed.
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
        tokens=decoder.tokens,
        width=width,
        blocks=blocks,
        heads=width // HEAD_WIDTH,
        anchor=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        drawn = M3Adapter(config)
    # Operations that stream leave their weights uninitialised.
    adapter = M3Adapter(config, operations=operations, device="meta")
    adapter.load_state_dict(drawn.state_dict(), assign=True)
    return adapter.to(device, dtype).eval().requires_grad_(False)
