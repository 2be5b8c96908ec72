"""Checks that features and anchors come from the models that an M³-Adapter was made for."""

from __future__ import annotations

from collections.abc import Callable

from ..diffusion.condition import Condition
from .config import M3AdapterConfig
from .features import SlotFeatures


def check_features(config: M3AdapterConfig, features: SlotFeatures, *, is_untrained: Callable[[], bool]) -> None:
    """Raise ValueError unless features fit an adapter.

    Args:
        config: The adapter's configuration.
        features: The features of its slots.
        is_untrained: Returns whether the adapter is untrained, so that the cure is to make another one; only called for
            an error, because on an accelerator it waits for the result.
    """
    llm_width = features.context.shape[-1]
    if llm_width != config.llm_width:
        untrained = is_untrained()
        raise ValueError(
            f"The M3-Adapter was {_made(untrained)} for a language model of width {config.llm_width}, and this one has "
            f"{llm_width}: {_cure('load the adapter that belongs to the language model', untrained)}."
        )
    if not features.vision_mask.any():
        return
    count, levels, width = features.vision.shape[1], features.vision.shape[2], features.vision.shape[-1]
    check_vision(config, width, levels, is_untrained=is_untrained)
    if count > config.references:
        raise ValueError(f"The M3-Adapter takes {config.references} reference pictures, not {count}: give fewer.")


def check_vision(config: M3AdapterConfig, width: int, levels: int, *, is_untrained: Callable[[], bool]) -> None:
    """Raise ValueError unless an adapter was made for vision features of that width and number of levels."""
    if (width, levels) != (config.vision_width, config.vision_levels):
        untrained = is_untrained()
        raise ValueError(
            f"The M3-Adapter was {_made(untrained)} for a vision encoder of width {config.vision_width} with "
            f"{config.vision_levels} levels, and this one has {width} with {levels}: "
            f"{_cure('load the matching one', untrained)}."
        )


def check_anchor(config: M3AdapterConfig, features: SlotFeatures, anchor: Condition | None) -> None:
    """Raise ValueError unless an anchor is given exactly if the adapter is anchored, and fits it and the features."""
    if not config.anchor:
        if anchor is not None:
            raise ValueError("This M3-Adapter is not anchored and takes no anchor: leave it out.")
        return
    if anchor is None:
        raise ValueError("This M3-Adapter is anchored: connect the caption, encoded by Encode Text, as its anchor.")
    if anchor.batch != features.batch:
        raise ValueError(f"The anchor has {anchor.batch} captions for {features.batch} slots: give one for each slot.")
    width, pooled = anchor.embeds.shape[-1], anchor.pooled.shape[-1]
    if (width, pooled) != (config.embed_width, config.pooled_width):
        raise ValueError(
            f"The M3-Adapter was made for a decoder of widths {config.embed_width} and {config.pooled_width}, and "
            f"the anchor has {width} and {pooled}: encode the caption with the matching decoder."
        )
    for num_tokens in (anchor.embeds.shape[1], anchor.negative_embeds.shape[1]):
        if not num_tokens or num_tokens % config.num_tokens:
            raise ValueError(
                f"The anchor has {num_tokens} tokens, which is not a multiple of the M3-Adapter's {config.num_tokens} "
                "queries: encode its texts with the matching decoder."
            )


def _made(untrained: bool) -> str:
    return "made" if untrained else "trained"


def _cure(cure_of_trained: str, untrained: bool) -> str:
    return "make one for it with New M3-Adapter" if untrained else cure_of_trained
