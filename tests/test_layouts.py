"""Recognising models: SDXL base and refiner by their true names and shapes, everything else by its own name."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import single_file
import toys
from m3adapter.diffusion.loading import CONFIGS
from m3adapter.diffusion.vae_loading import check_vae
from m3adapter.weights.layouts import BASE, REFINER, check_decoder, recognise, weight_files
from tools import environment

KINDS = {"base": BASE, "refiner": REFINER}


@cache
def parts(name: str) -> dict[str, Any]:
    """The models of our configurations in their true size, without memory for their weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder = CONFIGS / name

    def text(kind: type, part: str) -> Any:
        return kind(CLIPTextConfig.from_pretrained(folder / part)) if (folder / part).is_dir() else None

    with torch.device("meta"):
        built = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            "text_encoder": text(CLIPTextModel, "text_encoder"),
            "text_encoder_2": text(CLIPTextModelWithProjection, "text_encoder_2"),
        }
    return {part: None if model is None else model.half() for part, model in built.items()}


@cache
def checkpoint(name: str) -> single_file.Weights:
    """All the weights of a single file of SDXL, in fp16, without their values."""
    return single_file.checkpoint(*parts(name).values())


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in checkpoint(name).items()}


@pytest.mark.parametrize(("name", "gigabytes", "count"), [("base", 6.94, 2515), ("refiner", 6.08, None)])
def test_our_configurations_are_sdxls(name: str, gigabytes: float, count: int | None) -> None:
    # Known of sd_xl_base_1.0.safetensors and sd_xl_refiner_1.0.safetensors: their sizes, and the former's entries.
    size = sum(value.nbytes for value in checkpoint(name).values()) / 1e9
    assert size == pytest.approx(gigabytes, abs=0.005)
    assert count in (len(checkpoint(name)), None)
    spots = {
        "base": {
            "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
            "model.diffusion_model.output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
            "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
            "first_stage_model.decoder.mid.attn_1.q.weight": (512, 512, 1, 1),
            "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
            "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
        },
        "refiner": {
            "model.diffusion_model.label_emb.0.0.weight": (1536, 2560),
            "model.diffusion_model.middle_block.1.transformer_blocks.3.attn2.to_k.weight": (1536, 1280),
            "conditioner.embedders.0.model.text_projection": (1280, 1280),
        },
    }[name]
    assert {key: shapes(name)[key] for key in spots} == spots


@pytest.mark.parametrize("name", KINDS)
def test_sdxl_is_recognised_by_its_names_and_shapes(name: str) -> None:
    assert recognise(shapes(name)) == KINDS[name]
    assert recognise(CONFIGS / name) == KINDS[name]


@pytest.mark.parametrize("name", KINDS)
def test_diffusers_converts_every_weight(name: str) -> None:
    from diffusers.loaders import single_file_utils as utils

    found, models = dict(checkpoint(name)), parts(name)
    converted = {
        "unet": utils.convert_ldm_unet_checkpoint(found, dict(models["unet"].config)),
        "vae": utils.convert_ldm_vae_checkpoint(found, dict(models["vae"].config)),
    }
    index = 0 if name == "refiner" else 1
    prefix = f"conditioner.embedders.{index}.model."
    converted["text_encoder_2"] = utils.convert_open_clip_checkpoint(models["text_encoder_2"], found, prefix=prefix)
    if models["text_encoder"] is not None:
        converted["text_encoder"] = utils.convert_ldm_clip_checkpoint(found)
    buffers = {"embeddings.position_ids"}
    for part, weights in converted.items():
        ours = {single_file.plain(key): value.shape for key, value in models[part].state_dict().items()}
        theirs = {single_file.plain(key): value.shape for key, value in weights.items()}
        assert {key: shape for key, shape in theirs.items() if key not in buffers} == ours, part
    # Three projections of attention are one weight and one bias in OpenCLIP's layout; logit_scale is not for inference.
    merged = 2 * 2 * models["text_encoder_2"].config.num_hidden_layers
    assert len(found) == sum(map(len, converted.values())) - merged + 1


