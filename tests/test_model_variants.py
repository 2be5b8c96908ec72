"""Diffusion models as people have them: few-step ones, zero terminal SNR, float8 with scales, a VAE of its own file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import toys
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.float8 import keep_float8
from m3adapter.diffusion.loading import CONFIGS, loaded_bytes
from m3adapter.diffusion.schedulers import choose_scheduler
from m3adapter.diffusion.vae_loading import check_vae, load_vae
from single_file import vae_weights

pytestmark = pytest.mark.slow

UNET = "model.diffusion_model."
FLOAT8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> dict[str, Tensor]:
    return load_file(toys.save_single_file(tmp_path_factory.mktemp("toy") / "toy.safetensors", folder))


def painted(decoder: DiffusionDecoder, **how: Any) -> Tensor:
    return decoder.decode(toys.condition(), **{"seed": 5, "steps": 2, **how})


def sdxls_own() -> Any:
    """SDXL's own scheduler, which single files are assumed to use."""
    return diffusers.EulerDiscreteScheduler.from_pretrained(CONFIGS / "base", subfolder="scheduler")


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("euler", diffusers.EulerDiscreteScheduler), ("euler_ancestral", diffusers.EulerAncestralDiscreteScheduler)],
)
def test_lightning_and_turbo_step_where_their_makers_say(name: str, kind: Any, steps: int) -> None:
    theirs = kind(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", steps_offset=1
    )
    ours = choose_scheduler(sdxls_own(), name, "trailing")
    theirs.set_timesteps(steps)
    ours.set_timesteps(steps)
    assert type(ours) is kind
    assert torch.equal(ours.timesteps, theirs.timesteps) and torch.equal(ours.sigmas, theirs.sigmas)
    assert ours.timesteps[0] == 999, "few steps begin in pure noise"
    assert ours.init_noise_sigma == theirs.init_noise_sigma


def test_a_few_steps_paint_what_diffusers_paints(folder: Path) -> None:
    theirs = toys.frozen(diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False))
    theirs.set_progress_bar_config(disable=True)
    condition = toys.condition()
    for steps, prediction, name, spacing in (
        (1, "x0", "euler", "trailing"),
        (1, "eps", "euler_ancestral", "trailing"),
        (2, None, "euler", "linspace"),
        (4, None, None, "leading"),
    ):
        kind = {None: "EulerDiscreteScheduler", "euler": "EulerDiscreteScheduler"}.get(
            name, "EulerAncestralDiscreteScheduler"
        )
        told = {"x0": "sample", "eps": "epsilon", None: "v_prediction"}[prediction]
        theirs.scheduler = getattr(diffusers, kind).from_config(
            theirs.scheduler.config, timestep_spacing=spacing, prediction_type=told
        )
        generator = toys.generator(5)
        expected = theirs(
            prompt_embeds=condition.embeds,
            pooled_prompt_embeds=condition.pooled,
            latents=torch.randn(1, 4, 4, 4, generator=generator),
            generator=generator,
            num_inference_steps=steps,
            guidance_scale=0.0,
            height=toys.SIDE,
            width=toys.SIDE,
            output_type="pt",
        ).images.permute(0, 2, 3, 1)
        ours = load_decoder(folder, scheduler=name, spacing=spacing, prediction=prediction)
        assert torch.equal(painted(ours, steps=steps, guidance=0.0), expected), (steps, name)


def test_a_schedule_that_ends_in_pure_noise_begins_there(tmp_path: Path, folder: Path, weights: Any) -> None:
    leading = shutil.copytree(folder, tmp_path / "leading")
    path = leading / "scheduler" / "scheduler_config.json"
    config = {**json.loads(path.read_text()), "timestep_spacing": "leading", "prediction_type": "epsilon"}
    path.write_text(json.dumps(config))

    def spacing(model: Path, **how: Any) -> str:
        return load_decoder(model, configs=leading, **how).pipeline.scheduler.config.timestep_spacing

    assert spacing(leading) == "leading"
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    file = tmp_path / "tuned.safetensors"
    save_file({**weights, **marks}, file)
    assert spacing(file) == spacing(file, scheduler="ddim") == "trailing"
    assert spacing(file, spacing="leading") == "leading", "unless somebody wants it otherwise"
    save_file({**weights, "v_pred": torch.zeros(0)}, file)
    assert spacing(file) == "leading"
    path.write_text(json.dumps({**config, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}))
    decoder = load_decoder(leading)
    decoder.pipeline.scheduler.set_timesteps(4)
    assert decoder.pipeline.scheduler.timesteps[0] == 999 and painted(decoder).isfinite().all()


