"""The gate on reference latents, on toys of every class of the engine that reads them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional

from live_bytes import LiveBytes
from m3adapter.diffusion.reference_gate import GatedKeys, Keys, ReferenceGate, Span, parse_weights, tokens_of_mask
from m3adapter.diffusion.reference_pictures import subjects_on_grey
from runs import inside

FAMILIES = (
    "flux_kontext", "flux2_klein", "longcat", "qwen_edit", "qwen_edit_2511", "lumina2", "z_image", "z_image_omni",
    "omnigen2", "boogu", "krea2", "joyimage", "mage_flow",
)  # fmt: skip
# Their engine moves the picture away from the words as soon as there is a reference, which no attention undoes.
MOVED = ("omnigen2", "boogu")


def toy(test: Any) -> Any:
    """Mark a test as one that needs ComfyUI."""
    return pytest.mark.comfy(test)


@toy
def test_a_toy_of_every_family_paints_and_looks_at_its_reference() -> None:
    found = inside("toys_paint")
    assert tuple(found) == FAMILIES
    for family, seen in found.items():
        side = 64 if family in ("flux2_klein", "mage_flow") else 32
        assert seen["size"] == [side, side, 3] and seen["finite"] and seen["latent"], family
        assert seen["moved"] > 0.1, family


@toy
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gate_goes_from_no_references_to_the_stock_model_and_beyond(family: str) -> None:
    found = inside("gate_contract", family)
    assert found["one"] == 0 == found["zero"] < 0.1 < found["moved"]
    assert found["nearly one"] < 1e-5 and (found["left out"] < 1e-5 or family in MOVED)
    from_none, from_stock = found["from none"], found["from stock"]
    assert from_none[0] == 0 and all(one < other for one, other in pairwise(from_none))
    one = from_stock.index(0)
    assert one == 4 and all(x > y for x, y in pairwise(from_stock[:5])) and from_stock[5] < from_stock[6]
    for name in ("zero in pairs", "second off", "second masked", "all masked", "shown whole", "weights", "untouched"):
        assert found[name] == 0, name


@toy
@pytest.mark.parametrize("family", FAMILIES)
def test_the_keys_that_are_gated_are_those_that_change_with_the_reference(family: str) -> None:
    found = inside("reference_keys", family)
    assert found["wrong"] == found["missed"] == 0 < found["attentions"]


@toy
@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["flux_kontext", "flux2_klein", "qwen_edit", "z_image", "omnigen2", "krea2", "joyimage"]
)
def test_the_gate_works_with_all_that_may_be_on_a_model(family: str) -> None:
    found = inside("reference_together", family)
    assert found["acts"] > 0.01 and found["untouched"]
    for name, seen in found.items():
        if name.startswith("method "):
            assert seen[0] == seen[1] == 0 < 0.01 < seen[2], name
    assert found["one without"][0] > 0.01 and found["one without"][1] == 0
    assert found["batch"] < 1e-4 and found["twice"] < 1e-4
    assert found["masked"][0] < 1e-5 and found["masked"][1] > 0.01
    assert found["window"][0] == 0 < 0.01 < found["window"][1] and found["never"] == 0
    assert found["limits asked"] == 6, "both limits once a step, for conditions in batches of their own"
    assert found["override"][0] == 0 < min(found["override"][1:])
    assert sorted(found["kernels"]) == ["basic", "pytorch", "split", "sub_quad"]
    assert max(found["kernels"].values()) < 1e-4
    assert found["lora"] > 0.01 and found["lora shut"] == found["after lora"] == 0
    if "control" in found:
        assert found["control"][0] > 0.01 and found["control"][1] == 0


@toy
@pytest.mark.slow
def test_the_gate_takes_no_more_memory_than_the_stock_model() -> None:
    found = inside("gate_memory")
    assert len(found) == 6
    for name, (ratio, moved) in found.items():
        assert ratio <= 1.05 and moved > 0.01, (name, ratio)


@toy
@pytest.mark.slow
@pytest.mark.parametrize("family", ["flux_kontext", "qwen_edit"])
def test_the_gate_does_the_same_to_weights_that_are_streamed(family: str) -> None:
    found = inside("gate_streamed", family)
    assert min(found["acts"]) > 0.1, "gates 0, 0.5 and 1, without and with a LoRA"
    assert 0 < found["part"] < 1 and found["streamed"] == [0] * 6
    assert found["dynamic"] == [0] * 3


@toy
def test_an_edit_model_of_the_library_paints_the_same_in_the_engine_at_every_gate() -> None:
    found = inside("edit_parity")
    assert found["schedule"] < 1e-6 and len(found["apart"]) == 7
    assert max(found["apart"].values()) < 1e-5 < 0.1 < min(found["moved"])


@toy
def test_what_cannot_be_gated_is_refused_in_a_sentence() -> None:
    found = inside("reference_refusals")
    assert found.pop("many") and found.pop("tiny and narrow")
    assert found == {
        "sdxl": "model is an SDXL model, which reads no reference latents: use Apply IP-Adapter.",
        "video": "model is of the kind WAN21, whose references have no gate: connect an edit model such as FLUX.2, "
        "FLUX.1 Kontext or Qwen-Image-Edit.",
        "inpainting": "model is for inpainting or guided by a picture, and takes no reference latents: connect an edit "
        "model such as FLUX.2 or FLUX.1 Kontext.",
        "twelve": "Gate References: OmniGen2 takes 5 references at most, and the conditioning has 12: remove some.",
        "narrow": "Gate References: a reference latent of 1 x 25 places has sides that are no multiples of 2, as "
        "Z-Image and Lumina need them: resize the picture to multiples of 16 pixels.",
        "ignored": "Gate References: the model does not look at its references: add Edit Model Reference Method to the "
        "conditioning.",
    }


@toy
def test_the_gate_adapts_to_the_subjects_by_any_text_encoder_or_language_model() -> None:
    found = inside("adaptive_gates")
    assert found.pop("node") == 0, "the node is the gate"
    assert sorted(found) == ["bare", "language model", "pooled"]
    for name, ((same, alike, said), (other, unlike, _)) in found.items():
        assert same == pytest.approx(0.8) and alike == pytest.approx(1) and other == 0 > unlike - 0.55, name
        assert said == "gate 0.80: 'fox' and the reference's 'fox' have a similarity of 1.00"


@toy
def test_a_stock_painter_lowers_the_gate_for_references_of_other_subjects_and_says_so() -> None:
    found = inside("adaptive_painter")
    assert found["apart"] == 0 < 0.01 < found["acts"], "the whale is left out; a user's picture has no caption"
    assert found["notes"] == [
        "gate 0.80: 'fox' and the reference's 'fox' have a similarity of 1.00",
        "gate 0.00: 'fox' and the reference's 'whale' have a similarity of -0.03",
    ]


# Without ComfyUI


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **how: Any) -> torch.Tensor:
    """Attention [B, Q, H · d] by torch."""
    return functional.scaled_dot_product_attention(query, key, value, **how).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("width", [16, 128])
@pytest.mark.parametrize(
    "spans",
    [
        (Span(5, 6, 0.5), Span(11, 4, 2.0)),
        (Span(0, 6, 0.0), Span(11, 9, 3.0)),
        (Span(3, 4, torch.tensor([0.0, 0.5, 1.0, 2.0])), Span(7, 2, 0.3)),
    ],
)
def test_no_form_of_the_gate_needs_a_mask(spans: tuple[Span, ...], width: int) -> None:
    source = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, 3, 20, width, generator=source) for _ in range(3))
    keys = GatedKeys(Keys(20, spans))
    bias = keys.keys.bias()[None]
    expected = attended(query, key, value, attn_mask=bias)
    assert (attended(query, key, value) - expected).abs().max() > 0.05
    assert torch.allclose(keys.padded(query, key, value, attended), expected, atol=1e-5)
    merged = keys.merged(query, key, value)
    if any(torch.is_tensor(span.copies) for span in spans):
        assert merged is None
    else:
        assert torch.allclose(merged.transpose(1, 2).flatten(2), expected, atol=1e-5)
    for mask in (torch.zeros(2, 1, 1, 20), torch.ones(1, 20, 20, dtype=torch.bool)):
        assert torch.allclose(attended(query, key, value, attn_mask=keys.masked(mask, query)), expected, atol=1e-5)
    low = [each.bfloat16() for each in (query, key, value)]
    rounded = attended(*low, attn_mask=bias.bfloat16()).float()
    assert (keys.padded(*low, attended).float() - expected).abs().max() < 2 * (rounded - expected).abs().max()


def test_a_reference_that_counts_twice_is_two_copies_of_it_and_moves_only_its_own_share() -> None:
    source = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, 1, 9, 8, generator=source) for _ in range(2))
    shares = torch.eye(9)[None, None, :, :8]  # the attention is then what each of the first eight keys gets
    once = attended(query, key, shares)
    twice = GatedKeys(Keys(9, (Span(4, 2, 2.0),))).padded(query, key, shares, attended)
    copied = attended(query, torch.cat((key, key[:, :, 4:6]), 2), torch.cat((shares, shares[:, :, 4:6]), 2))
    assert torch.allclose(twice, copied, atol=1e-6)
    others = torch.cat((twice[..., :4], twice[..., 6:]), -1) / torch.cat((once[..., :4], once[..., 6:]), -1)
    assert torch.allclose(others, others[..., :1].expand_as(others), atol=1e-5) and (others < 1).all()


def test_runs_join_what_counts_alike() -> None:
    assert Keys(9, (Span(2, 3, 0.5), Span(5, 2, 0.5))).runs() == [(0, 2, 1.0), (2, 7, 0.5), (7, 9, 1.0)]
    assert Keys(4, (Span(0, 4, 2.0),)).runs() == [(0, 4, 2.0)]
    assert Keys(4, (Span(0, 2, torch.ones(2)),)).runs() is None


def test_a_mask_is_stretched_over_the_tokens_of_its_reference() -> None:
    mask = torch.zeros(8, 6)
    mask[:4, :3] = 1
    assert tokens_of_mask(mask, 2, 2).tolist() == [1, 0, 0, 0]
    assert tokens_of_mask(mask, 1, 1).tolist() == [0.25] and tokens_of_mask(torch.ones(1, 1), 5, 3).eq(1).all()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"strength": 5}, "The strength of the gate is 5: give a number from 0 to 4."),
        ({"strength": math.nan}, "The strength of the gate is nan: give a number from 0 to 4."),
        ({"end": 2}, "end_percent is 2: give a number from 0 to 1."),
        ({"weights": (1.0, -1.0)}, "The weight of a reference is -1.0: give a number from 0 to 10."),
        ({"masks": (torch.ones(3),)}, "The mask of a reference must be of shape [height, width], not [3]."),
    ],
)
def test_a_gate_out_of_range_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as raised:
        ReferenceGate(**fields)
    assert str(raised.value) == complaint


def test_weights_are_numbers_for_each_reference() -> None:
    assert parse_weights("1, .5;2 0") == (1.0, 0.5, 2.0, 0.0) and parse_weights(" ") == ()
    for text, said in {
        "1, x": "weights has 'x'",
        "1e3": "weights has '1e3'",
        "11": "A weight in weights is 11.0",
    }.items():
        with pytest.raises(ValueError, match=said):
            parse_weights(text)


def test_a_gate_that_changes_nothing_is_known_as_such() -> None:
    assert ReferenceGate(weights=(1.0,), masks=(None, torch.ones(2, 2))).neutral
    for fields in ({"strength": 0.5}, {"end": 0.9}, {"weights": (1.0, 0.9)}, {"masks": (torch.zeros(2, 2),)}):
        assert not ReferenceGate(**fields).neutral


def test_a_mask_is_looked_at_once_and_not_at_every_step() -> None:
    gate = ReferenceGate(masks=(torch.zeros(2, 2), torch.eye(2), None))
    with LiveBytes() as live:
        assert [gate.copies(reference) for reference in range(4)] == [0, 1, 1, 1]
    assert live.most == 0


def test_a_reference_on_grey_has_its_subject_and_nothing_else() -> None:
    pictures = torch.rand(2, 40, 60, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 20, 30)
    mask[:, 4:12, 10:20] = 1  # half the size of the pictures
    found, masks = subjects_on_grey(pictures, mask)
    assert found.shape == pictures.shape and masks.shape == (2, 40, 60)
    assert torch.equal(found[:, 10:22, 22:38], pictures[:, 10:22, 22:38])
    assert found[:, :6].eq(0.5).all() and found[:, :, 44:].eq(0.5).all()
    small, masks = subjects_on_grey(pictures, mask, crop=True)
    assert small.shape == (2, 18, 22, 3) and masks.shape == (2, 18, 22)
    assert torch.equal(small, found[:, 7:25, 19:41])


@pytest.mark.parametrize(
    ("masks", "complaint"),
    [
        (torch.zeros(1, 8, 8), "mask shows nothing: paint the subject white."),
        (torch.ones(3, 8, 8), "mask holds 3 masks and image 2 pictures: give one mask, or one for each."),
    ],
)
def test_a_mask_that_fits_no_picture_is_refused(masks: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError) as raised:
        subjects_on_grey(torch.rand(2, 8, 8, 3), masks, crop=True)
    assert str(raised.value) == complaint
