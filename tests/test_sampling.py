"""How the next token is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from m3adapter.language.sampling import Sampling, choose


def test_choose() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, -1.0])
    kept = logits.clone()
    generator = torch.Generator().manual_seed(0)
    greedy = Sampling(do_sample=False, repetition_penalty=1.0)
    assert choose(logits, greedy, generator) == 1
    assert choose(logits, greedy, generator, barred=[1]) == 2
    assert choose(logits, Sampling(do_sample=False, repetition_penalty=2.0), generator, said=[1, 1]) == 2
    assert (
        choose(torch.tensor([-1.0, -1.5]), Sampling(do_sample=False, repetition_penalty=2.0), generator, said=[0]) == 1
    )
    assert torch.equal(logits, kept)

    def drawn(**settings: float) -> set[int]:
        sampling = Sampling(**{"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **settings})
        return {choose(logits, sampling, generator) for _ in range(300)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {1, 2}
    assert drawn(top_p=0.01) == {1}
    assert drawn(min_p=0.5) == {1, 2}
    assert drawn(temperature=0.01) == {1}


def by_sorting(
    logits: Tensor, sampling: Sampling, generator: torch.Generator, said: list[int], barred: list[int]
) -> int:
    """The choice as it is defined: the whole vocabulary in order, and then what top_k, min_p and top_p leave of it."""
    scores = logits.float().clone()
    seen = torch.tensor(sorted(set(said)))
    penalty = sampling.repetition_penalty
    scores[seen] = torch.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    scores[barred] = -torch.inf
    if not sampling.do_sample:
        return int(scores.argmax())
    scores, order = (scores / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        scores, order = scores[: sampling.top_k], order[: sampling.top_k]
    probabilities = scores.softmax(0)
    keep = probabilities >= sampling.min_p * probabilities[0]
    keep &= probabilities.cumsum(0) - probabilities < sampling.top_p
    return int(order[torch.multinomial(probabilities * keep, 1, generator=generator)])


@pytest.mark.parametrize("size", [7, 1000, 262_145])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": False},
        {"top_k": 1, "temperature": 0.3},
        {"top_k": 1000, "top_p": 1.0, "min_p": 0.0, "temperature": 3.0},
        {"top_k": 0},
        {"top_k": 0, "top_p": 0.9, "min_p": 0.0, "temperature": 3.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
    ],
)
def test_the_choice_is_that_of_a_sorted_vocabulary(size: int, settings: dict[str, float]) -> None:
    sampling = Sampling(**settings)
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.bfloat16)):  # the short type has many ties
        chance = torch.Generator().manual_seed(seed)
        logits = (torch.randn(size, generator=chance) * (1, 3, 0)[seed]).to(dtype)
        said, barred = (torch.randint(size, (40,), generator=chance)[: size // 2].tolist() for _ in range(2))
        mine, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        for _ in range(2):
            chosen = choose(logits, sampling, mine, said=said, barred=torch.tensor(barred))
            assert chosen == by_sorting(logits, sampling, other, said, barred)
        assert torch.equal(mine.get_state(), other.get_state())


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"top_k": -1},
        {"min_p": 2.0},
        {"max_length": 0},
        {"temperature": float("nan")},
    ],
)
def test_bad_sampling_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)
