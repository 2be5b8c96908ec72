"""Schedulers, pictures to start from and refiners: diffusers' own pipelines, to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from torch import Tensor

import toys
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.condition import Condition
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.finite import FiniteWatch
from m3adapter.diffusion.latents import to_pictures
from m3adapter.diffusion.preview import LatentRGB
from m3adapter.diffusion.schedulers import SCHEDULERS, build_scheduler
from m3adapter.events import NotFinite

STEPS = 5
SEEDS = (7, 2**64 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def decoder(folder: Path) -> DiffusionDecoder:
    return load_decoder(folder)


@pytest.fixture(scope="module")
def refiner_folder(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    return toys.save_refiner(tmp_path_factory.mktemp("toy"), folder)


@pytest.fixture(scope="module")
def refiner(refiner_folder: Path) -> DiffusionDecoder:
    return load_decoder(refiner_folder)


def pipeline(kind: Any, folder: Path, name: str = "euler", **parts: Any) -> Any:
    """diffusers' own pipeline of a folder."""
    found = toys.frozen(kind.from_pretrained(folder, add_watermarker=False, **parts))
    found.scheduler = build_scheduler(name, found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def embeddings(condition: Condition) -> dict[str, Tensor]:
    return {
        "prompt_embeds": condition.embeds,
        "pooled_prompt_embeds": condition.pooled,
        "negative_prompt_embeds": condition.negative_embeds,
        "negative_pooled_prompt_embeds": condition.negative_pooled,
    }


def noise() -> tuple[Tensor, list[torch.Generator]]:
    """What diffusers starts from, and the generators that it goes on drawing from."""
    generators = [toys.generator(seed) for seed in SEEDS]
    return torch.cat([torch.randn(1, 4, 4, 4, generator=each) for each in generators]), generators


def picture(height: int = toys.SIDE, width: int = toys.SIDE) -> Tensor:
    return torch.rand(height, width, 3, generator=toys.generator(3))


def same(found: Tensor, expected: Tensor) -> bool:
    assert found.std() > 0.01
    return (found - expected.permute(0, 2, 3, 1)).abs().max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS[1:])
def test_every_scheduler_paints_as_in_diffusers(folder: Path, name: str) -> None:
    condition = toys.condition(2)
    latents, generators = noise()
    how = {"num_inference_steps": STEPS, "guidance_scale": 2.0, "height": toys.SIDE, "width": toys.SIDE}
    theirs = pipeline(StableDiffusionXLPipeline, folder, name)
    expected = theirs(**embeddings(condition), latents=latents, generator=generators, output_type="pt", **how).images
    state = torch.get_rng_state()
    told: list[tuple[int, int]] = []
    found = load_decoder(folder, scheduler=name).decode(
        condition, seed=SEEDS, steps=STEPS, on_step=lambda step, total, preview: told.append((step, total))
    )
    assert same(found, expected)
    assert torch.equal(torch.get_rng_state(), state), "all noise is drawn from the seeds"
    calls = 2 * STEPS - 1 if name == "heun" else STEPS
    assert told == [(step + 1, calls) for step in range(calls)]


