"""The gate: how much of the reference pictures' low-level features a picture takes over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .limits import MAX_STRENGTH
from .values import is_number, shown


@dataclass(frozen=True)
class GateSetting:
    """What the user says about the gate.

    Attributes:
        strength: Factor of the gate, 0..4. 0 is the purely semantic path (creativity), 1 the gate as trained,
            above 1 leans on the references (consistency).
        mode: "learned" uses the trained gate, which opens and shuts; "fixed" one opening for every token and channel,
            whatever caption and references say.
        value: The opening of mode "fixed", 0..1: 0 is shut, 1 as far as this adapter's trained gate typically opens
            where the references tell a look (`M3AdapterConfig.open_gate`).

    Raises ValueError with one clear sentence.
    """

    strength: float = 1.0
    mode: Literal["learned", "fixed"] = "learned"
    value: float = 0.5

    def __post_init__(self) -> None:
        if not is_number(self.strength, 0, MAX_STRENGTH):
            raise ValueError(
                f"The gate strength must be a number from 0 to {MAX_STRENGTH:g}, not {shown(self.strength)}."
            )
        if self.mode not in ("learned", "fixed"):
            raise ValueError(f"The gate mode must be learned or fixed, not {shown(self.mode)}.")
        if not is_number(self.value, 0, 1):
            raise ValueError(f"The value of a fixed gate must be a number from 0 to 1, not {shown(self.value)}.")
