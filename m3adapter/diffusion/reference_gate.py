"""The gate on reference tokens: how much a picture takes over from references that the model reads beside it.

Edit models put the tokens of reference pictures into the sequence that they attend to. A reference that counts as c
copies of itself adds log c to the logits of its keys:

    A(q) = softmax_j(q · k_j / √d + log c_j) v_j,    c_j = s · w · m_j for a key of a reference, 1 for any other

s is the strength of the gate, w the weight of the reference, and m_j what its mask shows where the key is. At c = 1 it
is the attention as trained; keys with c = 0 are left out. Nothing of it needs weights or a mask of queries by keys:

- `padded` gives queries and keys a few channels more, whose product is log c_j: any attention function does then;
- `merged` attends to runs of keys with one c at a time, and joins the results by their normalisers, which costs no
  more than attending once. It needs attention functions that return them, and c that are the same along a reference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..values import MAX_STRENGTH, number, shown

MAX_WEIGHT = 10.0  # as in a memory of pictures
PAD = 8  # channels: fast kernels want head dimensions that are multiples of it
PARTS = 4  # of the heads, which are widened one after the other: a copy of all would take more memory than a mask
LEAST = 1e-6  # a key that counts less is left out

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ReferenceGate:
    """The gate on reference tokens.

    Attributes:
        strength: 0 removes the references, 1 is as the model was trained, above 1 leans on them; 0..4.
        start: Where in the noise schedule the references begin to act, from 0 (pure noise) to 1 (the picture).
        end: Where in the noise schedule they cease to act.
        weights: How often each reference counts, in their order; 0..10 each. References without one have 1.
        masks: What of each reference counts [H, W] in 0..1, stretched over it, in their order; None is all of it, and
            so is what is missing.

    Raises:
        ValueError: A field is out of range, or a mask has another shape.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    weights: tuple[float, ...] = ()
    masks: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        number("The strength of the gate", self.strength, 0, MAX_STRENGTH)
        number("start_percent", self.start, 0, 1)
        number("end_percent", self.end, 0, 1)
        for weight in self.weights:
            number("The weight of a reference", weight, 0, MAX_WEIGHT)
        for mask in self.masks:
            if mask is not None and (mask.dim() != 2 or not mask.numel()):
                raise ValueError(f"The mask of a reference must be of shape [height, width], not {[*mask.shape]}.")
        shown = tuple(mask is None or bool((mask > 0).any()) for mask in self.masks)  # not again at every step
        object.__setattr__(self, "_shown", shown)

    @property
    def neutral(self) -> bool:
        """Whether the references act exactly as the model was trained."""
        whole = all(mask is None or bool((mask == 1).all()) for mask in self.masks)
        return self.strength == 1 and self.always and all(weight == 1 for weight in self.weights) and whole

    @property
    def always(self) -> bool:
        """Whether the references act at every step."""
        return self.start <= 0 and self.end >= 1

    def copies(self, reference: int) -> float:
        """Return how often a reference counts: strength times weight, 0 if its mask shows nothing."""
        weight = self.weights[reference] if reference < len(self.weights) else 1.0
        shown: tuple[bool, ...] = self.__dict__["_shown"]
        return self.strength * weight if reference >= len(shown) or shown[reference] else 0.0

    def mask(self, reference: int) -> Tensor | None:
        """Return the mask of a reference."""
        return self.masks[reference] if reference < len(self.masks) else None


def parse_weights(text: str) -> tuple[float, ...]:
    """Parse the weights of references, such as "1, 0.5".

    Raises:
        ValueError: The text has another form, or a weight is out of range.
    """
    weights = []
    for part in filter(None, re.split(r"[,;\s]+", text)):
        if not re.fullmatch(r"[0-9]{0,3}\.?[0-9]{0,9}", part) or part == ".":
            raise ValueError(f"weights has {shown(part)}: write a number for each reference, like 1, 0.5.")
        weights.append(number("A weight in weights", float(part), 0, MAX_WEIGHT))
    return tuple(weights)


