"""Conditions: taken apart and put together, and to ComfyUI's CONDITIONING and back without loss."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

import toys
from m3adapter.diffusion.condition import Condition


def same(one: Condition, other: Condition) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Condition)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("gate", [True, False])
def test_splitting_and_joining(gate: bool) -> None:
    condition = toys.condition(3, gate=gate)
    parts = condition.split()
    assert [part.batch for part in parts] == [1, 1, 1]
    assert [part.captions for part in parts] == [(caption,) for caption in condition.captions]
    assert torch.equal(parts[1].negative_pooled[0], condition.negative_pooled[1])
    assert same(Condition.concatenate(parts), condition)
    assert not same(Condition.concatenate(parts[::-1]), condition)


def test_splitting_without_captions() -> None:
    parts = replace(toys.condition(2), captions=()).split()
    assert [part.captions for part in parts] == [(), ()]


def test_a_gate_is_lost_where_one_has_none() -> None:
    joined = Condition.concatenate([toys.condition(2), toys.condition(1, gate=False)])
    assert joined.gate is None and joined.batch == 3


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("captions", [(), ("a fox",)])
def test_to_conditioning_and_back(gate: bool, captions: tuple[str, ...]) -> None:
    condition = replace(toys.condition(1, gate=gate), captions=captions)
    positive, negative = condition.positive(), condition.negative()
    assert same(Condition.from_conditioning(positive, negative), condition)
    assert positive[0][0] is condition.embeds and positive[0][1]["pooled_output"] is condition.pooled
    assert negative[0][0] is condition.negative_embeds
    assert set(negative[0][1]) == {"pooled_output"}
    assert ("m2chat_gate" in positive[0][1]) == gate


def test_a_stock_encoders_conditioning() -> None:
    embeds, pooled = torch.randn(1, 77, 8), torch.randn(1, 4)
    stock = [[embeds, {"pooled_output": pooled, "width": 512}]]
    condition = Condition.from_conditioning(stock, stock)
    assert condition.gate is None and condition.captions == ()
    assert torch.equal(condition.negative_embeds, embeds)


def test_what_is_no_sdxl_conditioning() -> None:
    good = toys.condition().positive()
    bare = [[torch.zeros(1, 77, 8), {}]]
    none = [[torch.zeros(1, 77, 8), {"pooled_output": None}]]
    for positive, negative, words in (
        (good * 2, good, "The positive conditioning has 2 entries"),
        (good, [], "The negative conditioning has 0 entries"),
        (bare, good, "The positive conditioning has no pooled output"),
        (good, none, "The negative conditioning has no pooled output"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            Condition.from_conditioning(positive, negative)
        assert toys.one_sentence(caught.value)


def test_moving() -> None:
    moved = toys.condition(2).to("cpu", torch.bfloat16)
    assert {moved.embeds.dtype, moved.pooled.dtype, moved.negative_embeds.dtype, moved.negative_pooled.dtype} == {
        torch.bfloat16
    }
    assert moved.gate is not None and moved.gate.dtype == torch.float32, "the gate is shown, not computed with"
    assert toys.condition(gate=False).to(dtype=torch.float16).gate is None
    assert same(toys.condition(2).to(), toys.condition(2))
