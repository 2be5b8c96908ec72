"""What a picture is to take from references through an IP-Adapter: which ones, where, how strongly, when.

References that meet at a place share it in proportion to their weights, and together are as strong as the strongest of
them there: a second picture of a character does not double its strength. The gate then says how strong that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..limits import MAX_STRENGTH
from ..values import is_number, shown
from .ip_adapter import IPAdapter, cross_attentions

PRESETS = ("all", "composition", "style")
MASK_SIDE = 256  # masks are kept no larger: the finest cross-attention of SDXL at 1024 x 1024 has 64 x 64 places


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture to look at.

    Attributes:
        adapter: Whose tokens they are.
        tokens: The picture's [T, D]; or [B, T, D], where each picture of a batch that is painted has a reference of
            its own.
        negative: Those of no picture [T, D], for guidance.
        weight: Its part among several references, and a factor of the gate; 0..4.
        mask: Where it acts [H, W] in 0..1, over the whole painted picture whatever its size; None is everywhere.

    Raises ValueError for a weight or a mask that is none.
    """

    adapter: IPAdapter
    tokens: Tensor
    negative: Tensor
    weight: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        _number("The weight of a reference", self.weight, MAX_STRENGTH)
        if self.mask is None:
            return
        if self.mask.dim() != 2 or not self.mask.numel():
            raise ValueError(f"The mask of a reference must be one of shape [height, width], not {[*self.mask.shape]}.")
        mask = self.mask.detach().float().clamp(0, 1)
        sides = [min(side, MASK_SIDE) for side in mask.shape]
        object.__setattr__(self, "mask", resized(mask, *sides))


@dataclass(frozen=True)
class ImageGate:
    """How much of the references is taken over: the gate of this low-level path.

    Attributes:
        strength: 0 paints the words alone, 1 is as the IP-Adapter was trained; 0..4.
        start, end: Between which parts of the noise schedule it acts, 0 (pure noise) to 1 (the picture).
        blocks: A name in PRESETS, or a table such as "down.2.1 = 1, up.0 = 0.5": a number for blocks of the UNet. A
            block that is not named gets 0, and of two entries for a block the longer one counts.

    Raises ValueError with one clear sentence.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    blocks: str = "all"

    def __post_init__(self) -> None:
        _number("The strength of the gate", self.strength, MAX_STRENGTH)
        _number("start", self.start, 1)
        _number("end", self.end, 1)
        if self.blocks not in PRESETS:
            _table(self.blocks)

    @property
    def shut(self) -> bool:
        """Whether nothing can come through."""
        return self.strength == 0 or self.start >= self.end

    @property
    def always(self) -> bool:
        """Whether it acts at every step."""
        return self.start <= 0 and self.end >= 1

    def weights(self, places: Sequence[str]) -> dict[str, float]:
        """The strength in each block, of those that a UNet has: `place_of` its cross-attentions, in diffusers' order.

        "composition" is the last block on the way down, "style" the second one on the way up (InstantStyle,
        arXiv 2404.02733: down.2.1 and up.0.1 in SDXL). Raises ValueError for a block that the UNet does not have.
        """
        known = list(dict.fromkeys(places))
        if self.blocks == "all":
            return dict.fromkeys(known, self.strength)
        if self.blocks in PRESETS:
            way, index = ("down", -1) if self.blocks == "composition" else ("up", 1)
            table = {[place for place in known if place.startswith(way)][index]: 1.0}
        else:
            table = _table(self.blocks)
        for name in table:
            if not any(_within(place, name) for place in known):
                raise ValueError(
                    f"The table of blocks names {name}, and the diffusion model has only {', '.join(known)}."
                )
        return {place: self.strength * _weight(place, table) for place in known}

    def open_at(self, percent: float) -> bool:
        """Whether it acts where `percent` of the schedule has passed (1 - timestep / 999)."""
        return self.always or self.start <= percent <= self.end


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """References and the gate for them."""

    references: tuple[Reference, ...]
    gate: ImageGate


def shares(references: Sequence[Reference], height: int, width: int) -> Tensor:
    """How strongly each reference acts at each place [R, height, width], before the gate."""
    amounts = torch.stack(
        [
            torch.full((height, width), float(one.weight))
            if one.mask is None
            else one.weight * resized(one.mask, height, width)
            for one in references
        ]
    )
    together = amounts.amax(0) / amounts.sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    return amounts * together


def resized(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask [H, W] at another size, each value the mean of the area that it stands for."""
    return functional.interpolate(mask[None, None], (height, width), mode="area")[0, 0]


def place_of(name: str) -> str:
    """The block of a cross-attention of a diffusers UNet: "down.2.1", "mid", "up.0.1"."""
    found = re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.", name)
    return ".".join(found.groups()) if found else "mid"


