"""The gate: how much of the reference pictures' low-level features a picture takes over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .values import MAX_STRENGTH, number, shown


@dataclass(frozen=True)
class GateSetting:
    """The user's setting of the gate.

    Attributes:
        strength: Factor of the gate, 0..4. 0 is the purely semantic path (creativity), 1 the gate as trained,
            above 1 emphasises the references (consistency).
        mode: "learned" uses the trained gate, which opens and closes; "fixed" uses one value for every token and
            channel, regardless of caption and references.
        value: The value of mode "fixed", 0..1: 0 is closed, 1 as open as this adapter's trained gate typically is
            where the references determine the look (`M3AdapterConfig.open_gate`).

    Raises:
        ValueError: A field is out of range.
    """

    strength: float = 1.0
    mode: Literal["learned", "fixed"] = "learned"
    value: float = 0.5

    def __post_init__(self) -> None:
        number("The gate strength", self.strength, 0, MAX_STRENGTH)
        if self.mode not in ("learned", "fixed"):
            raise ValueError(f"The gate mode must be learned or fixed, not {shown(self.mode)}.")
        number("The value of a fixed gate", self.value, 0, 1)
