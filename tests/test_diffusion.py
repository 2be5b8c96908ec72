"""The diffusion decoder: diffusers' own pipeline to the bit, seeds, steps and interruption."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import toys
from m3adapter.diffusion.condition import Condition
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.denoising import record_estimates
from m3adapter.diffusion.latents import to_pictures

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def decoder(folder: Path) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(folder)


@contextmanager
def batches(decoder: DiffusionDecoder) -> Iterator[list[int]]:
    """The batch size of every call of the UNet in the block."""
    seen: list[int] = []
    hook = decoder.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        yield seen
    finally:
        hook.remove()


def painted(decoder: DiffusionDecoder, condition: Condition, **how) -> torch.Tensor:
    return decoder.decode(condition, **{"seed": 5, "steps": STEPS, **how})


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("size", [None, (48, 64)])
def test_the_picture_is_the_one_of_diffusers(
    folder: Path, decoder: DiffusionDecoder, guidance: float, size: tuple[int, int] | None
) -> None:
    condition = toys.condition(2)
    height, width = size or (toys.SIDE, toys.SIDE)
    shape = (1, 4, height // 8, width // 8)
    latents = torch.cat([torch.randn(shape, generator=toys.generator(seed)) for seed in (7, 2**64 - 1)])
    pipeline = toys.frozen(
        StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt_embeds=condition.embeds,
        pooled_prompt_embeds=condition.pooled,
        negative_prompt_embeds=condition.negative_embeds,
        negative_pooled_prompt_embeds=condition.negative_pooled,
        latents=latents,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=height,
        width=width,
        output_type="pt",
    ).images
    found = painted(decoder, condition, seed=(7, 2**64 - 1), guidance=guidance, height=height, width=width)
    assert found.shape == (2, height, width, 3) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0.01
    assert torch.equal(found, expected.permute(0, 2, 3, 1))


def test_the_same_seed_the_same_bytes(decoder: DiffusionDecoder) -> None:
    condition = toys.condition()
    first = painted(decoder, condition)
    torch.manual_seed(123)  # what others draw does not matter
    state = torch.get_rng_state()
    assert torch.equal(painted(decoder, condition), first)
    assert torch.equal(torch.get_rng_state(), state), "and nothing is drawn from theirs"
    assert not torch.equal(painted(decoder, condition, seed=6), first)
    assert not torch.equal(painted(decoder, toys.condition(seed=1)), first)


def test_a_batch_is_its_pictures_one_by_one(decoder: DiffusionDecoder) -> None:
    condition = toys.condition(2)
    both = painted(decoder, condition, seed=[3, 4])
    for part, seed, picture in zip(condition.split(), (3, 4), both, strict=True):
        torch.testing.assert_close(painted(decoder, part, seed=seed)[0], picture, rtol=1e-4, atol=1e-4)
    one = replace(condition, embeds=condition.embeds[:1].expand(2, -1, -1), pooled=condition.pooled[:1].expand(2, -1))
    shared = painted(decoder, one, seed=3, guidance=1.0)
    torch.testing.assert_close(shared[0], shared[1], rtol=1e-4, atol=1e-4)


def test_every_step_is_told(decoder: DiffusionDecoder) -> None:
    told: list[tuple[int, int]] = []
    latents: list[torch.Tensor] = []

    def on_step(step: int, total: int, preview) -> None:
        told.append((step, total))
        latents.append(preview.latents)

    picture = painted(decoder, toys.condition(2), on_step=on_step)
    assert told == [(1, STEPS), (2, STEPS), (3, STEPS)]
    assert not torch.equal(latents[0], latents[1])
    assert (to_pictures(decoder.vae, latents[-1]) - picture).abs().max() < 0.01, "the last state is the picture"


def test_what_a_step_raises_ends_the_painting(decoder: DiffusionDecoder) -> None:
    class Stopped(Exception):
        pass

    def on_step(step: int, total: int, preview) -> None:
        if step == 2:
            raise Stopped

    with batches(decoder) as seen, pytest.raises(Stopped):
        painted(decoder, toys.condition(), steps=5, on_step=on_step)
    assert len(seen) == 2
    assert painted(decoder, toys.condition()).isfinite().all(), "and the next picture is painted as ever"


def test_guidance_of_one_or_less_is_none(decoder: DiffusionDecoder) -> None:
    condition = toys.condition()
    other = replace(condition, negative_embeds=condition.negative_embeds + 1)
    for guidance in (0.0, 1.0):
        with batches(decoder) as seen:
            picture = painted(decoder, condition, guidance=guidance)
        assert seen == [1] * STEPS
        assert torch.equal(picture, painted(decoder, other, guidance=guidance))
    with batches(decoder) as seen:
        picture = painted(decoder, condition, guidance=2.0)
    assert seen == [2] * STEPS
    assert not torch.equal(picture, painted(decoder, other, guidance=2.0))


def test_wrong_widths_and_counts(decoder: DiffusionDecoder) -> None:
    good = toys.condition(2)
    for condition, seed, words in (
        (replace(good, embeds=good.embeds[..., :64]), 1, "takes prompt embeddings of width 96, .* condition has 64"),
        (replace(good, pooled=good.pooled[..., :8]), 1, "takes pooled embeddings of width 32, .* condition has 8"),
        (good, [1, 2, 3], "2 pictures need as many seeds, not 3"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            painted(decoder, condition, seed=seed)
        assert toys.one_sentence(caught.value)


def test_the_text_encoders_condition(decoder: DiffusionDecoder) -> None:
    prompts = ["a fox in the forest", "a fox"]
    condition = decoder.encode_text(prompts)
    assert condition.embeds.shape == (2, toys.TOKENS, toys.EMBED_WIDTH)
    assert condition.pooled.shape == (2, toys.POOLED_WIDTH)
    assert condition.captions == tuple(prompts) and condition.gate is None
    assert not torch.equal(condition.embeds[0], condition.embeds[1])
    assert not condition.negative_embeds.any() and not condition.negative_pooled.any()
    picture = painted(decoder, condition, guidance=3.0)
    pipeline = decoder.pipeline
    latents = torch.randn(1, 4, 4, 4, generator=toys.generator(5)).expand(2, -1, -1, -1)
    expected = pipeline(
        prompts, latents=latents, num_inference_steps=STEPS, guidance_scale=3.0, height=32, width=32, output_type="pt"
    ).images
    torch.testing.assert_close(picture, expected.permute(0, 2, 3, 1))


def test_a_negative_prompt_takes_the_place_of_nothing(decoder: DiffusionDecoder) -> None:
    plain, negative = decoder.encode_text(["a fox"]), decoder.encode_text(["a fox"], "an owl")
    owl = decoder.encode_text(["an owl"])
    assert negative.embeds.equal(plain.embeds) and negative.pooled.equal(plain.pooled)
    assert torch.allclose(negative.negative_embeds, owl.embeds, atol=1e-6)
    assert torch.allclose(negative.negative_pooled, owl.pooled, atol=1e-6)
    assert negative.captions == ("a fox",) and decoder.encode_text(["a fox"], " ").negative_embeds.equal(
        plain.negative_embeds
    )


def test_painting_needs_no_text_encoder(folder: Path) -> None:
    decoder = DiffusionDecoder.from_pretrained(folder)
    expected = painted(decoder, toys.condition())
    for encoder in (decoder.text_encoder, decoder.text_encoder_2):
        encoder.to("meta")  # as good as on another device
    assert torch.equal(painted(decoder, toys.condition()), expected)


@pytest.mark.parametrize(("given", "order"), [({}, ["unet", "vae"]), ({"image": True}, ["vae", "unet", "vae"])])
def test_unet_and_vae_are_never_needed_at_the_same_time(folder: Path, given: dict, order: list[str]) -> None:
    decoder = DiffusionDecoder.from_pretrained(folder)
    how = {"image": torch.rand(toys.SIDE, toys.SIDE, 3, generator=toys.generator())} if given else {}
    expected = painted(decoder, toys.condition(2), **how)
    weights = {name: getattr(decoder, name).state_dict() for name in ("unet", "vae")}
    asked: list[str] = []

    def prepare(name: str, work: int) -> None:
        asked.append(name)
        assert work > 0
        for each in weights:
            getattr(decoder, each).to("meta")  # as good as on another device
        getattr(decoder, name).load_state_dict(weights[name], assign=True)

    decoder.prepare = prepare
    assert torch.equal(painted(decoder, toys.condition(2), **how), expected)
    assert asked == order


def test_what_the_work_takes_grows_with_pictures_and_is_bounded_by_tiles(folder: Path) -> None:
    decoder = DiffusionDecoder.from_pretrained(folder)
    asked: dict[str, list[int]] = {"unet": [], "vae": []}
    decoder.prepare = lambda name, work: asked[name].append(work)
    for batch, width, guidance in ((1, 32, 1.0), (1, 32, 3.0), (2, 32, 3.0), (1, 64, 1.0)):
        painted(decoder, toys.condition(batch), steps=1, width=width, height=32, guidance=guidance)
    assert [work // asked["unet"][0] for work in asked["unet"]] == [1, 2, 4, 2]
    assert [work // asked["vae"][0] for work in asked["vae"]] == [1, 1, 2, 2]
    decoder.split_vae(tiling=True, slicing=True)
    painted(decoder, toys.condition(2), steps=1, width=64, height=64)
    assert asked["vae"][-1] == asked["vae"][0] * decoder.vae.tile_sample_min_size**2 // 32**2


def test_the_autoencoder_may_be_of_another_type(folder: Path) -> None:
    decoder = DiffusionDecoder.from_pretrained(folder)
    expected = painted(decoder, toys.condition())
    decoder.vae.to(torch.bfloat16)
    found = painted(decoder, toys.condition())
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1
    decoder = DiffusionDecoder.from_pretrained(folder)
    decoder.vae.to(torch.float16)
    in_use: list[torch.dtype] = []
    decoder.vae.decoder.register_forward_pre_hook(lambda _, given: in_use.append(given[0].dtype))
    found = painted(decoder, toys.condition())
    assert (found - expected).abs().max() < 0.1
    assert set(in_use) == {torch.float32}, "SDXL's autoencoder overflows in float16"
    assert decoder.vae.dtype == torch.float16


@pytest.mark.slow
def test_all_in_half_precision(folder: Path, decoder: DiffusionDecoder) -> None:
    half = DiffusionDecoder.from_pretrained(folder, dtype=torch.bfloat16)
    found = painted(half, toys.condition())
    assert half.unet.dtype == torch.bfloat16 and found.dtype == torch.float32
    assert (found - painted(decoder, toys.condition())).abs().mean() < 0.1


def test_the_decoder_is_frozen_and_knows_its_size(decoder: DiffusionDecoder) -> None:
    assert decoder.native_size == toys.SIDE
    for part in (decoder.unet, decoder.vae, decoder.text_encoder, decoder.text_encoder_2):
        assert not part.training and not any(p.requires_grad for p in part.parameters())


def test_no_decoder_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no diffusion decoder in .*: model_index.json is missing"):
        DiffusionDecoder.from_pretrained(tmp_path)


def test_a_preview_shows_what_the_picture_is_going_to_be() -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(prediction_type="epsilon", timestep_spacing="trailing")
    plain = EulerDiscreteScheduler.from_config(scheduler.config)
    clean = record_estimates(scheduler)
    noise = torch.randn(1, 4, 2, 2, generator=toys.generator())
    for each in (scheduler, plain):
        each.set_timesteps(4)
    sample = noise * scheduler.init_noise_sigma
    stepped = scheduler.step(noise, scheduler.timesteps[0], sample, return_dict=False)[0]
    assert torch.equal(stepped, plain.step(noise, plain.timesteps[0], sample, return_dict=False)[0])
    assert clean[-1].abs().max() < 1e-3 < stepped.abs().max(), "all of it was noise, so nothing is what remains"


def test_a_scheduler_without_a_guess_has_none() -> None:
    scheduler = Namespace(step=lambda sample, return_dict=True: Namespace(prev_sample=sample))
    clean = record_estimates(scheduler)
    assert scheduler.step(3, return_dict=False) == (3,) and scheduler.step(3).prev_sample == 3 and not clean
