"""What a picture takes over from references through an IP-Adapter: which references, where, how strongly, when.

References that overlap share a place in proportion to their weights, and together are as strong there as the strongest
of them: a second picture of a character does not double its strength. The gate then scales the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..values import MAX_STRENGTH, number, shown
from .ip_adapter import IPAdapter

PRESETS = ("all", "composition", "style")
MASK_SIDE = 256  # masks are stored no larger: SDXL's finest cross-attention has 64 x 64 places at 1024 x 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture to attend to.

    Attributes:
        adapter: The IP-Adapter that made the tokens.
        tokens: Tokens of the picture [T, D]; or [B, T, D], if each picture of a batch has a reference of its own.
        negative: Tokens of no picture [T, D], for classifier-free guidance.
        weight: The reference's share among several ones, and a factor of the gate; 0..4.
        mask: Where the reference acts [H, W] in 0..1, stretched over the painted picture; None is everywhere.

    Raises:
        ValueError: The weight is out of range, or the mask has another shape.
    """

    adapter: IPAdapter
    tokens: Tensor
    negative: Tensor
    weight: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        number("The weight of a reference", self.weight, 0, MAX_STRENGTH)
        if self.mask is None:
            return
        if self.mask.dim() != 2 or not self.mask.numel():
            raise ValueError(f"The mask of a reference must be one of shape [height, width], not {[*self.mask.shape]}.")
        height, width = (min(side, MASK_SIDE) for side in self.mask.shape)
        object.__setattr__(self, "mask", resized(self.mask.detach().float().clamp(0, 1), height, width))


@dataclass(frozen=True)
class ImageGate:
    """How much of the references is taken over: the gate of this low-level path.

    Attributes:
        strength: 0 ignores the references, 1 is the strength that the IP-Adapter was trained at; 0..4.
        start: Where in the noise schedule the references begin to act, from 0 (pure noise) to 1 (the picture).
        end: Where in the noise schedule they cease to act.
        blocks: A name in PRESETS, or a table such as "down.2.1 = 1, up.0 = 0.5" with a strength for blocks of the
            UNet. Blocks that are not named get 0; if several entries match a block, the longest one counts.

    Raises:
        ValueError: A field is out of range, or the table cannot be parsed.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    blocks: str = "all"

    def __post_init__(self) -> None:
        number("The strength of the gate", self.strength, 0, MAX_STRENGTH)
        number("start", self.start, 0, 1)
        number("end", self.end, 0, 1)
        if self.blocks not in PRESETS:
            _parse_table(self.blocks)

    @property
    def shut(self) -> bool:
        """Whether the references never have an effect."""
        return self.strength == 0 or self.start >= self.end

    @property
    def always(self) -> bool:
        """Whether the references act at every step."""
        return self.start <= 0 and self.end >= 1

    def weights(self, places: Sequence[str]) -> dict[str, float]:
        """Return the strength in each block of a UNet.

        "composition" is the last block on the way down, "style" the second one on the way up: down.2.1 and up.0.1 in
        SDXL (InstantStyle, arXiv 2404.02733).

        Args:
            places: `place_of` of the UNet's cross-attentions, in diffusers' order.

        Raises:
            ValueError: The table names a block that the UNet does not have.
        """
        known = list(dict.fromkeys(places))
        if self.blocks == "all":
            return dict.fromkeys(known, self.strength)
        if self.blocks in PRESETS:
            direction, index = ("down", -1) if self.blocks == "composition" else ("up", 1)
            table = {[place for place in known if place.startswith(direction)][index]: 1.0}
        else:
            table = _parse_table(self.blocks)
        for name in table:
            if not any(_within(place, name) for place in known):
                raise ValueError(
                    f"The table of blocks names {name}, and the diffusion model has only {', '.join(known)}."
                )
        return {place: self.strength * _table_weight(place, table) for place in known}

    def open_at(self, percent: float) -> bool:
        """Return whether the references act at a place in the schedule, 0..1 (1 - timestep / 999)."""
        return self.always or self.start <= percent <= self.end


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """References, and the gate that they share.

    Attributes:
        references: The references.
        gate: The gate.
    """

    references: tuple[Reference, ...]
    gate: ImageGate


def shares(references: Sequence[Reference], height: int, width: int) -> Tensor:
    """Return how strongly each reference acts at each place [R, height, width], before the gate."""
    amounts = torch.stack(
        [
            torch.full((height, width), float(reference.weight))
            if reference.mask is None
            else reference.weight * resized(reference.mask, height, width)
            for reference in references
        ]
    )
    together = amounts.amax(0) / amounts.sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    return amounts * together


def resized(mask: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [H, W] at another size, each value the mean of the area it covers."""
    return functional.interpolate(mask[None, None], (height, width), mode="area")[0, 0]


def place_of(name: str) -> str:
    """Return the block of a cross-attention in a diffusers UNet: "down.2.1", "mid", "up.0.1"."""
    match = re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.", name)
    return ".".join(match.groups()) if match else "mid"


def _parse_table(text: str) -> dict[str, float]:
    """Return the entries of a table of blocks. Raise ValueError if there is none, or one cannot be parsed."""
    table = {}
    for entry in re.split(r"[,;\n]", text):
        if not entry.strip():
            continue
        match = re.fullmatch(r"\s*(mid|(?:down|up)(?:\.\d+){0,2})\s*[=:]\s*(\d*\.?\d+)\s*", entry)
        if not match:
            raise ValueError(f"The table of blocks has the entry {shown(entry.strip())}: write it as down.2.1 = 1.")
        table[match[1]] = number(f"The number of {match[1]}", float(match[2]), 0, MAX_STRENGTH)
    if not table:
        raise ValueError("The table of blocks is empty: name blocks and a number for each, such as down.2.1 = 1.")
    return table


def _table_weight(place: str, table: Mapping[str, float]) -> float:
    matching = [name for name in table if _within(place, name)]
    return table[max(matching, key=len)] if matching else 0.0


def _within(place: str, name: str) -> bool:
    return f"{place}.".startswith(f"{name}.")