@pytest.mark.parametrize(
    ("own", "given", "words"),
    [
        ({}, {"name": "lcm", "spacing": "trailing"}, "The scheduler lcm has a spacing of its own, and trailing would"),
        ({}, {"name": "dpmpp_2m_karras", "spacing": "leading"}, "has a spacing of its own"),
        ({}, {"name": "euler_ancestral", "prediction": "x0"}, "euler_ancestral cannot work with the prediction x0"),
        ({"rescale_betas_zero_snr": True}, {"name": "heun"}, "heun cannot begin in pure noise, as this model"),
        ({}, {"spacing": "evenly"}, "There is no spacing 'evenly': choose one of as the model says, leading, trailing"),
        ({}, {"prediction": "flow"}, "There is no prediction 'flow': choose one of as the model says, eps, v_pred"),
    ],
)
def test_what_a_scheduler_cannot_do_is_said(own: dict[str, Any], given: dict[str, str], words: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler.from_config(sdxls_own().config, **own)
    with pytest.raises(ValueError, match=words) as caught:
        choose_scheduler(scheduler, **given)
    assert toys.one_sentence(caught.value)


# Float8


def layers(weights: dict[str, Tensor]) -> list[str]:
    """The UNet's linear layers."""
    return [
        name.removesuffix(".weight")
        for name, value in weights.items()
        if name.startswith(UNET) and name.endswith(".weight") and value.ndim == 2
    ]


def scaled(weights: dict[str, Tensor], end: str, *, rows: bool = False, packed: bool = False) -> dict[str, Tensor]:
    """The weights with the UNet's linear layers as float8 times a scale."""
    found = dict(weights)
    for layer in layers(weights):
        weight = weights[f"{layer}.weight"]
        scale = (weight.abs().amax(1, keepdim=True) if rows else weight.abs().max()) / 448
        stored = (weight / scale).to(FLOAT8)
        found[f"{layer}.weight"] = stored.view(torch.uint8) if packed else stored
        found[layer + end] = scale
    return found


def restored(stored: dict[str, Tensor], end: str) -> dict[str, Tensor]:
    """The values that such weights stand for."""
    plain = {name: value for name, value in stored.items() if not name.endswith(end)}
    for layer in layers(stored):
        plain[f"{layer}.weight"] = stored[f"{layer}.weight"].view(FLOAT8).float() * stored[layer + end]
    return plain


def note(kind: str) -> Tensor:
    return torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)


@pytest.mark.parametrize("how", ["scaled_fp8", "comfy_quant", "metadata", "rows"])
def test_float8_with_scales_paints_what_it_means(tmp_path: Path, folder: Path, weights: Any, how: str) -> None:
    end = ".scale_weight" if how == "scaled_fp8" else ".weight_scale"
    stored = scaled(weights, end, rows=how == "rows", packed=how == "comfy_quant")
    save_file(restored(stored, end), tmp_path / "plain.safetensors")
    metadata = None
    if how == "scaled_fp8":
        stored |= {f"{UNET}scaled_fp8": torch.zeros(2, dtype=FLOAT8)}
        stored |= {f"{layer}.scale_input": torch.tensor(0.5) for layer in layers(weights)}
    elif how == "comfy_quant":
        stored |= {f"{layer}.comfy_quant": note("float8_e4m3fn") for layer in layers(weights)}
    elif how == "metadata":
        told = {"layers": {layer: {"format": "float8_e4m3fn"} for layer in layers(weights)}}
        metadata = {"_quantization_metadata": json.dumps(told)}
    save_file(stored, tmp_path / "scaled.safetensors", metadata)
    found, expected = (load_decoder(tmp_path / f"{name}.safetensors", configs=folder) for name in ("scaled", "plain"))
    assert torch.equal(painted(found), painted(expected))
    assert (painted(found) - painted(load_decoder(folder))).abs().max() < 0.2, "it is still the same model"
    assert {weight.dtype for weight in found.unet.parameters()} == {torch.float32}
    kept = load_decoder(tmp_path / "scaled.safetensors", configs=folder, float8=True)
    linear = [layer for layer in kept.unet.modules() if isinstance(layer, torch.nn.Linear)]
    assert linear and {layer.weight.dtype for layer in linear} == {FLOAT8} and kept.unet.dtype == torch.float32
    assert torch.equal(painted(kept), painted(expected))
    kept.save_pretrained(tmp_path / "again")
    assert torch.equal(painted(load_decoder(tmp_path / "again")), painted(expected)), (
        "what is saved has its scales in it"
    )
    assert linear[0].weight.dtype == FLOAT8 and loaded_bytes(tmp_path / "scaled.safetensors", torch.float32) < 4 * sum(
        weight.numel() for weight in weights.values()
    )