@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m_karras", "heun", "ddim", "lcm"])
def test_from_a_picture_it_paints_as_diffusers_does(folder: Path, name: str) -> None:
    condition, start = toys.condition(2), picture()
    expected = pipeline(StableDiffusionXLImg2ImgPipeline, folder, name)(
        **embeddings(condition),
        image=start.permute(2, 0, 1)[None],
        strength=0.6,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        generator=[toys.generator(seed) for seed in SEEDS],
        output_type="pt",
    ).images
    told: list[tuple[int, int]] = []
    found = load_decoder(folder, scheduler=name).decode(
        condition,
        seed=SEEDS,
        steps=STEPS,
        image=start,
        denoise=0.6,
        on_step=lambda step, total, preview: told.append((step, total)),
    )
    assert same(found, expected)
    calls = 5 if name == "heun" else 3
    assert told == [(step + 1, calls) for step in range(calls)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m_karras", "unipc"])
def test_a_refiner_takes_over_as_in_diffusers(folder: Path, refiner_folder: Path, name: str) -> None:
    condition = toys.condition(2)
    base = pipeline(StableDiffusionXLPipeline, folder, name)
    refined = pipeline(StableDiffusionXLImg2ImgPipeline, refiner_folder, name, vae=base.vae)
    latents, generators = noise()
    how = {"num_inference_steps": STEPS, "guidance_scale": 2.0, "generator": generators}
    begun = base(
        **embeddings(condition), latents=latents, height=32, width=32, denoising_end=0.6, output_type="latent", **how
    ).images
    expected = refined(
        prompt=list(condition.captions), image=begun, denoising_start=0.6, output_type="pt", **how
    ).images
    # The refiner follows the first decoder's scheduler, whatever it was loaded with.
    ours, theirs = load_decoder(folder, scheduler=name), load_decoder(refiner_folder, scheduler="ddim")
    assert same(ours.decode(condition, seed=SEEDS, steps=STEPS, refiner=theirs, switch_at=0.6), expected)


@pytest.mark.slow
def test_a_refiner_after_a_picture_to_start_from(folder: Path, refiner_folder: Path) -> None:
    condition, start = toys.condition(2), picture()
    base = pipeline(StableDiffusionXLImg2ImgPipeline, folder)
    refined = pipeline(StableDiffusionXLImg2ImgPipeline, refiner_folder, vae=base.vae)
    generators = [toys.generator(seed) for seed in SEEDS]
    how = {"num_inference_steps": STEPS, "guidance_scale": 2.0, "generator": generators}
    begun = base(
        **embeddings(condition),
        image=start.permute(2, 0, 1)[None],
        strength=0.8,
        denoising_end=0.6,
        output_type="latent",
        **how,
    ).images
    expected = refined(
        prompt=list(condition.captions), image=begun, denoising_start=0.6, output_type="pt", **how
    ).images
    decoder, refiner = (load_decoder(each, scheduler="euler") for each in (folder, refiner_folder))
    given = {"image": start, "denoise": 0.8, "refiner": refiner, "switch_at": 0.6}
    assert same(decoder.decode(condition, seed=SEEDS, steps=STEPS, **given), expected)


def test_a_refiner_refines_a_picture_of_its_own(refiner_folder: Path, refiner: DiffusionDecoder) -> None:
    start = picture()
    expected = pipeline(StableDiffusionXLImg2ImgPipeline, refiner_folder)(
        prompt=["a fox"],
        image=start.permute(2, 0, 1)[None],
        strength=0.4,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        generator=[toys.generator(7)],
        output_type="pt",
    ).images
    condition = refiner.encode_text(["a fox"])
    assert same(refiner.decode(condition, seed=7, steps=STEPS, image=start, denoise=0.4), expected)


def test_steps_and_previews_go_on_over_the_switch(decoder: DiffusionDecoder, refiner: DiffusionDecoder) -> None:
    told, shown = [], []

    def on_step(step: int, total: int, preview: Any) -> None:
        told.append((step, total))
        shown.append(preview.latents)

    how = {"seed": 5, "steps": STEPS, "refiner": refiner, "switch_at": 0.6}
    found = decoder.decode(toys.condition(), on_step=on_step, **how)
    assert told == [(step + 1, STEPS) for step in range(STEPS)]
    assert all((one - other).abs().max() > 0 for one, other in pairwise(shown))
    assert (to_pictures(decoder.vae, shown[-1]) - found).abs().max() < 0.01
    assert torch.equal(decoder.decode(toys.condition(), **how), found)


@pytest.mark.slow
def test_captions_reach_the_refiner(decoder: DiffusionDecoder, refiner: DiffusionDecoder) -> None:
    condition = toys.condition()
    how = {"seed": 5, "steps": STEPS, "refiner": refiner}
    other = decoder.decode(replace(condition, captions=("two words",)), **how)
    assert not torch.equal(decoder.decode(condition, **how), other)


@pytest.mark.slow
def test_how_much_of_a_picture_stays(decoder: DiffusionDecoder) -> None:
    condition, start = toys.condition(), picture()
    how = {"seed": 5, "steps": 10, "guidance": 1.0}
    plain = decoder.decode(condition, **how)
    assert torch.equal(decoder.decode(condition, image=start, denoise=1.0, **how), plain), "at 1, nothing"
    steps: list[int] = []
    for denoise in (0.1, 0.5, 0.9):
        decoder.decode(condition, image=start, denoise=denoise, on_step=lambda _, total, __: steps.append(total), **how)
    assert steps == [1, *[5] * 5, *[9] * 9]
    assert not torch.equal(
        decoder.decode(condition, image=start, denoise=0.5, **how),
        decoder.decode(condition, image=1 - start, denoise=0.5, **how),
    )


def test_the_size_is_the_pictures_or_as_told(decoder: DiffusionDecoder) -> None:
    condition, how = toys.condition(), {"seed": 5, "steps": 2}
    for denoise in (0.5, 1.0):
        given = {"image": picture(45, 70), "denoise": denoise, **how}
        assert decoder.decode(condition, **given).shape == (1, 40, 64, 3)
        assert decoder.decode(condition, height=32, width=48, **given).shape == (1, 32, 48, 3)
        assert decoder.decode(condition, width=48, **given).shape == (1, 40, 48, 3)
    assert decoder.decode(condition, image=picture(1, 20), denoise=1.0, **how).shape == (1, 8, 16, 3)


def test_a_picture_larger_than_memory_likes_is_encoded_in_the_vaes_own_type(folder: Path) -> None:
    decoder = load_decoder(folder)
    expected = decoder.decode(toys.condition(), seed=5, steps=4, image=picture())
    decoder.vae.to(torch.float16)
    in_use: list[torch.dtype] = []
    decoder.vae.encoder.register_forward_pre_hook(lambda _, given: in_use.append(given[0].dtype))
    found = decoder.decode(toys.condition(), seed=5, steps=4, image=picture())
    assert (found - expected).abs().max() < 0.1
    assert in_use == [torch.float32] and decoder.vae.dtype == torch.float16


def test_normalised_latents_go_both_ways(folder: Path) -> None:
    decoder, start = load_decoder(folder), picture()
    how = {"seed": 5, "steps": 10, "image": start, "denoise": 0.1, "guidance": 1.0}
    condition = toys.condition()
    plain = decoder.decode(condition, **how)
    # The same latent space in other terms: scaled by the deviation instead of by the factor.
    factor = decoder.vae.config.scaling_factor
    decoder.vae.register_to_config(scaling_factor=1.0, latents_mean=[0.0] * 4, latents_std=[1 / factor] * 4)
    torch.testing.assert_close(decoder.decode(condition, **how), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "weight", "given", "words"),
    [
        ("unet", "conv_in.bias", {}, "The diffusion model computed NaN or infinite numbers in float32: "),
        ("unet", "conv_in.bias", {"image": picture(), "denoise": 0.5}, "The diffusion model computed NaN"),
        ("vae", "decoder.conv_out.bias", {}, "The VAE computed NaN or infinite numbers in float32, which would be a"),
        ("vae", "encoder.conv_out.bias", {"image": picture(), "denoise": 0.5}, "The VAE computed NaN"),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_overflow_is_an_error_and_never_a_black_picture(
    folder: Path, part: str, weight: str, given: dict[str, Any], words: str, value: float
) -> None:
    decoder = load_decoder(folder)
    decoder.latent_rgb = LatentRGB(((1.0, 1.0, 1.0),) * 4)
    decoder.pipeline.components[part].get_parameter(weight)[0] = value
    shown: list[Any] = []
    with pytest.raises(NotFinite, match=words) as caught:
        decoder.decode(
            toys.condition(2), seed=5, steps=4, on_step=lambda _, __, preview: shown.append(preview()), **given
        )
    assert toys.one_sentence(caught.value)
    assert part == "vae" or set(shown) <= {None}, "no preview of what are no numbers"
    assert len(shown) < 4 or part == "vae", "it does not go on for long"


def test_cuda_is_never_asked_for_a_result_behind_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Flag:
        def __init__(self, finite: bool) -> None:
            self.finite = finite

        def __bool__(self) -> bool:
            pytest.fail("asking a tensor on the device waits for all work that is queued")

        def to(self, device: str, *, non_blocking: bool) -> Tensor:
            assert device == "cpu" and non_blocking
            happened.append("copy")
            return torch.tensor(self.finite)

    class Latents:
        is_cuda, device = True, torch.device("cuda", 0)

        def __init__(self, finite: bool) -> None:
            self.flag = Flag(finite)

        def isfinite(self) -> Latents:
            return self

        def all(self) -> Flag:
            return self.flag

    class Event:
        def record(self, stream: str) -> None:
            happened.append(stream)

        def synchronize(self) -> None:
            happened.append("wait")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"record on {device}")
    watch = FiniteWatch(torch.float16)
    step: Any = ["copy", "record on cuda:0"]
    watch.check(Latents(True))  # type: ignore[arg-type]
    watch.check(Latents(False))  # type: ignore[arg-type]
    assert happened == [*step, "wait", *step]
    with pytest.raises(NotFinite, match="in float16"):
        watch.check(Latents(True))  # type: ignore[arg-type]


def test_what_overflows_in_half_precision_names_the_cure(folder: Path, refiner_folder: Path) -> None:
    decoder, refiner = load_decoder(folder), load_decoder(refiner_folder)
    refiner.unet.get_parameter("conv_in.bias")[0] = torch.nan
    with pytest.raises(NotFinite, match="The diffusion model computed"):
        decoder.decode(toys.condition(), seed=5, steps=4, refiner=refiner, switch_at=0.5)
    lost = replace(toys.condition(), pooled=torch.full((1, toys.POOLED_WIDTH), torch.nan))
    with pytest.raises(NotFinite, match="The condition holds NaN or infinite numbers: load the model that made it"):
        decoder.decode(lost, seed=5, steps=1)
    decoder.vae.register_to_config(force_upcast=False)
    decoder.vae.to(torch.float16).decoder.conv_in.weight.mul_(60000)
    with pytest.raises(NotFinite, match="VAE .* in float16, .*: set vae_dtype of Load SDXL Decoder to fp32") as caught:
        decoder.decode(toys.condition(), seed=5, steps=1)
    assert toys.one_sentence(caught.value)
    decoder.unet.to(torch.bfloat16).conv_in.bias[0] = torch.nan
    with pytest.raises(NotFinite, match="in bfloat16: load it with dtype .*fp32 in Load SDXL Decoder") as caught:
        decoder.decode(toys.condition(), seed=5, steps=1)
    assert toys.one_sentence(caught.value)


def test_from_a_picture_a_tiny_autoencoder_paints_as_in_diffusers(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    tiny = AutoencoderTiny(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4).eval()
    condition, start = toys.condition(2), picture()
    how = {"num_inference_steps": STEPS, "guidance_scale": 2.0, "output_type": "pt"}
    expected = pipeline(StableDiffusionXLImg2ImgPipeline, folder, vae=tiny)(
        **embeddings(condition),
        image=start.permute(2, 0, 1)[None],
        strength=0.6,
        generator=[toys.generator(seed) for seed in SEEDS],
        **how,
    ).images
    decoder = load_decoder(folder, scheduler="euler")
    decoder.pipeline.register_modules(vae=tiny)
    found = decoder.decode(condition, seed=SEEDS, steps=STEPS, image=start, denoise=0.6)
    assert same(found, expected)


def test_impossible_requests_are_refused_in_a_sentence(
    folder: Path, decoder: DiffusionDecoder, refiner: DiffusionDecoder
) -> None:
    condition, start = toys.condition(), picture()
    nameless = replace(condition, captions=())
    own = refiner.encode_text(["a fox"])
    heun, lcm = (load_decoder(folder, scheduler=name) for name in ("heun", "lcm"))
    for painter, given, how, words in (
        (decoder, nameless, {"refiner": refiner}, "The refiner needs captions, and the condition has none"),
        (heun, condition, {"refiner": refiner}, "evaluates the model twice per step, such as heun, cannot be split"),
        (lcm, condition, {"steps": 51}, "The scheduler lcm takes at most 50 steps, not 51"),
        (refiner, own, {}, "A refiner cannot start a picture"),
        (refiner, condition, {"image": start}, "takes prompt embeddings of width 64, .* condition has 96"),
        (decoder, condition, {"refiner": refiner, "switch_at": 1}, "switch_at is 1: give a number between 0 and 1"),
        (decoder, condition, {"refiner": refiner, "switch_at": 0.99}, "4 steps are too few for a switch at 0.99"),
        (decoder, condition, {"image": start, "denoise": 1.5}, "denoise is 1.5: give a number from 0 to 1"),
        (decoder, condition, {"image": start, "denoise": 0.2}, "4 steps are too few for a denoise of 0.2"),
        (decoder, condition, {"image": start[0]}, "A picture must have the shape"),
        (decoder, condition, {"width": 30}, "width is 30: give a multiple of 8"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            painter.decode(given, **{"seed": 1, "steps": 4, **how})
        assert toys.one_sentence(caught.value)
