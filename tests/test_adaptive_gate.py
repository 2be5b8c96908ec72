"""The gate that adapts without training: by comparing whom captions are about."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import toys
from m3adapter.ip_adapter.adaptive_gate import ANYTHING, adapted_gate, subjects


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a fox with a kite in the forest", ["fox"]),
        ("The old Fox and an owl, at night", ["old fox", "owl"]),
        ("on the beach at sunset, a fox & a cat", ["fox", "cat"]),
        ("A picture of her cat in the snow.", ["cat"]),
        ("In the forest", ["in the forest"]),
        ("Ein Fuchs am Strand", ["ein fuchs am strand"]),
        ("灯台の少女", ["灯台の少女"]),
    ],
)
def test_whom_a_caption_is_about(caption: str, found: list[str]) -> None:
    assert subjects(caption) == found


def encode(texts: Sequence[str]) -> Tensor:
    """Words have random directions; what all texts have in common is large."""
    rows = []
    for text in texts:
        words = [torch.randn(64, generator=toys.generator(hash_of(word))) for word in text.removeprefix("a ").split()]
        rows.append(torch.stack(words).sum(0) + 10)
    return torch.stack(rows)


def hash_of(word: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(word))


def test_the_gate_closes_for_another_character() -> None:
    same = adapted_gate(encode, "a fox on the beach", "the fox with a kite, at night", gate=0.8, lowest=0.1)
    other = adapted_gate(encode, "a fox on the beach", "a whale on the beach", gate=0.8, lowest=0.1)
    both = adapted_gate(encode, "a fox", "a whale and a fox by the sea", gate=0.8)
    between = adapted_gate(encode, "a fox", "a little fox", gate=0.8, lowest=0.1)
    assert same.gate == pytest.approx(0.8) and same.likeness == pytest.approx(1)
    assert other.gate == pytest.approx(0.1) and other.likeness < 0.5
    assert both.gate == pytest.approx(0.8) and both.subjects == ("fox", "fox")
    assert 0.1 < between.gate < 0.8
    assert str(other) == f"'whale' and the reference's 'fox' have a similarity of {other.likeness:.2f}"


def test_what_everything_has_in_common_says_nothing() -> None:
    raw = torch.nn.functional.cosine_similarity(*encode(["a fox", "a whale"]), dim=0)
    assert raw > 0.9 and "fox" not in ANYTHING


def test_the_thresholds_are_the_users() -> None:
    how = {"gate": 1.0, "same": 0.2, "other": -1.0}
    assert adapted_gate(encode, "a fox", "a whale", **how).gate > 0.5
    with pytest.raises(ValueError, match="other is 0.5 and same is 0.5"):
        adapted_gate(encode, "a fox", "a whale", gate=1.0, same=0.5, other=0.5)
    with pytest.raises(ValueError, match="A caption is empty"):
        adapted_gate(encode, "a fox", " . ", gate=1.0)
