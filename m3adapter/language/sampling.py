"""The choice of the next token: its settings, and the choice itself with a random generator of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..limits import number, whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MOST = 2**20  # the upper limit of settings without a natural one


@dataclass(frozen=True)
class Sampling:
    """Settings of the choice of tokens; names and defaults are those of ComfyUI's text generation node.

    Attributes:
        do_sample: Whether to draw tokens at random; if not, the likeliest is taken, and of the settings below only
            the penalty and the lengths matter.
        temperature: Above 0; higher is more random.
        top_k: Draw from the k likeliest tokens only; 0 is all.
        top_p: Draw from the likeliest tokens that together have this probability; above 0, 1 is all.
        min_p: Draw from tokens with at least this share of the likeliest one's probability; 0 is all.
        repetition_penalty: Above 1, tokens that the reply already has become less likely; 1 is no penalty.
        max_length: The most tokens of a reply, not counting thoughts.
        thinking: Whether to let the model think first, if it can; otherwise its chat template asks it not to.
        max_thinking: The most tokens of thoughts in a reply.

    Raises:
        ValueError: A setting is out of range; the message is one sentence.
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
        number("temperature", self.temperature, 0, MOST)
        whole("top_k", self.top_k, 0, MOST)
        number("top_p", self.top_p, 0, 1)
        number("min_p", self.min_p, 0, 1)
        number("repetition_penalty", self.repetition_penalty, 0, MOST)
        whole("max_length", self.max_length, 1, MOST)
        whole("max_thinking", self.max_thinking, 0, MOST)
        for name in ("top_p", "repetition_penalty", *(["temperature"] if self.do_sample else [])):
            if not getattr(self, name):
                raise ValueError(f"{name} is 0: give a number above 0.")


def choose(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator,
    *,
    said: Sequence[int] = (),
    barred: Collection[int] = (),
) -> int:
    """Choose the next token, and return its id.

    Args:
        logits: Logits [V] of any dtype, on any device; they are not changed.
        sampling: The settings.
        generator: A generator on the CPU, which advances by one draw if do_sample.
        said: The ids to which the repetition penalty applies.
        barred: The ids that must not be chosen.
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
    probabilities = scores.softmax(0)
    keep = probabilities >= sampling.min_p * probabilities[0]
    # A token stays while those before it do not reach top_p, so the likeliest one always stays.
    keep &= probabilities.cumsum(0) - probabilities < sampling.top_p
    probabilities = probabilities * keep
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])
