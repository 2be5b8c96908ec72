"""The choice of the next token: its settings, and the choice itself with a random generator of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..values import number, whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MOST = 2**20  # the upper limit of settings without a natural one
# How many of the likeliest tokens are looked at without top_k, before all of them are.
_WIDTHS = (256, 4096)
_GROUP = 128  # tokens whose highest score is looked at before they are


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
    barred: Collection[int] | Tensor = (),
) -> int:
    """Choose the next token, and return its id.

    The vocabulary is never sorted as a whole: only the likeliest tokens are, and they alone leave the logits' device.
    Of equally likely tokens the one with the lower id comes first.

    Args:
        logits: Logits [V] of any dtype, on any device; they are not changed.
        sampling: The settings.
        generator: A generator on the CPU, which advances by one draw if do_sample.
        said: The ids to which the repetition penalty applies, in any order, repeated or not.
        barred: The ids that must not be chosen; a tensor of them on the logits' device is the fastest.
    """
    import torch

    scores = logits.detach().to(torch.float32, copy=True)
    if said and sampling.repetition_penalty != 1:
        seen = torch.tensor(said, device=scores.device)
        values = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if len(barred):
        index = barred if isinstance(barred, torch.Tensor) else torch.tensor(list(barred))
        scores[index.to(scores.device)] = -math.inf
    if not sampling.do_sample:
        groups = _grouped(scores)
        group = int(groups.amax(1).argmax())
        return group * _GROUP + int(groups[group].argmax())
    if sampling.top_k:
        best, order = _likeliest(scores, sampling.top_k, sampling.temperature)
        probabilities = best.softmax(0)
        return int(order[torch.multinomial(probabilities * _kept(probabilities, sampling), 1, generator=generator)])
    # No token is less likely than the last of those that are drawn from, so it is enough to look at ever more of them
    # until one is reached that top_p or min_p leaves out.
    every = (scores / sampling.temperature).softmax(0)
    widths = _WIDTHS if sampling.min_p or sampling.top_p < 1 else ()
    for width in (*widths, len(scores)):
        probabilities, order = _likeliest(every, width)
        keep = _kept(probabilities, sampling)
        if not keep[-1]:
            break
    # A draw is from the whole vocabulary, whatever was looked at.
    weights = torch.zeros(len(scores))
    weights[: len(order)] = probabilities * keep
    return int(order[torch.multinomial(weights, 1, generator=generator)])


def _likeliest(scores: Tensor, count: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the `count` highest of the scores [V] / temperature in descending order, and their ids, on the CPU."""
    import torch

    if count * _GROUP >= len(scores):
        best, order = (scores.cpu() / temperature).sort(descending=True, stable=True)
        return best[:count], order[:count]
    # They lie in groups whose own highest is at least the highest of the group at that rank.
    groups = _grouped(scores)
    rows = _at_least(groups.amax(1), count)
    found = groups[rows].flatten()
    places = _at_least(found, count)
    ids = (rows[:, None] * _GROUP + torch.arange(_GROUP, device=rows.device)).flatten()[places].cpu()
    best, order = (found[places].cpu() / temperature).sort(descending=True, stable=True)
    return best[:count], ids[order[:count]]


def _grouped(scores: Tensor) -> Tensor:
    """Return the scores [V] in groups of neighbours [V / _GROUP, _GROUP], the last one filled up."""
    import torch

    if missing := -len(scores) % _GROUP:
        scores = torch.nn.functional.pad(scores, (0, missing), value=-math.inf)
    return scores.view(-1, _GROUP)


def _at_least(scores: Tensor, rank: int) -> Tensor:
    """Return the places, in ascending order, of the `rank` highest scores and of all that may equal the last of them.

    `topk` alone chooses freely among equal scores, and division by the temperature makes a few more of them equal.
    """
    least = scores.topk(rank, sorted=False).values.min()
    return (~(scores < least - least.abs() * 1e-6)).nonzero()[:, 0]


def _kept(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Return which of the likeliest tokens are drawn from, given their probabilities in descending order."""
    keep = probabilities >= sampling.min_p * probabilities[0]
    # A token stays while those before it do not reach top_p, so the likeliest one always stays.
    return keep & (probabilities.cumsum(0) - probabilities < sampling.top_p)
