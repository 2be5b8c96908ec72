"""What a turn is asked for, and the seeds that follow from a story's one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .conversation.references import ReferencePolicy
from .events import Interrupted
from .gate import GateSetting
from .language.reply import PICTURES
from .limits import (
    SEED_LIMIT,
    check_gate,
    check_guidance,
    check_pictures,
    check_rerolls,
    check_seed,
    check_side,
    check_steps,
)

if TYPE_CHECKING:
    from .language.sampling import Sampling

ShouldStop = Callable[[], bool]


def turn_seed(seed: int, turn: int) -> int:
    """The seed of a story's panel `turn` (from 0): far from its neighbours', and the story's own for the first."""
    return (seed + turn * 0x9E3779B97F4A7C15) % SEED_LIMIT


def picture_seed(seed: int, index: int, reroll: int = 0) -> int:
    """The seed of the picture number `index` (from 0) of a turn with `seed`, painted for the `reroll`th time again."""
    return reroll_seed(seed + index, reroll)


def reroll_seed(seed: int, reroll: int) -> int:
    """Another seed for every number of a re-roll; the number 0 is the seed itself."""
    return (seed + reroll * 0xD1B54A32D192ED03) % SEED_LIMIT


def styled(caption: str, style: str) -> str:
    """A caption with a style behind it, as prompts have it."""
    return f"{caption.rstrip(' .')}, {style.strip()}" if style.strip() else caption


def gate_setting(gate: GateSetting | float) -> GateSetting:
    """A number as the strength (0..4) of the learned gate, a GateSetting as it is. Raises ValueError."""
    if isinstance(gate, GateSetting):
        return gate
    check_gate(gate)
    return GateSetting(strength=float(gate))


def check_stop(should_stop: ShouldStop | None) -> None:
    """Raises Interrupted when the caller wants to stop."""
    if should_stop and should_stop():
        raise Interrupted("The reply was stopped.")


@dataclass(frozen=True)
class Request:
    """How to write and paint a turn; checked when it is made (ValueError, one sentence).

    `rerolls` says which pictures of the story, the first being 1, get a seed of their own: that of so many re-rolls.
    `width` and `height` are the pictures' in pixels, 0 as the decoder was made for.
    """

    gate: GateSetting
    seed: int
    steps: int
    guidance: float
    sampling: Sampling | None
    should_stop: ShouldStop | None
    references: ReferencePolicy = field(default_factory=ReferencePolicy)
    style: str = ""
    negative: str = ""
    rerolls: Mapping[int, int] = field(default_factory=dict)
    width: int = 0
    height: int = 0
    max_pictures: int = PICTURES

    def __post_init__(self) -> None:
        object.__setattr__(self, "gate", gate_setting(self.gate))
        check_seed(self.seed)
        check_steps(self.steps)
        check_guidance(self.guidance)
        check_rerolls(self.rerolls)
        check_pictures(self.max_pictures)
        check_side("width", self.width)
        check_side("height", self.height)

    @property
    def size(self) -> dict[str, int]:
        """What of width and height was asked for, by name."""
        return {name: side for name, side in (("width", self.width), ("height", self.height)) if side}

    def of_panel(self, panel: int) -> Request:
        """The same for the panel number `panel` (from 0) of a story."""
        return replace(self, seed=turn_seed(self.seed, panel))