def test_plain_float8_paints_what_it_means(tmp_path: Path, folder: Path, weights: Any) -> None:
    how = {"configs": folder, "tokenizer": folder / "tokenizer"}
    for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
        stored = {name: value.to(kind) if value.is_floating_point() else value for name, value in weights.items()}
        save_file(stored, tmp_path / "eight.safetensors")
        plain = {name: value.to(weights[name].dtype) for name, value in stored.items()}
        save_file(plain, tmp_path / "plain.safetensors")
        found, expected = (load_decoder(tmp_path / f"{x}.safetensors", **how) for x in ("eight", "plain"))
        assert torch.equal(painted(found), painted(expected))
        for one, other in zip(found.text_encoder_2.parameters(), expected.text_encoder_2.parameters(), strict=True):
            assert torch.equal(one, other)
        kept = load_decoder(tmp_path / "eight.safetensors", **how, float8=True)
        half = load_decoder(tmp_path / "eight.safetensors", **how, float8=True, dtype=torch.bfloat16)
        for decoder in (kept, half):
            for model in (decoder.unet, decoder.text_encoder, decoder.text_encoder_2):
                sizes = [weight.itemsize for weight in model.parameters() if weight.ndim > 1]
                assert sum(size > 1 for size in sizes) <= 2, "the first layer, and a text encoder's embeddings"
        expected.pipeline.to(torch.bfloat16)
        for found, other in ((kept, load_decoder(tmp_path / "plain.safetensors", **how)), (half, expected)):
            assert torch.equal(painted(found), painted(other))
            one, two = found.encode_text(["a fox"]), other.encode_text(["a fox"])
            assert torch.equal(one.embeds, two.embeds) and torch.equal(one.pooled, two.pooled)


def test_a_layer_that_fails_keeps_its_float8_weight() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight.data = torch.eye(2)
    keep_float8(model, FLOAT8)
    with pytest.raises(RuntimeError):
        model[1](torch.ones(1, 3))
    assert model[1].weight.dtype == FLOAT8 != model[0].weight.dtype
    assert torch.equal(model[1](torch.ones(1, 2)), 1 + model[1].bias[None])


