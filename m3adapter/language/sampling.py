"""How the next token is chosen: the settings, and the choice itself with a random generator of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..values import is_number, is_whole, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MOST = 2**20  # of any setting


@dataclass(frozen=True)
class Sampling:
    """Settings of the language model's choice; names and defaults are those of ComfyUI's text generation node.

    Attributes:
        do_sample: False always takes the likeliest token; the settings below it then play no role, but for the penalty.
        temperature: Above 0; low is sober, high is wild.
        top_k: Only the k likeliest tokens; 0 means all.
        top_p: Only the likeliest tokens that together have this probability; 1 means all.
        min_p: Only tokens with at least this share of the likeliest one's probability; 0 means all.
        repetition_penalty: Above 1 makes tokens less likely that the reply's text already has; 1 is none.
        max_length: Most tokens of a reply, its thoughts not counted.
        thinking: Whether to let a model think first that can; else its chat template asks it not to, where it can.
        max_thinking: Most tokens of thoughts in a reply.

    Raises:
        ValueError: a setting is out of range.
    """

    do_sample: bool = True
    temperature: float = 0.7
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.05
    max_length: int = 256
    thinking: bool = False
    max_thinking: int = 4096

    def __post_init__(self) -> None:
        for name, value, good in (
            ("temperature", self.temperature, is_number(self.temperature, 0, MOST)),
            ("top_k", self.top_k, is_whole(self.top_k, 0, MOST)),
            ("top_p", self.top_p, is_number(self.top_p, 0, 1) and self.top_p > 0),
            ("min_p", self.min_p, is_number(self.min_p, 0, 1)),
            ("repetition_penalty", self.repetition_penalty, is_number(self.repetition_penalty, 0, MOST)),
            ("max_length", self.max_length, is_whole(self.max_length, 1, MOST)),
            ("max_thinking", self.max_thinking, is_whole(self.max_thinking, 0, MOST)),
        ):
            above_zero = name == "repetition_penalty" or (name == "temperature" and self.do_sample)
            if not good or (above_zero and not value):
                raise ValueError(f"{name} is {shown(value)}, which is out of its range.")


def choose(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator,
    *,
    said: Sequence[int] = (),
    barred: Collection[int] = (),
) -> int:
    """The next token's id.

    Args:
        logits: [V], any dtype and device; it is not changed.
        sampling: The settings.
        generator: A CPU generator; it advances by one draw if do_sample.
        said: Ids to which the repetition penalty applies.
        barred: Ids that must not be chosen.
    """
    import torch

    scores = logits.detach().to("cpu", torch.float32, copy=True)
    if said and sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(said)))
        values = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if barred:
        scores[list(barred)] = -math.inf
    if not sampling.do_sample:
        return int(scores.argmax())
    scores, order = (scores / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        scores, order = scores[: sampling.top_k], order[: sampling.top_k]
    chances = scores.softmax(0)
    keep = chances >= sampling.min_p * chances[0]
    # A token stays while those before it have not yet reached top_p: the likeliest one always does.
    keep &= chances.cumsum(0) - chances < sampling.top_p
    chances = chances * keep
    return int(order[torch.multinomial(chances, 1, generator=generator)])
