"""IP-Adapter in the library: recognised by a file's contents, and at work in diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import toys
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.ip_adapter.files import check_file, read_config
from m3adapter.ip_adapter.image_prompt import ImageGate, ImagePrompt, Reference, place_of, shares
from m3adapter.ip_adapter.ip_adapter import (
    IPAdapter,
    cross_attentions,
    load_ip_adapter,
    new_base,
)

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("ip"))


@pytest.fixture(scope="module")
def decoder(folder: Path) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(folder)


def saved(decoder: DiffusionDecoder, path: Path, kind: str = "base", seed: int = 0) -> Path:
    save_file(toys.ip_adapter_weights(decoder.unet, kind, seed=seed), path / f"{kind}{seed}.safetensors")
    return path / f"{kind}{seed}.safetensors"


def adapter(decoder: DiffusionDecoder, path: Path, kind: str = "base", seed: int = 0) -> IPAdapter:
    return load_ip_adapter(saved(decoder, path, kind, seed))


def features(kind: str, seed: int = 9) -> Tensor:
    """What a vision encoder might return for no picture and for a picture."""
    shape = (2, toys.VISION_WIDTH) if kind == "base" else (2, 17, toys.VISION_WIDTH)
    found = torch.randn(*shape, generator=toys.generator(seed))
    return found if kind == "plus" else torch.cat([torch.zeros_like(found[:1]), found[1:]])


def reference(ip: IPAdapter, seed: int = 9, **how: Any) -> Reference:
    with torch.no_grad():
        negative, tokens = ip.encode(features(ip.config.kind, seed))
    return Reference(ip, tokens, negative, **how)


def looking(decoder: DiffusionDecoder, *references: Reference, **gate: Any) -> DiffusionDecoder:
    return decoder.with_image_prompt(ImagePrompt(references, ImageGate(**gate)))


def paint(decoder: DiffusionDecoder, batch: int = 1, **how: Any) -> Tensor:
    return decoder.decode(toys.condition(batch), seed=3, **{"steps": 3, **how})


# Files


def test_files_are_recognised_by_their_contents(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    base, plus = adapter(decoder, tmp_path).config, adapter(decoder, tmp_path, "plus").config
    widths = tuple(cross_attentions(decoder.unet).values())
    assert (base.kind, base.image_width, base.num_tokens, base.embed_width) == ("base", 16, 4, 96)
    assert (plus.kind, plus.image_width, plus.num_tokens, plus.embed_width) == ("plus", 16, 16, 96)
    assert base.layer_widths == plus.layer_widths == widths
    assert base.describe() == (
        f"IP-Adapter of the kind base, 4 tokens 96 wide for {len(widths)} layers; it needs image embeddings 16 wide."
    )


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_a_bin_of_the_release_is_the_same(decoder: DiffusionDecoder, tmp_path: Path, kind: str) -> None:
    path = saved(decoder, tmp_path, kind)
    nested: dict[str, Weights] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in load_file(path).items():
        part, _, rest = name.partition(".")
        nested[part][rest] = value
    torch.save(nested, tmp_path / "renamed.bin")
    one, other = load_ip_adapter(path), load_ip_adapter(tmp_path / "renamed.bin")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_published_sizes_are_known() -> None:
    """Checks only the shapes in the release's files."""
    widths = [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10
    layers = {
        f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight": (width, 2048)
        for number, width in enumerate(widths)
        for which in "kv"
    }
    for image_width, encoder in ((1024, "CLIP ViT-H"), (1280, "CLIP ViT-bigG")):
        found = read_config("x", {"image_proj.proj.weight": (8192, image_width), **layers})
        assert found.num_tokens == 4 and found.encoder() == f"{encoder} (image embeddings {image_width} wide)"
    plus = {
        "image_proj.latents": (1, 16, 1280),
        "image_proj.proj_in.weight": (1280, 1280),
        "image_proj.layers.0.1.1.weight": (5120, 1280),
    }
    found = read_config("x", {**plus, **layers})
    assert (found.kind, found.num_tokens) == ("plus", 16) and len(found.layer_widths) == 70
    assert found.encoder() == "CLIP ViT-H (hidden states 1280 wide)"


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_what_is_saved_has_the_names_of_the_release(decoder: DiffusionDecoder, tmp_path: Path, kind: str) -> None:
    weights = toys.ip_adapter_weights(decoder.unet, kind)
    opened = adapter(decoder, tmp_path, kind)
    for path, file in (
        (tmp_path / "of", tmp_path / "of" / "ip_adapter.safetensors"),
        (tmp_path / "a.safetensors",) * 2,
    ):
        opened.save_pretrained(path)
        again = load_file(file)
        assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
        assert IPAdapter.from_pretrained(path).config == opened.config


def test_a_new_one_has_the_shapes_of_the_release(decoder: DiffusionDecoder) -> None:
    weights = toys.ip_adapter_weights(decoder.unet)
    fresh = new_base(16, 96, list(cross_attentions(decoder.unet).values()))
    assert {name: value.shape for name, value in fresh.published().items()} == {
        name: value.shape for name, value in weights.items()
    }


def test_other_files_are_named(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    cure = "choose an IP-Adapter for SDXL, of the kinds base, plus or plus-face."
    layers = {f"ip_adapter.{2 * n + 1}.to_{w}_ip.weight": torch.zeros(4, 768) for n in range(16) for w in "kv"}
    good = toys.ip_adapter_weights(decoder.unet)
    projection = {name: value for name, value in good.items() if name.startswith("image_proj.")}
    face = {"image_proj.proj.0.weight": torch.zeros(4, 4), "image_proj.norm.weight": torch.zeros(4)}
    lost = {name: value for name, value in good.items() if name != "ip_adapter.3.to_v_ip.weight"}
    for weights, sentence in (
        ({**projection, **layers}, f"x.safetensors is an IP-Adapter for Stable Diffusion 1.5: {cure}"),
        ({**good, **face}, f"x.safetensors is a FaceID IP-Adapter, which needs a face recogniser: {cure}"),
        (
            {**good, **face, "image_proj.proj.3.weight": torch.zeros(4)},
            f"x.safetensors is an IP-Adapter of the kind full-face: {cure}",
        ),
        ({"lora_unet_a.lora_down.weight": torch.zeros(4, 4)}, f"x.safetensors is a LoRA: {cure}"),
        (projection, f"x.safetensors is half of an IP-Adapter: {cure}"),
        (lost, "x.safetensors is incomplete: it lacks ip_adapter.3.to_v_ip.weight, so get it again."),
    ):
        save_file(weights, tmp_path / "x.safetensors")
        for opened in (check_file, load_ip_adapter):
            with pytest.raises(ValueError) as error:
                opened(tmp_path / "x.safetensors")
            assert str(error.value) == sentence and toys.one_sentence(error.value)
    (tmp_path / "x.safetensors").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="pickle"):
        check_file(tmp_path / "x.safetensors")


def test_a_wrong_vision_encoder_is_named(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        adapter(decoder, tmp_path).encode(torch.zeros(1, 24))
    assert str(error.value) == (
        "The vision encoder is the wrong one for this IP-Adapter: it gives features 24 wide, but this one, "
        "of the kind base, needs image embeddings 16 wide."
    )


# Painting through diffusers


@pytest.mark.parametrize("kind", ["base", "plus"])
@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_it_paints_what_diffusers_paints(
    decoder: DiffusionDecoder, folder: Path, tmp_path: Path, kind: str, guidance: float
) -> None:
    ip = adapter(decoder, tmp_path, kind)
    ours = paint(looking(decoder, reference(ip), strength=0.6), batch=2, guidance=guidance)
    pipeline = DiffusionDecoder.from_pretrained(folder).pipeline
    pipeline.load_ip_adapter(str(tmp_path), subfolder="", weight_name=f"{kind}0.safetensors", image_encoder_folder=None)
    toys.frozen(pipeline).set_ip_adapter_scale(0.6)
    condition = toys.condition(2)
    seen = features(kind)[:, None] if guidance > 1 else features(kind)[1:, None]
    theirs = pipeline(
        prompt_embeds=condition.embeds,
        pooled_prompt_embeds=condition.pooled,
        negative_prompt_embeds=condition.negative_embeds,
        negative_pooled_prompt_embeds=condition.negative_pooled,
        ip_adapter_image_embeds=[seen],
        latents=torch.cat([torch.randn(1, 4, 4, 4, generator=toys.generator(3)) for _ in range(2)]),
        num_inference_steps=3,
        guidance_scale=guidance,
        output_type="pt",
    ).images.permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (ours - paint(decoder, batch=2, guidance=guidance)).abs().max() > 1e-2


def test_a_shut_gate_paints_the_words_to_the_last_bit(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    one = reference(adapter(decoder, tmp_path))
    plain = paint(decoder)
    for gate in ({"strength": 0.0}, {"start": 0.4, "end": 0.4}, {"start": 0.99, "end": 1.0}, {"blocks": "mid = 0"}):
        assert torch.equal(paint(looking(decoder, one, **gate)), plain), gate
    assert torch.equal(paint(looking(decoder, reference(one.adapter, weight=0.0))), plain)
    assert not torch.equal(paint(looking(decoder, one)), plain)


@pytest.mark.slow
def test_the_decoder_is_left_as_it_was(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    before, keys = paint(decoder), set(decoder.unet.state_dict())
    seeing = looking(decoder, reference(adapter(decoder, tmp_path)))
    first = paint(seeing)

    def stop(step: int, total: int, preview: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(seeing, on_step=stop)
    assert torch.equal(paint(decoder), before) and torch.equal(paint(seeing), first)
    assert set(decoder.unet.state_dict()) == keys and decoder.unet.config.encoder_hid_dim_type is None


@pytest.mark.slow
def test_masks_weights_and_several_references(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    ip, other = adapter(decoder, tmp_path), adapter(decoder, tmp_path, "plus")
    one, two = reference(ip), reference(other, 10)
    alone = paint(looking(decoder, one))
    near = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(paint(looking(decoder, reference(ip, mask=torch.ones(6, 9)))), alone, **near)
    torch.testing.assert_close(paint(looking(decoder, reference(ip, mask=torch.zeros(6, 9)))), paint(decoder), **near)
    torch.testing.assert_close(paint(looking(decoder, one, one)), alone, **near)
    half = reference(ip, weight=0.5)
    torch.testing.assert_close(paint(looking(decoder, half)), paint(looking(decoder, one, strength=0.5)), **near)
    both = paint(looking(decoder, one, two))
    stacked = paint(looking(looking(decoder, one, strength=0.7), two, strength=0.4))
    assert min((image - alone).abs().max() for image in (both, stacked, paint(looking(decoder, two)))) > 1e-3
    torch.testing.assert_close(stacked, paint(looking(looking(decoder, two, strength=0.4), one, strength=0.7)), **near)


@pytest.mark.slow
def test_each_picture_of_a_batch_may_have_its_own(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    ip = adapter(decoder, tmp_path)
    one, two = reference(ip), reference(ip, 10)
    both = Reference(ip, torch.stack([one.tokens, two.tokens]), one.negative)
    painted = decoder.with_image_prompt(ImagePrompt((both,), ImageGate())).decode(toys.condition(2), seed=3, steps=2)
    conditions = toys.condition(2).split()
    for row, single in enumerate((one, two)):
        alone = looking(decoder, single).decode(conditions[row], seed=3, steps=2)
        torch.testing.assert_close(painted[row], alone[0], atol=1e-4, rtol=0)


def test_a_window_of_the_schedule(decoder: DiffusionDecoder, tmp_path: Path) -> None:
    one = reference(adapter(decoder, tmp_path))
    first, last = ({"start": 0.0, "end": 0.5}, {"start": 0.5, "end": 1.0})
    images = [paint(decoder, steps=4), *(paint(looking(decoder, one, **how), steps=4) for how in (first, last, {}))]
    assert min((a - b).abs().max() for k, a in enumerate(images) for b in images[:k]) > 1e-3


def test_shares_of_a_place() -> None:
    one = Reference(None, torch.zeros(1, 1), torch.zeros(1, 1), 1.0)  # type: ignore[arg-type]
    left = torch.tensor([[1.0, 0.0]])
    masked = Reference(None, one.tokens, one.tokens, 0.5, left)  # type: ignore[arg-type]
    assert shares([one], 1, 2).tolist() == [[[1, 1]]] and shares([masked], 1, 2).tolist() == [[[0.5, 0]]]
    both = shares([one, masked], 1, 2)
    torch.testing.assert_close(both, torch.tensor([[[2 / 3, 1.0]], [[1 / 3, 0.0]]]))
    assert shares([one, one], 1, 1).flatten().tolist() == [0.5, 0.5]


def test_blocks_have_names(decoder: DiffusionDecoder) -> None:
    places = [place_of(name) for name in cross_attentions(decoder.unet)]
    assert list(dict.fromkeys(places)) == ["down.0.0", "down.1.0", "up.0.0", "up.0.1", "up.1.0", "up.1.1", "mid"]
    sdxl = ["down.1.0", "down.1.1", "down.2.0", "down.2.1", "up.0.0", "up.0.1", "up.0.2", "up.1.0", "mid"]

    def acting(blocks: str) -> dict[str, float]:
        return {place: weight for place, weight in ImageGate(0.5, blocks=blocks).weights(sdxl).items() if weight}

    assert acting("all") == dict.fromkeys(sdxl, 0.5)
    assert acting("composition") == {"down.2.1": 0.5} and acting("style") == {"up.0.1": 0.5}
    assert acting("down.2 = 1, down.2.0: .5\nmid=2") == {"down.2.0": 0.25, "down.2.1": 0.5, "mid": 1.0}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"strength": 5}, "The strength of the gate is 5: give a number from 0 to 4."),
        ({"start": -1}, "start is -1: give a number from 0 to 1."),
        ({"blocks": "up.0"}, "The table of blocks has the entry 'up.0': write it as down.2.1 = 1."),
        ({"blocks": " "}, "The table of blocks is empty: name blocks and a number for each, such as down.2.1 = 1."),
        ({"blocks": "mid = 9"}, "The number of mid is 9.0: give a number from 0 to 4."),
    ],
)
def test_a_gate_has_bounds(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        ImageGate(**how)
    assert str(error.value) == sentence


def test_references_that_do_not_fit_are_refused(decoder: DiffusionDecoder, folder: Path, tmp_path: Path) -> None:
    one = reference(adapter(decoder, tmp_path))
    with pytest.raises(ValueError, match=r"names up.5, and the diffusion model has only down.0.0, .*, mid\.$"):
        looking(decoder, one, blocks="up.5 = 1")
    with pytest.raises(ValueError, match="refiner, for which there are no IP-Adapters: apply it to the base model"):
        looking(DiffusionDecoder.from_pretrained(toys.save_refiner(tmp_path, folder)), one)
    ip = new_base(16, 96, [32, 64])
    with pytest.raises(ValueError, match="made for 2 cross-attentions on embeddings 96 wide, and the diffusion model"):
        looking(decoder, reference(ip))
    with pytest.raises(ValueError, match=r"shape \[height, width\], not \[1, 2, 3\]"):
        reference(one.adapter, mask=torch.zeros(1, 2, 3))