def test_other_quantisations_are_refused(tmp_path: Path, folder: Path, weights: Any) -> None:
    layer = layers(weights)[0]
    text = next(name for name in weights if name.startswith("conditioner.") and name.endswith("fc1.weight"))
    for number, (changed, words) in enumerate(
        [
            ({f"{layer}.comfy_quant": note("nvfp4")}, "is quantised as 'nvfp4', which is not supported: choose its"),
            ({f"{layer}.weight": weights[f"{layer}.weight"].to(torch.int8)}, "quantised in an unsupported way"),
            ({f"{layer}.weight_scale_2": torch.ones(1)}, "is quantised in an unsupported way"),
            ({f"{layer}.weight_scale": torch.ones(3)}, "has a scale that fits no weight"),
            ({f"{layer}.comfy_quant": torch.zeros(9, dtype=torch.uint8)}, "is damaged: get the file again"),
            ({text.replace(".weight", ".weight_scale"): torch.ones(1)}, "has text encoders quantised with scales"),
        ]
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file({**weights, **changed}, path)
        with pytest.raises(ValueError, match=rf"{number}\.safetensors .*{words}") as caught:
            load_decoder(path, configs=folder)
        assert toys.one_sentence(caught.value)
    quantised = shutil.copytree(folder, tmp_path / "quantised")
    config = quantised / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(ValueError, match="quantised has quantised weights in unet: get the folder without") as caught:
        load_decoder(quantised)
    assert toys.one_sentence(caught.value)


# A VAE of its own


def other_vae(folder: Path) -> Any:
    """A VAE like the toy decoder's, with other weights."""
    torch.manual_seed(9)
    config = diffusers.AutoencoderKL.load_config(folder, subfolder="vae")
    return diffusers.AutoencoderKL.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("layout", ["original", "in a checkpoint", "diffusers", "folder", "fp16 folder"])
def test_a_vae_from_its_own_file(tmp_path: Path, folder: Path, weights: Any, layout: str) -> None:
    vae = other_vae(folder)
    file = tmp_path / "mine.safetensors"
    if layout.endswith("folder"):
        vae.save_pretrained(file := tmp_path / "mine", variant="fp16" if layout == "fp16 folder" else None)
    else:
        prefix = "first_stage_model." if layout == "in a checkpoint" else ""
        named = vae.state_dict() if layout == "diffusers" else vae_weights(vae)
        save_file({prefix + name: value.contiguous() for name, value in named.items()}, file)
    expected = load_decoder(folder)
    expected.pipeline.register_modules(vae=vae)
    start = torch.rand(32, 32, 3, generator=toys.generator(3))
    found = load_decoder(folder, vae=file)
    assert found.vae.config.scaling_factor == expected.vae.config.scaling_factor
    for how in ({}, {"image": start, "denoise": 0.5}):
        assert torch.equal(painted(found, **how), painted(expected, **how))
    assert not torch.equal(painted(found), painted(load_decoder(folder)))
    bare = tmp_path / "bare.safetensors"
    save_file({name: value for name, value in weights.items() if not name.startswith("first_stage_model.")}, bare)
    with pytest.raises(ValueError, match="bare.safetensors is an SDXL model without its VAE: choose one .* as its vae"):
        load_decoder(bare, configs=folder)
    assert torch.equal(painted(load_decoder(bare, configs=folder, vae=file)), painted(found))


def test_a_vae_in_diffusers_layout_may_have_old_names_and_more_weights(tmp_path: Path, folder: Path) -> None:
    vae = other_vae(folder)
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    weights = {"model_ema.decay": torch.zeros(1)}
    for name, value in vae.state_dict().items():
        for now, then in old.items():
            name = name.replace(now, then)
        weights[name] = value.contiguous()
    assert len(weights.keys() - vae.state_dict().keys()) > 8
    save_file(weights, tmp_path / "old.safetensors")
    found = load_vae(tmp_path / "old.safetensors", channels=4, config=folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(found[name], value) for name, value in vae.state_dict().items())


def test_sdxls_vae_from_a_file_has_sdxls_scale(tmp_path: Path) -> None:
    config = diffusers.AutoencoderKL.load_config(CONFIGS / "base", subfolder="vae")
    with torch.device("meta"):
        weights = diffusers.AutoencoderKL.from_config(config).state_dict()
    file = tmp_path / "sdxl_vae.safetensors"
    save_file({name: torch.zeros(value.shape, dtype=torch.float16) for name, value in weights.items()}, file)
    vae = load_vae(file, channels=4, config=CONFIGS / "base", dtype=torch.float16)
    assert vae.config.scaling_factor == 0.13025 and vae.dtype == torch.float16


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_tiny_vae_from_its_own_file(tmp_path: Path, folder: Path, as_folder: bool) -> None:
    torch.manual_seed(9)
    tiny = diffusers.AutoencoderTiny().eval().requires_grad_(False)
    file = tmp_path / "tiny.safetensors"
    if as_folder:
        tiny.save_pretrained(file := tmp_path / "tiny")
    else:
        save_file(tiny.state_dict(), file)
    found, expected = load_decoder(folder, vae=file), load_decoder(folder)
    expected.pipeline.register_modules(vae=tiny)
    start = torch.rand(32, 32, 3, generator=toys.generator(3))
    for how in ({}, {"image": start, "denoise": 0.5}):
        assert torch.equal(painted(found, **how), painted(expected, **how))


def test_the_type_of_the_vae_is_a_choice(folder: Path) -> None:
    decoder = load_decoder(folder, dtype=torch.bfloat16, vae_dtype=torch.float32)
    assert (decoder.unet.dtype, decoder.vae.dtype) == (torch.bfloat16, torch.float32)
    assert painted(decoder).isfinite().all()


def test_what_is_no_vae_for_the_model_is_refused(tmp_path: Path, folder: Path) -> None:
    own = other_vae(folder).state_dict()
    deep = diffusers.AutoencoderKL(latent_channels=16, block_out_channels=(32,), norm_num_groups=32).state_dict()
    decoder_only = {name: value for name, value in own.items() if name.startswith("decoder.")}
    wide = diffusers.AutoencoderKL(block_out_channels=(64,), norm_num_groups=32).state_dict()
    less = {name: value for name, value in own.items() if name != "decoder.conv_out.weight"}
    video = {**own, "decoder.conv_in.weight": own["decoder.conv_in.weight"][:, :, None]}
    for name, weights, words in (
        ("deep", deep, "is a VAE with latents of 16 channels, and the diffusion model's have 4: choose a VAE for SDXL"),
        ("half", decoder_only, "is half of a VAE, the decoder alone: choose one with both halves"),
        ("wide", wide, "is a VAE of another size than SDXL's"),
        ("less", less, "is incomplete: it lacks weights that a VAE has"),
        ("video", video, "is a VAE for video"),
        ("lora", {"lora_unet_a.lora_down.weight": torch.zeros(4, 4)}, "is a LoRA: choose a VAE for SDXL"),
    ):
        path = tmp_path / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors {words}") as caught:
            load_decoder(folder, vae=path)
        assert toys.one_sentence(caught.value)
    with pytest.raises(ValueError, match="unet is a model for diffusers' UNet2DConditionModel: choose a VAE") as caught:
        check_vae(folder / "unet")
    assert toys.one_sentence(caught.value)