@contextmanager
def looking(
    unet: Any, prompts: Sequence[ImagePrompt], *, batch: int, guided: bool, size: tuple[int, int]
) -> Iterator[tuple[dict[str, Any], Callable[[float], None]]]:
    """A diffusers UNet that looks at the references inside the `with` block, through diffusers' own IP-Adapter support.

    Args:
        unet: The `UNet2DConditionModel`; it is left as it was.
        prompts: Image prompts, each with its own gate; those whose gate is shut are not there at all.
        batch: How many pictures are painted.
        guided: Whether classifier-free guidance is at work.
        size: Height and width of the latents.

    Yields:
        More arguments for the pipeline; and a function to be called with a timestep before each step.

    Raises:
        ValueError: An IP-Adapter was made for another UNet; one sentence.
    """
    slots = [slot for prompt in prompts if not prompt.gate.shut for slot in _slots(prompt, size)]
    if not slots:
        yield {}, lambda timestep: None
        return
    names = cross_attentions(unet)
    for slot in slots:
        slot.adapter.check_layers(list(names.values()), unet.config.cross_attention_dim)
    places = {name: place_of(name) for name in names}
    strengths = [slot.gate.weights(list(places.values())) for slot in slots]
    processors = processors_of([slot.adapter for slot in slots], unet)

    def at(timestep: float) -> None:
        percent = 1 - float(timestep) / 999
        for name, processor in processors.items():
            processor.scale = [
                strength[places[name]] * slot.weight if slot.gate.open_at(percent) else 0.0
                for slot, strength in zip(slots, strengths, strict=True)
            ]

    embeds = [slot.embeds(batch, guided).to(unet.device, unet.dtype) for slot in slots]
    masks = [None if slot.masks is None else slot.masks.to(unet.device, unet.dtype) for slot in slots]
    how = {"cross_attention_kwargs": {"ip_adapter_masks": masks}} if any(each is not None for each in masks) else {}
    asked = [torch.zeros(2 if guided else 1, 1, 1)]  # the pipeline repeats one picture's embeds for all of a batch
    with attached(unet, processors, embeds):
        yield {"ip_adapter_image_embeds": asked, **how}, at


@contextmanager
def attached(unet: Any, processors: Mapping[str, Any], tokens: list[Tensor] | None = None) -> Iterator[None]:
    """A diffusers UNet with other processors of its cross-attentions.

    `tokens` [B, R, T, D], for each IP-Adapter, take the place of whatever it is given as `image_embeds`; without them,
    it must be given such a list.
    """
    before = dict(unet.attn_processors)
    unet.set_attn_processor({**before, **{f"{name}.processor": each for name, each in processors.items()}})
    unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = _Projected(tokens), "ip_image_proj"
    try:
        yield
    finally:
        unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = None, None
        unet.set_attn_processor(before)


def processors_of(adapters: Sequence[IPAdapter], unet: Any) -> dict[str, Any]:
    """diffusers' processor for each cross-attention of a UNet, on the layers of IP-Adapters, at strength 1."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    found = {}
    for number, (name, width) in enumerate(cross_attentions(unet).items()):
        tokens = [adapter.config.tokens for adapter in adapters]
        with torch.device("meta"):  # its own layers are not needed
            found[name] = IPAdapterAttnProcessor2_0(width, unet.config.cross_attention_dim, num_tokens=tokens)
        found[name].to_k_ip = nn.ModuleList(adapter.to_k[number] for adapter in adapters)
        found[name].to_v_ip = nn.ModuleList(adapter.to_v[number] for adapter in adapters)
    return found


@dataclass(frozen=True, eq=False)
class _Slot:
    """References of one prompt and one IP-Adapter, as diffusers takes them: masks are [1, R, h, w], or None."""

    adapter: IPAdapter
    references: tuple[Reference, ...]
    gate: ImageGate
    weight: float
    masks: Tensor | None

    def embeds(self, batch: int, guided: bool) -> Tensor:
        """Tokens [B, R, T, D], those of no picture before them if there is guidance."""
        parts = [[one.negative for one in self.references]] if guided else []
        parts.append([one.tokens for one in self.references])
        return torch.cat([torch.stack([each.expand(batch, -1, -1) for each in part], 1) for part in parts])


def _slots(prompt: ImagePrompt, size: tuple[int, int]) -> list[_Slot]:
    acting = [one for one in prompt.references if one.weight]
    if len(acting) == 1 and acting[0].mask is None:
        return [_Slot(acting[0].adapter, tuple(acting), prompt.gate, acting[0].weight, None)]
    parts = shares(acting, *size) if acting else ()
    found = []
    for adapter in dict.fromkeys(one.adapter for one in acting):
        rows = [row for row, one in enumerate(acting) if one.adapter is adapter]
        some = tuple(acting[row] for row in rows)
        found.append(_Slot(adapter, some, prompt.gate, 1.0, parts[rows][None]))
    return found


class _Projected(nn.Module):
    """Where diffusers projects image embeddings to tokens: the references already are tokens."""

    def __init__(self, tokens: list[Tensor] | None) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, image_embeds: list[Tensor]) -> list[Tensor]:
        return image_embeds if self.tokens is None else self.tokens


def _table(text: str) -> dict[str, float]:
    """The entries of a table of blocks. Raises ValueError."""
    table = {}
    for entry in re.split(r"[,;\n]", text):
        if not entry.strip():
            continue
        found = re.fullmatch(r"\s*(mid|(?:down|up)(?:\.\d+){0,2})\s*[=:]\s*(\d*\.?\d+)\s*", entry)
        if not found:
            raise ValueError(f"The table of blocks has the entry {shown(entry.strip())}: write it as down.2.1 = 1.")
        table[found[1]] = float(found[2])
        _number(f"The number of {found[1]}", table[found[1]], MAX_STRENGTH)
    if not table:
        raise ValueError("The table of blocks is empty: name blocks and a number for each, such as down.2.1 = 1.")
    return table


def _weight(place: str, table: Mapping[str, float]) -> float:
    fit = [name for name in table if _within(place, name)]
    return table[max(fit, key=len)] if fit else 0.0


def _within(place: str, name: str) -> bool:
    return f"{place}.".startswith(f"{name}.")


def _number(name: str, value: Any, high: float) -> None:
    if not is_number(value, 0, high):
        raise ValueError(f"{name} must be a number from 0 to {high:g}, not {shown(value)}.")