def tokens_of_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [H, W] as what it shows of each token [height · width] of a reference, the mean over its place."""
    small = functional.interpolate(mask.detach().float().clamp(0, 1)[None, None], (height, width), mode="area")
    return small.flatten()


@dataclass(frozen=True)
class Span:
    """A run of keys that count otherwise than once.

    Attributes:
        start: Its first key.
        length: How many keys it has.
        copies: How often each of them counts: a number, or a tensor [length].
    """

    start: int
    length: int
    copies: float | Tensor


@dataclass(frozen=True, eq=False)
class Keys:
    """How often each key of a sequence counts.

    Attributes:
        count: The number of keys.
        spans: What counts otherwise than once, in order, without overlaps.
    """

    count: int
    spans: tuple[Span, ...]

    def copies(self) -> Tensor:
        """Return how often each key counts [count], on the CPU."""
        copies = torch.ones(self.count)
        for span in self.spans:
            copies[span.start : span.start + span.length] = torch.as_tensor(span.copies, dtype=torch.float32).cpu()
        return copies

    def bias(self) -> Tensor:
        """Return log copies [count], on the CPU; -inf for keys that are left out."""
        copies = self.copies()
        return torch.where(copies < LEAST, -math.inf, copies.clamp(min=LEAST).log())

    def runs(self) -> list[tuple[int, int, float]] | None:
        """Return runs of keys that count alike (first, behind the last, copies); None if they differ key by key."""
        runs: list[tuple[int, int, float]] = []
        at = 0
        for span in [*self.spans, Span(self.count, 0, 1.0)]:
            if isinstance(span.copies, Tensor):
                return None
            for start, stop, copies in ((at, span.start, 1.0), (span.start, span.start + span.length, span.copies)):
                if start < stop and runs and runs[-1][2] == copies and runs[-1][1] == start:
                    runs[-1] = (runs[-1][0], stop, copies)
                elif start < stop:
                    runs.append((start, stop, copies))
            at = span.start + span.length
        return runs


class GatedKeys:
    """Applies `Keys` to attentions, and remembers what it needs for the next one of the same kind."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.runs = keys.runs()
        bias = keys.bias()
        self.kept = None if bool(bias.isfinite().all()) else bias.isfinite().nonzero().flatten()
        self._bias = bias
        self._channels: dict[tuple[torch.device, torch.dtype, int], tuple[Tensor, Tensor]] = {}

    def masked(self, mask: Tensor, like: Tensor) -> Tensor:
        """Return a mask of an attention with the gate in it: booleans of the keys to attend to, or what is added."""
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -math.inf)
        lowest = torch.finfo(mask.dtype).min  # -inf in a row of its own kind of mask gives no number
        return mask + self._bias.clamp(min=lowest).to(mask)

    def padded(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend, *, whole: bool = False) -> Tensor:
        """Attend through channels of their own.

        Args:
            query: [B, H, Q, d].
            key, value: [B, G, count, d], G the number of heads of the keys.
            attend: Returns the attention [B, Q, H' · d'] of queries, keys and values of some of the heads, of any width
                d', divided by its root.
            whole: Whether it must be called once, with all heads.

        Returns:
            The attention [B, Q, H · d].
        """
        heads, groups = query.shape[1], key.shape[1]
        parts = 1 if whole else max(number for number in range(1, PARTS + 1) if groups % number == 0)
        if parts == 1:
            return self._widened(query, key, value, attend).flatten(2)
        total = query.new_empty(query.shape[0], query.shape[2], heads, query.shape[3])
        for part in range(parts):
            of_queries, of_keys = (
                slice(count * part // parts, count * (part + 1) // parts) for count in (heads, groups)
            )
            total[:, :, of_queries] = self._widened(query[:, of_queries], key[:, of_keys], value[:, of_keys], attend)
        return total.flatten(2)

    def _widened(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """Attend with wider heads [B, Q, H, d]."""
        if self.kept is not None:
            kept = self.kept.to(key.device)
            key, value = key.index_select(2, kept), value.index_select(2, kept)
        width = query.shape[-1]
        ones, channels = self._channels_for(query)
        query = torch.cat((query * math.sqrt((width + PAD) / width), ones.expand(*query.shape[:3], PAD)), -1)
        key = torch.cat((key, channels.expand(*key.shape[:3], PAD)), -1)
        found = attend(query, key, functional.pad(value, (0, PAD)))
        return found.unflatten(-1, (query.shape[1], width + PAD))[..., :width]

    def _channels_for(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels of every query [PAD] and of the keys [kept, PAD]; their product is √d' log copies."""
        place = (query.device, query.dtype, query.shape[-1])
        if place not in self._channels:
            bias = self._bias if self.kept is None else self._bias[self.kept]
            root = math.sqrt(query.shape[-1] + PAD)
            share = 2.0 ** round(math.log2(root) / 2)  # about the same size in both, and exact in any type
            rest = bias * (root / share)
            channels = torch.zeros(len(bias), PAD, dtype=query.dtype)
            for index in range(2):  # the second one has what the type rounds off the first
                channels[:, index] = rest.to(query.dtype)
                rest = rest - channels[:, index].float()
            ones = torch.zeros(PAD)
            ones[:2] = share
            self._channels[place] = ones.to(query), channels.to(query)
        return self._channels[place]

    def merged(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor | None:
        """Attend to runs of keys one at a time.

        Args:
            query, key, value: [B, H, ., d].
            scale: Factor of the products; 1/√d if None.

        Returns:
            The attention [B, H, Q, d]; None if there is no attention function here that returns its normaliser, or the
            keys of a reference count differently.
        """
        if self.runs is None:
            return None
        total: Tensor | None = None
        norm: Tensor | None = None
        for start, stop, copies in self.runs:
            if copies < LEAST:
                continue
            found = _normalised(query, key[:, :, start:stop], value[:, :, start:stop], scale)
            if found is None:
                return None
            part, size = found
            if copies != 1:
                size = size + math.log(copies)
            if total is None or norm is None:
                total, norm = part, size
                continue
            share = torch.sigmoid(size - norm)[..., None]
            share = share.to(total.dtype)
            total = torch.lerp(total, part, share) if total.requires_grad else total.lerp_(part, share)
            norm = torch.logaddexp(norm, size)
        return total


def _normalised(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> tuple[Tensor, Tensor] | None:
    """Return an attention and the logarithms of its normalisers [B, H, Q], by a fast kernel, if torch has one."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)
    if query.device.type != "cuda" or torch.version.hip:
        return None
    cuda = torch.backends.cuda
    if not cuda.can_use_flash_attention(cuda.SDPAParams(query, key, value, None, 0.0, False, False)):
        return None
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[:2]
