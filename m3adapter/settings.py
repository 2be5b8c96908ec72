"""The settings of a turn: how its text is written and its pictures are painted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .conversation.references import ReferencePolicy
from .gate import GateSetting
from .language.reply import PICTURES
from .language.sampling import Sampling
from .values import (
    check_batch_size,
    check_gate,
    check_guidance,
    check_pictures,
    check_seed,
    check_side,
    check_steps,
    check_variants,
)


@dataclass(frozen=True)
class TurnSettings:
    """How to write and paint a turn; `dataclasses.replace` makes variants.

    Attributes:
        gate: Strength of the learned gate, 0..4, or a GateSetting.
        seed: Seed of the text, 0..2**64-1. Picture number k (from 0) of the turn is painted with `seed` + k.
        steps: Denoising steps of each picture, 1..1000.
        guidance: Scale of classifier-free guidance, 0..30; 1 turns it off.
        references: Which earlier pictures each picture refers to.
        style: Words added to every caption, for the decoder's text encoders: the adapter must be anchored.
        negative: What guidance steers away from; it needs an anchored adapter, too.
        width: Width of the pictures in pixels, a multiple of the VAE's factor; 0 is the decoder's own size.
        height: Height, likewise.
        max_pictures: How many pictures a reply may have, 1..32; the captions of any more become text.
        sampling: How the language model chooses its words, and how many.
        batch_size: How many pictures to paint at once, at most, of those that do not refer to each other, 1..64. A
            picture that is painted alone always has the same bits; in a batch, sums are rounded in another order, and
            it may differ by 3e-5.
        variants: How many variants of each picture to paint, 1..16, up to `batch_size` at once. The first one is
            placed; the others, which have the seeds of the next re-rolls, become its versions.

    Raises:
        ValueError: A value is out of its range; the message is one sentence.
    """

    gate: GateSetting | float = 1.0
    seed: int = 0
    steps: int = 20
    guidance: float = 2.0
    references: ReferencePolicy = ReferencePolicy()
    style: str = ""
    negative: str = ""
    width: int = 0
    height: int = 0
    max_pictures: int = PICTURES
    sampling: Sampling = Sampling()
    batch_size: int = 1
    variants: int = 1

    def __post_init__(self) -> None:
        gate_setting(self.gate)
        check_seed(self.seed)
        check_steps(self.steps)
        check_guidance(self.guidance)
        check_pictures(self.max_pictures)
        check_side("width", self.width)
        check_side("height", self.height)
        check_batch_size(self.batch_size)
        check_variants(self.variants)


def changed(settings: TurnSettings | None, changes: Mapping[str, Any]) -> TurnSettings:
    """Return `settings` (the defaults if None) with the fields in `changes` replaced.

    Raises:
        ValueError: A value is out of its range.
        TypeError: There is no such field.
    """
    return replace(settings or TurnSettings(), **changes)


def gate_setting(gate: GateSetting | float) -> GateSetting:
    """Return a GateSetting unchanged, and a number as the strength (0..4) of the learned gate.

    Raises:
        ValueError: The number is out of its range.
    """
    if isinstance(gate, GateSetting):
        return gate
    check_gate(gate)
    return GateSetting(strength=float(gate))


def styled(caption: str, style: str) -> str:
    """Return a caption followed by a style, as prompts are written."""
    return f"{caption.rstrip(' .')}, {style.strip()}" if style.strip() else caption