@pytest.mark.exhaustive
@pytest.mark.comfy  # runs its sources, though no server
def test_comfyui_takes_the_same_names_for_sdxl(tmp_path: Path) -> None:
    """A second opinion on names and shapes that do not come from SDXL's own files."""
    for name in KINDS:
        (tmp_path / f"{name}.json").write_text(json.dumps(shapes(name)))
    program = """
import json, sys, pathlib, torch
sys.argv = ["detect", "--cpu"]
import comfy.options; comfy.options.enable_args_parsing()
import comfy.model_detection
for name in ("base", "refiner"):
    found = json.loads(pathlib.Path(f"{name}.json").read_text())
    weights = {key: torch.empty(shape, device="meta") for key, shape in found.items()}
    print(type(comfy.model_detection.model_config_from_unet(weights, "model.diffusion_model.")).__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(environment.ENGINE), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["SDXL", "SDXLRefiner"], run.stderr


UNET = "model.diffusion_model."


def altered(**changes: Any) -> dict[str, tuple[int, ...]]:
    """The base model's shapes without what begins with a prefix in `without`, and with others in `put`."""
    kept = {key: value for key, value in shapes("base").items() if not key.startswith(changes.get("without", "-"))}
    return kept | changes.get("put", {})


def others() -> dict[str, dict[str, tuple[int, ...]]]:
    unet = {f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), f"{UNET}out.2.weight": (4, 320, 3, 3)}
    attention = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    nine = {f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}
    return {
        "a Stable Diffusion 1.5 model": {**unet, attention: (320, 768)},
        "a Stable Diffusion 2 model": {**unet, attention: (320, 1024)},
        "a Stable Diffusion 1.5 inpainting model": {**unet, **nine, attention: (320, 768)},
        "an SDXL inpainting model": altered(put=nine),
        "an SDXL model without its VAE": altered(without="first_stage_model."),
        "the UNet of an SDXL model without its text encoders": altered(without="conditioner."),
        "a distilled SDXL model (SSD-1B, Vega or Koala)": altered(
            without=f"{UNET}input_blocks.8.1.transformer_blocks.9"
        ),
        "a Playground 2.5 model": altered(put={"edm_mean": (4,)}),
        "a CosXL model": altered(put={"edm_vpred.sigma_max": (), "edm_vpred.sigma_min": ()}),
        "a LoRA": {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": (8, 640)},
        "a ControlNet": {"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)},
        "an IP-Adapter": {"image_proj.proj.weight": (8192, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
        "a T2I-Adapter": {"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
        "an embedding (textual inversion)": {"clip_l": (8, 768), "clip_g": (8, 1280)},
        "a Flux model": {f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
        "a Stable Diffusion 3 model": {f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)},
        "a VAE alone": {"decoder.mid.attn_1.q.weight": (512, 512, 1, 1)},
        "a text encoder alone": {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)},
        "a UNet in diffusers' layout (choose the whole diffusers folder)": {
            "down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3)
        },
        "an M3-Adapter": {name: tuple(value.shape) for name, value in toys.adapter().state_dict().items()},
        "a language model": {"model.embed_tokens.weight": (32000, 4096)},
        "an unknown kind of model": {"something.else": (1,)},
    }


@pytest.mark.parametrize("noun", others())
def test_other_models_are_called_by_their_names(noun: str) -> None:
    assert recognise(others()[noun]) == noun


@pytest.mark.parametrize(
    "name",
    ["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "image_proj.proj.weight", "clip_l",
     "model_ema.decay", "denoiser.sigmas", "first_stage_model.loss.logvar", "v_pred"],
)  # fmt: skip
def test_what_merges_leave_behind_makes_a_checkpoint_no_other_model(name: str) -> None:
    assert recognise(altered(put={name: (1,)})) == BASE


def test_only_sdxl_becomes_a_decoder(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    found = others()["a Stable Diffusion 1.5 model"]
    save_file({key: torch.zeros(shape, dtype=torch.float16) for key, shape in found.items()}, path)
    with pytest.raises(
        ValueError, match=r"old\.safetensors is a Stable Diffusion 1\.5 model: choose an SDXL"
    ) as caught:
        check_decoder(path)
    assert toys.one_sentence(str(caught.value).replace("1.5 ", ""))


@pytest.mark.parametrize("kind", ["zip", "pickle", "text", "empty", "cut"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", b"")
    elif kind == "cut":
        save_file({"weight": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[:-4])
    else:
        path.write_bytes({"pickle": b"\x80\x02}q\x00.", "text": b"<html>Sign in</html>", "empty": b""}[kind])
    words = {
        "text": "is a web page saved under the file's name: download the file itself",
        "empty": "is empty: get the file again",
        "cut": "is cut off or not a safetensors file: get .*",
    }.get(kind, "is a pickle, which may run any code: get .*")
    with pytest.raises(ValueError, match=rf"model\.safetensors {words}\.$") as caught:
        recognise(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        recognise(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"model_index\.json is missing"):
        recognise(tmp_path)


def folder(path: Path, name: str, **unet: Any) -> Path:
    """A diffusers folder with only the files that are inspected."""
    (path / "unet").mkdir(parents=True)
    index = {"_class_name": name, "unet": ["diffusers", "UNet2DConditionModel"]}
    (path / "model_index.json").write_text(json.dumps(index))
    (path / "unet" / "config.json").write_text(json.dumps({"in_channels": 4, "out_channels": 4, **unet}))
    return path


@pytest.mark.parametrize(
    ("name", "unet", "noun"),
    [
        ("StableDiffusionPipeline", {"cross_attention_dim": 768}, "a Stable Diffusion 1.5 model"),
        ("StableDiffusionPipeline", {"cross_attention_dim": 1024}, "a Stable Diffusion 2 model"),
        (
            "StableDiffusionXLInpaintPipeline",
            {"in_channels": 9, "addition_embed_type": "text_time"},
            "an SDXL inpainting model",
        ),
        ("FluxPipeline", {}, "a Flux model"),
        ("StableDiffusion3Pipeline", {}, "a Stable Diffusion 3 model"),
        ("KolorsPipeline", {}, "a model for diffusers' KolorsPipeline"),
    ],
)
def test_folders_of_other_models(tmp_path: Path, name: str, unet: dict[str, Any], noun: str) -> None:
    assert recognise(folder(tmp_path / "model", name, **unet)) == noun


def test_a_folder_that_is_not_whole(tmp_path: Path) -> None:
    path = toys.save_decoder(tmp_path)
    assert check_decoder(path) == BASE
    assert len(weight_files(path)) == 4
    weights = path / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is cut off"):
        check_decoder(path)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"decoder has no safetensors weights in its folder vae: get .*\."):
        check_decoder(path)
    (path / "unet" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"decoder lacks unet/config\.json"):
        check_decoder(path)
    (path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        check_decoder(path)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "vae/config.json"])
@pytest.mark.parametrize(
    "content", ["[]", "3", "[" * 10**5, '{"a": ' * 10**5, "", "version https://git-lfs.github.com/spec/v1"]
)
def test_a_configuration_that_is_none_is_refused_by_name(tmp_path: Path, file: str, content: str) -> None:
    path = folder(tmp_path / "model", "StableDiffusionXLPipeline")
    (path / "vae").mkdir()
    (path / file).write_text(content)
    with pytest.raises(ValueError, match=file if "/" in file else f"model/{file}") as refusal:
        check_vae(path / "vae") if file.startswith("vae") else check_decoder(path)
    assert toys.one_sentence(refusal.value)


def test_a_configuration_of_wrong_values_is_refused_by_name(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", "StableDiffusionXLPipeline", in_channels="4")
    with pytest.raises(ValueError, match=r"unet/config\.json has a number of channels that is '4'") as refusal:
        check_decoder(path)
    assert toys.one_sentence(refusal.value)
    other = folder(tmp_path / "other", "StableDiffusionPipeline", cross_attention_dim=[768])
    assert recognise(other) == "a Stable Diffusion model"
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline", "unet": 5}')
    assert recognise(other) == "a model for diffusers' StableDiffusionXLPipeline"
