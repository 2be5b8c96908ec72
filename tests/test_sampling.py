"""How the next token is chosen."""

from __future__ import annotations

import pytest
import torch

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
