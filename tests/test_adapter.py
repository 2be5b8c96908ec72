"""The M³-Adapter: what the gate promises, what masks and widths do, and which stage trains what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

import toys
from m3adapter import stages
from m3adapter.adapter.features import SlotFeatures
from m3adapter.adapter.gate_turns import GateTurns
from m3adapter.adapter.m3_adapter import M3Adapter
from m3adapter.diffusion.condition import Condition
from m3adapter.gate import GateSetting
from m3adapter.training.stage2 import opening
from m3adapter.training.stage_common import group_of
from m3adapter.training.starter import strengthen

TYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def adapter() -> M3Adapter:
    return toys.adapter().requires_grad_(False)


def equal(one: Condition, other: Condition, rows: slice = slice(None)) -> bool:
    """Whether two conditions are the same to the last bit."""
    return all(
        torch.equal(getattr(one, name)[rows], getattr(other, name)[rows]) for name in ("embeds", "pooled", "gate")
    )


def away(one: Condition, other: Condition) -> torch.Tensor:
    """How far the prompt embeddings of each row are apart [B]."""
    return (one.embeds - other.embeds).float().flatten(1).norm(dim=1)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("mode", ["learned", "fixed"])
def test_strength_0_is_the_semantic_path(dtype: torch.dtype, mode: str) -> None:
    adapter = toys.adapter(dtype=dtype).requires_grad_(False)
    features = toys.slot_features().to(dtype=dtype)
    closed = adapter(features, GateSetting(0.0, mode, 1.0))
    assert equal(closed, adapter(features.without_references(), GateSetting(2.0)))
    assert closed.embeds.dtype == dtype and closed.embeds.isfinite().all()
    assert not equal(closed, adapter(features))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rows_without_references_take_the_semantic_path(dtype: torch.dtype) -> None:
    adapter = toys.adapter(dtype=dtype).requires_grad_(False)
    features = toys.slot_features((2, 0, 1, 0)).to(dtype=dtype)
    mixed, semantic = adapter(features), adapter(features.without_references())
    without = ~features.vision_mask.any(1)
    assert without.tolist() == [False, True, False, True]
    assert equal(mixed, semantic, without)
    assert mixed.gate is not None and not mixed.gate[without].any()
    assert (away(mixed, semantic)[~without] > 0).all()


def test_no_reference_no_low_level_feature(adapter: M3Adapter) -> None:
    features = toys.slot_features((2, 0, 1))
    low = adapter.low_level(adapter.semantic(features), features)
    assert low.shape == (3, toys.TOKENS, adapter.config.width)
    assert low.flatten(1).any(1).tolist() == [True, False, True]


def test_padding_changes_nothing(adapter: M3Adapter) -> None:
    batch = adapter(toys.slot_features((2, 1, 0)))
    for row, references in enumerate((2, 1, 0)):
        states = toys.states(5 + row, 9 - 2 * row, seed=row)
        alone = adapter(SlotFeatures.collate([(states, toys.seen(references, seed=row) if references else None)]))
        torch.testing.assert_close(alone.embeds[0], batch.embeds[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.pooled[0], batch.pooled[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.gate[0], batch.gate[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["context", "text", "vision"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_what_is_masked_is_never_read(part: str, dtype: torch.dtype) -> None:
    adapter = toys.adapter(dtype=dtype).requires_grad_(False)
    features = toys.slot_features().to(dtype=dtype)
    mask, values = getattr(features, f"{part}_mask"), getattr(features, part).clone()
    assert not mask.all()
    values[~mask] = 7.0
    assert equal(adapter(features), adapter(replace(features, **{part: values})))
    values[mask] = 7.0
    assert not equal(adapter(features), adapter(replace(features, **{part: values})))


def test_a_slot_without_text_is_fine(adapter: M3Adapter) -> None:
    features = toys.slot_features()
    hidden = replace(features, text_mask=torch.zeros_like(features.text_mask))
    assert adapter(hidden).embeds.isfinite().all()
    none = replace(features, text=features.text[:, :0], text_mask=features.text_mask[:, :0])
    assert equal(adapter(hidden), adapter(none))


def test_the_references_of_others_matter(adapter: M3Adapter) -> None:
    features = toys.slot_features((2, 2, 1))
    shuffled = features.shuffled(torch.tensor([1, 2, 0]))
    assert shuffled.vision_mask.sum(1).tolist() == [2, 1, 2]
    assert (away(adapter(features), adapter(shuffled)) > 0.01).all()
    assert equal(adapter(features, GateSetting(0)), adapter(shuffled, GateSetting(0)))


def test_the_order_of_references_and_of_depths_matters(adapter: M3Adapter) -> None:
    features = toys.slot_features((2, 2))
    for swapped in (features.vision.flip(1), features.vision.flip(2)):
        assert (away(adapter(features), adapter(replace(features, vision=swapped))) > 1e-3).all()


def test_the_order_of_words_matters(adapter: M3Adapter) -> None:
    features = toys.slot_features((0,))
    swapped = replace(features, context=features.context.flip(1))
    assert (away(adapter(features), adapter(swapped)) > 1e-3).all()


def test_the_gate_is_given_out_as_applied(adapter: M3Adapter) -> None:
    features = toys.slot_features((2, 1, 0))
    for strength in (0.5, 1.0, 4.0):
        learned = adapter(features, GateSetting(strength))
        fixed = adapter(features, GateSetting(strength, "fixed", 0.3))
        assert learned.gate is not None and learned.gate.shape == (3, toys.TOKENS, toys.WIDTH)
        assert (learned.gate[:2] > 0).all() and (learned.gate[:2] < strength).all()
        assert not learned.gate[2].any()
        assert learned.gate[0].std(0).min() > 0, "a learned gate is one for each token"
        assert learned.gate[0].std(1).min() > 0, "and for each channel"
        torch.testing.assert_close(fixed.gate[:2], torch.full((2, toys.TOKENS, toys.WIDTH), 0.3 * strength))
        assert not fixed.gate[2].any()
        assert (away(learned, fixed)[:2] > 0).all()


def test_a_fixed_gate_of_1_is_as_open_as_the_learned_one_typically_is() -> None:
    torch.manual_seed(0)
    features = toys.slot_features((2, 1))
    adapter = toys.adapter(config=toys.config(open_gate=0.2)).requires_grad_(False)
    for strength, value in ((1.0, 1.0), (2.0, 0.5), (0.5, 0.0)):
        fixed = adapter(features, GateSetting(strength, "fixed", value))
        torch.testing.assert_close(fixed.gate, torch.full_like(fixed.gate, strength * value * 0.2))
    semantic = adapter.semantic(features)
    low = adapter.low_level(semantic, features)
    measured = opening(adapter, semantic, features)
    torch.testing.assert_close(measured, ((adapter.learned_gate(semantic, low) * low).norm() / low.norm()).item())


def test_a_learned_gate_sees_both_features(adapter: M3Adapter) -> None:
    semantic, low = torch.randn(2, 3, 5, adapter.config.width, generator=toys.generator())
    gate = adapter.learned_gate(semantic, low)
    assert gate.shape == low.shape and (gate > 0).all() and (gate < 1).all()
    assert not torch.equal(gate, adapter.learned_gate(semantic.flip(0), low))
    assert not torch.equal(gate, adapter.learned_gate(semantic, low.flip(0)))


def test_the_gate_opens_with_its_own_sum_and_reads_each_feature_at_its_place() -> None:
    """g = sigmoid(W [h ; l] + b): a large b opens it, a small one shuts it, and the first half of W is that of h."""
    adapter = toys.adapter().requires_grad_(False)
    semantic, low = torch.randn(2, 3, 5, adapter.config.width, generator=toys.generator())
    for bias, setting in ((20.0, 1.0), (-20.0, 0.0)):
        adapter.gate_projection.bias.fill_(bias)
        torch.testing.assert_close(
            adapter.learned_gate(semantic, low), torch.full_like(low, setting), atol=1e-2, rtol=0
        )
    adapter.gate_projection.bias.zero_()
    adapter.gate_projection.weight[:, adapter.config.width :] = 0
    assert torch.equal(adapter.learned_gate(semantic, low), adapter.learned_gate(semantic, low.flip(0)))
    assert not torch.equal(adapter.learned_gate(semantic, low), adapter.learned_gate(semantic.flip(0), low))


def test_the_gated_low_level_feature_is_added_to_the_semantic_one(adapter: M3Adapter) -> None:
    """f = h + s g l, and the condition is what the heads make of f."""
    features = toys.slot_features((2, 1))
    semantic = adapter.semantic(features)
    low = adapter.low_level(semantic, features)
    embeds, pooled = adapter.prompt_embeddings(semantic + 1.5 * adapter.learned_gate(semantic, low) * low)
    condition = adapter(features, GateSetting(1.5))
    torch.testing.assert_close(condition.embeds, embeds)
    torch.testing.assert_close(condition.pooled, pooled)


def test_strength_moves_away_from_the_semantic_path(adapter: M3Adapter) -> None:
    features = toys.slot_features((2, 1))
    semantic = adapter(features, GateSetting(0))
    strengths = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    distances = torch.stack([away(adapter(features, GateSetting(s, "fixed", 0.5)), semantic) for s in strengths])
    assert (distances.diff(dim=0) > 0).all(), distances
    assert equal(semantic, adapter(features, GateSetting(1, "fixed", 0)))


@pytest.mark.parametrize("mode", ["learned", "fixed"])
def test_a_louder_low_level_path_is_a_stronger_gate(mode: str) -> None:
    adapter = toys.adapter().requires_grad_(False)
    features = toys.slot_features((2, 1, 0))
    stronger, usual = adapter(features, GateSetting(1.25, mode)), adapter(features, GateSetting(1, mode))
    strengthen(adapter, 1.25)
    louder = adapter(features, GateSetting(1, mode))
    torch.testing.assert_close(louder.embeds, stronger.embeds, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(louder.pooled, stronger.pooled, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(louder.gate, usual.gate, rtol=1e-3, atol=1e-3)
    assert away(louder, usual)[:2].min() > 10 * away(louder, stronger).max()


def test_wrong_widths_are_named(adapter: M3Adapter) -> None:
    cases = [
        (toys.slot_features(llm_width=40), "a language model of width 24, and this one has 40"),
        (toys.slot_features(width=20), "a vision encoder of width 16 with 3 levels, and this one has 20 with 3"),
        (toys.slot_features(levels=2), "a vision encoder of width 16 with 3 levels, and this one has 16 with 2"),
        (toys.slot_features((5,)), "takes 4 reference pictures, not 5"),
    ]
    for features, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            adapter(features)
        assert toys.one_sentence(caught.value)
    adapter(toys.slot_features((4,)))


def test_a_configuration_must_make_sense() -> None:
    cases = [
        ({"width": 30}, "30 is not a multiple of its 4 heads"),
        ({"num_tokens": 0}, "num_tokens is 0: give a whole number from 1"),
        ({"width": 2**62}, "width is 4611686018427387904: give a whole number from 1 to 1048576"),
        (
            {"num_blocks": 10**400},
            "num_blocks is a whole number of about 401 digits: give a whole number from 1 to 1024",
        ),
        ({"num_tokens": True}, "num_tokens is True: give a whole number from 1 to 1048576"),
        ({"num_heads": "2"}, "num_heads is '2': give a whole number from 1 to 1048576"),
        ({"anchor": 1}, "anchor must be true or false, not 1"),
        ({"open_gate": 0}, "open_gate must be above 0 and up to 1, not 0"),
        ({"open_gate": 1.5}, "open_gate must be above 0 and up to 1, not 1.5"),
    ]
    for changes, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            toys.config(**changes)
        assert toys.one_sentence(caught.value)


def test_an_odd_width_works() -> None:
    adapter = toys.adapter(config=toys.config(width=33, num_heads=3))
    assert adapter(toys.slot_features()).embeds.shape == (3, toys.TOKENS, toys.EMBED_WIDTH)


def test_the_stages_share_nothing_and_leave_nothing_out(adapter: M3Adapter) -> None:
    first, second = adapter.stage1_parameters(), adapter.stage2_parameters()
    assert not first.keys() & second.keys()
    assert first.keys() | second.keys() == dict(adapter.named_parameters()).keys()
    assert {id(p) for p in first.values()}.isdisjoint(id(p) for p in second.values())
    parts = {name.split(".")[0] for name in second}
    assert parts == {
        "vision_in", "vision_in_norm", "vision_level", "vision_reference", "low_block", "low_query_norm",
        "low_attention", "low_mlp", "gate_norm_semantic", "gate_norm_low", "gate_projection",
    }  # fmt: skip


def test_the_second_stage_cannot_touch_the_semantic_path() -> None:
    adapter, features = toys.adapter().requires_grad_(False), toys.slot_features()
    semantic, fused = adapter(features, GateSetting(0)), adapter(features)
    for parameter in adapter.stage2_parameters().values():
        parameter.add_(0.1)
    assert equal(semantic, adapter(features, GateSetting(0)))
    assert not equal(fused, adapter(features))


def test_a_stage_freezes_the_other() -> None:
    adapter = toys.adapter()
    for stage in (1, 2):
        group = group_of(adapter, stage)
        assert {name for name, p in adapter.named_parameters() if p.requires_grad} == group.keys()
    assert "gate_projection.weight" in group and "queries" not in group


def test_each_stage_reaches_all_its_parameters() -> None:
    adapter, features = toys.adapter(), toys.slot_features((4, 1))
    for stage in (1, 2):
        adapter.zero_grad(set_to_none=True)
        group = group_of(adapter, stage)
        condition = adapter(features)
        (condition.embeds.square().sum() + condition.pooled.square().sum()).backward()
        reached = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.any()}
        # the image tokens are used by the language model, not here
        assert reached == group.keys() - {"image_tokens"}


def test_layers_come_from_the_given_operations() -> None:
    made: Counter[str] = Counter()

    class Operations:
        class Linear(nn.Linear):
            def __init__(self, *arguments: int, **how: object) -> None:
                made["Linear"] += 1
                super().__init__(*arguments, **how)

        class LayerNorm(nn.LayerNorm):
            def __init__(self, *arguments: int, **how: object) -> None:
                made["LayerNorm"] += 1
                super().__init__(*arguments, **how)

    adapter = toys.adapter(operations=Operations, dtype=torch.bfloat16)
    layers = [m for m in adapter.modules() if isinstance(m, (nn.Linear, nn.LayerNorm))]
    assert all(isinstance(layer, (Operations.Linear, Operations.LayerNorm)) for layer in layers)
    assert made == Counter(type(layer).__name__ for layer in layers) and len(made) == 2
    assert {p.dtype for p in adapter.parameters()} == {torch.bfloat16}
    plain = toys.adapter(dtype=torch.bfloat16)
    features = toys.slot_features().to(dtype=torch.bfloat16)
    assert equal(adapter(features), plain(features))


def test_features_move_and_keep_their_masks() -> None:
    features = toys.slot_features()
    moved = features.to("cpu", torch.float16)
    for name in ("context", "text", "vision"):
        assert getattr(moved, name).dtype == torch.float16
        assert getattr(moved, f"{name}_mask").dtype == torch.bool
    assert features.to().context.dtype == torch.float32
    assert moved.captions == features.captions and moved.batch == 3


def test_collating_keeps_every_slot_apart() -> None:
    features = toys.slot_features((2, 0, 1))
    assert features.context_mask.sum(1).tolist() == [5, 6, 7]
    assert features.text_mask.sum(1).tolist() == [9, 7, 5]
    assert features.vision_mask.tolist() == [[True, True], [False, False], [True, False]]
    for row, references in enumerate((2, 0, 1)):
        assert torch.equal(features.context[row][features.context_mask[row]], toys.states(5 + row, 1, seed=row).context)
        expected = toys.seen(references, seed=row).levels
        assert torch.equal(features.vision[row][features.vision_mask[row]], expected)
    assert toys.slot_features((0, 0)).vision.shape[:2] == (2, 0)


# Anchored


@pytest.fixture
def anchored() -> M3Adapter:
    return toys.adapter(config=toys.config(anchor=True)).requires_grad_(False)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_untrained_an_anchored_adapter_gives_the_anchor_back(dtype: torch.dtype) -> None:
    adapter = toys.adapter(config=toys.config(anchor=True), dtype=dtype).requires_grad_(False)
    features, anchor = toys.slot_features().to(dtype=dtype), toys.condition(3, gate=False)
    for gate in (GateSetting(0), GateSetting(1), GateSetting(4), GateSetting(2, "fixed", 1.0)):
        condition = adapter(features, gate, anchor)
        for name in ("embeds", "pooled", "negative_embeds", "negative_pooled"):
            assert torch.equal(getattr(condition, name), getattr(anchor, name)), name
        assert condition.captions == features.captions and condition.gate.shape == (3, toys.TOKENS, toys.WIDTH)


def test_an_anchored_adapter_adds_what_a_plain_one_says(anchored: M3Adapter) -> None:
    features, anchor = toys.slot_features(), toys.condition(3)
    plain = toys.adapter().requires_grad_(False)
    plain.load_state_dict({n: v for n, v in anchored.state_dict().items() if not n.startswith("alpha")})
    anchored.alpha.fill_(0.3)
    anchored.alpha_pooled.fill_(-2.0)
    condition, said = anchored(features, GateSetting(1), anchor), plain(features, GateSetting(1))
    expected = anchor.embeds + torch.tanh(torch.tensor(0.3)) * said.embeds
    torch.testing.assert_close(condition.embeds, expected)
    torch.testing.assert_close(condition.pooled, anchor.pooled + torch.tanh(torch.tensor(-2.0)) * said.pooled)
    assert torch.equal(condition.gate, said.gate)
    assert equal(anchored(features, GateSetting(0), anchor), anchored(features.without_references(), None, anchor))


def test_the_first_stage_trains_the_anchored_adapter_away_from_its_anchor() -> None:
    adapter = toys.adapter(config=toys.config(anchor=True))
    assert {"alpha", "alpha_pooled"} <= adapter.stage1_parameters().keys()
    condition = adapter(toys.slot_features(), None, toys.condition(3))
    (condition.embeds.square().sum() + condition.pooled.square().sum()).backward()
    assert adapter.alpha.grad.any() and adapter.alpha_pooled.grad.any()


def test_an_anchor_that_does_not_fit_is_refused(adapter: M3Adapter, anchored: M3Adapter) -> None:
    features, anchor = toys.slot_features(), toys.condition(3)
    long = torch.zeros(3, toys.TOKENS + 1, toys.EMBED_WIDTH)
    cases = [
        (adapter, anchor, "is not anchored and takes no anchor"),
        (anchored, None, r"is anchored: connect the caption, encoded by Encode Text"),
        (anchored, toys.condition(2), "has 2 captions for 3 slots"),
        (anchored, replace(anchor, embeds=anchor.embeds[..., :8]), "of widths 96 and 32, and the anchor has 8 and 32"),
        (anchored, replace(anchor, pooled=anchor.pooled[..., :8]), "of widths 96 and 32, and the anchor has 96 and 8"),
        (anchored, replace(anchor, embeds=long), "33 tokens, which is not a multiple of the M3-Adapter's 32"),
        (anchored, replace(anchor, negative_embeds=long), "33 tokens, which is not a multiple of the M3-Adapter's 32"),
    ]
    for model, given, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            model(features, None, given)
        assert toys.one_sentence(caught.value)


@pytest.mark.parametrize("mode", ["learned", "fixed"])
def test_a_turned_gate_gives_the_same_bits_and_reads_the_features_once(adapter: M3Adapter, mode: str) -> None:
    features, turns, calls = toys.slot_features(), GateTurns(), []
    handle = adapter.low_block.register_forward_hook(lambda *_: calls.append(1))
    for strength in (1.0, 0.0, 0.4, 2.5):
        gate = GateSetting(strength, mode=mode, value=0.7)
        assert equal(stages.fuse(adapter, features, gate, turns=turns), stages.fuse(adapter, features, gate)), strength
    handle.remove()
    assert len(calls) == 1 + 3  # once for all turns, and for each strength above 0 by itself
    others = toys.slot_features((1, 2))
    assert equal(stages.fuse(adapter, others, 1.0, turns=turns), stages.fuse(adapter, others, 1.0))
    bare = others.without_references()
    assert equal(stages.fuse(adapter, bare, 1.0, turns=turns), stages.fuse(adapter, bare, 1.0))
    other = M3Adapter(adapter.config).eval()
    assert equal(stages.fuse(other, bare, 1.0, turns=turns), stages.fuse(other, bare, 1.0))
