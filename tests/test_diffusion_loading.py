"""Opening models: folders and single files paint the same, schedulers have names, missing parts are reported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import toys
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.loading import count_parameters, stored_dtype
from m3adapter.diffusion.schedulers import AS_THE_MODEL_SAYS, SCHEDULERS, build_scheduler
from tools import environment

CLIP_TOKENIZER = environment.ENGINE / "comfy" / "sd1_tokenizer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    return toys.save_refiner(tmp_path_factory.mktemp("toy"), folder)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    return toys.save_single_file(tmp_path_factory.mktemp("toy") / "toy.safetensors", folder)


def painted(decoder: DiffusionDecoder) -> torch.Tensor:
    return decoder.decode(toys.condition(), seed=5, steps=2)


@pytest.mark.slow
def test_a_single_file_paints_what_its_folder_paints(folder: Path, file: Path) -> None:
    assert torch.equal(painted(load_decoder(file, configs=folder)), painted(load_decoder(folder)))
    assert torch.equal(painted(load_decoder(folder)), painted(DiffusionDecoder.from_pretrained(folder)))


@pytest.mark.slow
def test_a_refiner_opens_as_folder_and_as_single_file(tmp_path: Path, folder: Path, refiner: Path) -> None:
    file = toys.save_single_file(tmp_path / "refiner.safetensors", refiner)
    both = load_decoder(refiner), load_decoder(file, configs=refiner)
    both[1].pipeline.register_modules(tokenizer_2=both[0].pipeline.tokenizer_2)
    base, condition = load_decoder(folder), toys.condition()
    for each in both:
        assert each.is_refiner and each.text_encoder is None and not base.is_refiner
    first, second = (base.decode(condition, seed=5, steps=5, refiner=each) for each in both)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)  # the text encoder's memory is laid out otherwise
    assert not torch.equal(first, base.decode(condition, seed=5, steps=5))


def test_both_text_encoders_come_out_of_a_single_file(folder: Path, file: Path) -> None:
    theirs = load_decoder(folder)
    ours = load_decoder(file, configs=folder, tokenizer=folder / "tokenizer")
    for name in ("text_encoder", "text_encoder_2"):
        for one, other in zip(getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True):
            assert torch.equal(one, other)
    one, other = (decoder.encode_text(["a fox"]) for decoder in (ours, theirs))
    torch.testing.assert_close(one.pooled, other.pooled)
    torch.testing.assert_close(one.embeds[:, :4], other.embeds[:, :4])  # begin, two words, end; then the padding


def test_without_a_tokenizer_only_reading_fails(folder: Path, file: Path) -> None:
    decoder = load_decoder(file, configs=folder)
    assert painted(decoder).isfinite().all()
    with pytest.raises(ValueError, match="came without a tokenizer, so it cannot read text: load it") as caught:
        decoder.encode_text(["a fox"])
    assert toys.one_sentence(caught.value)
    with pytest.raises(FileNotFoundError, match=r"There is no CLIP tokenizer in .*unet: vocab\.json is missing"):
        load_decoder(file, configs=folder, tokenizer=folder / "unet")


@pytest.mark.slow
def test_a_folder_without_tokenizers_takes_ours(tmp_path: Path, folder: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(bare / name)
    assert torch.equal(painted(load_decoder(bare)), painted(load_decoder(folder)))
    read = load_decoder(bare, tokenizer=folder / "tokenizer").encode_text(["a fox"])
    torch.testing.assert_close(read.pooled, load_decoder(folder).encode_text(["a fox"]).pooled)


def test_clips_own_tokenizer_pads_as_each_encoder_was_trained(tmp_path: Path, folder: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(bare / name)
    pipeline = load_decoder(bare, tokenizer=CLIP_TOKENIZER).pipeline
    how = {"padding": "max_length"}
    assert pipeline.tokenizer("a fox", **how).input_ids == [49406, 320, 3240, *[49407] * (toys.TOKENS - 3)]
    assert pipeline.tokenizer_2("a fox", **how).input_ids == [49406, 320, 3240, 49407, *[0] * (toys.TOKENS - 4)]


def test_types(tmp_path: Path, folder: Path, file: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, half)
    assert stored_dtype(half) == torch.float16
    assert stored_dtype(file) == stored_dtype(folder) == torch.float32
    assert load_decoder(half, configs=folder).unet.dtype == torch.float32, "the CPU is slow in half precision"
    kept = load_decoder(half, configs=folder, dtype=torch.float16)
    for part in (kept.unet, kept.vae, kept.text_encoder, kept.text_encoder_2):
        assert {weight.dtype for weight in part.parameters()} == {torch.float16}
    # What an accelerator would get, observed on the meta device.
    assert load_decoder(half, configs=folder, device="meta").unet.dtype == torch.float16
    assert count_parameters(half) == count_parameters(file)


def test_the_fp16_variant_of_a_folder(tmp_path: Path, folder: Path) -> None:
    half = shutil.copytree(folder, tmp_path / "half")
    for path in half.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    assert torch.equal(painted(load_decoder(half)), painted(load_decoder(folder)))
    assert count_parameters(half) == count_parameters(folder)


def test_a_file_that_is_not_whole(tmp_path: Path, folder: Path, file: Path) -> None:
    weights = load_file(file)
    for gone in (
        "model.diffusion_model.middle_block.0.out_layers.3.weight",
        "conditioner.embedders.1.model.ln_final.bias",
    ):
        path = tmp_path / "part.safetensors"
        save_file({name: value for name, value in weights.items() if name != gone}, path)
        words = r"part\.safetensors is incomplete: it lacks .*weights .*an SDXL base model"
        with pytest.raises(ValueError, match=words) as caught:
            load_decoder(path, configs=folder)
        assert toys.one_sentence(caught.value)


@pytest.mark.parametrize(
    ("part", "gone"),
    [("unet", "conv_in.weight"), ("vae", "encoder.conv_in.bias"), ("text_encoder_2", "text_projection.weight")],
)
def test_a_folder_that_is_not_whole(tmp_path: Path, folder: Path, part: str, gone: str) -> None:
    path = shutil.copytree(folder, tmp_path / "part")
    (file,) = (path / part).glob("*.safetensors")
    save_file({name: value for name, value in load_file(file).items() if name != gone}, file, {"format": "pt"})
    words = rf"part is incomplete: it lacks 1 weights of an SDXL base model, {part}\.{gone} among them\."
    with pytest.raises(ValueError, match=words) as caught:
        load_decoder(path)
    assert toys.one_sentence(caught.value)


def test_a_file_of_other_sizes_than_sdxls(file: Path) -> None:
    with pytest.raises(ValueError, match=r"toy\.safetensors is laid out as an SDXL base model, but cannot be opened: "):
        load_decoder(file)


def test_a_folder_without_a_scheduler(tmp_path: Path, folder: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "part")
    shutil.rmtree(path / "scheduler")
    with pytest.raises(ValueError, match="but cannot be opened: .*scheduler_config.json") as caught:
        load_decoder(path)
    assert toys.one_sentence(caught.value)


@pytest.mark.slow
def test_fine_tunes_that_predict_velocity(tmp_path: Path, folder: Path) -> None:
    plain = shutil.copytree(folder, tmp_path / "plain")
    path = plain / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "epsilon"}))
    for marks, predicts, rescaled in (
        ({}, "epsilon", False),
        ({"v_pred": torch.zeros(0)}, "v_prediction", False),
        ({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, "v_prediction", True),
    ):
        file = toys.save_single_file(tmp_path / "tuned.safetensors", folder, **marks)
        config = load_decoder(file, configs=plain).pipeline.scheduler.config
        assert (config.prediction_type, config.rescale_betas_zero_snr) == (predicts, rescaled)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_schedulers_have_names_and_keep_the_models_schedule(folder: Path) -> None:
    own = load_decoder(folder, scheduler=AS_THE_MODEL_SAYS).pipeline.scheduler
    assert own.config == load_decoder(folder).pipeline.scheduler.config
    kinds = set()
    for name in SCHEDULERS[1:]:
        config = load_decoder(folder, scheduler=name).pipeline.scheduler.config
        kinds.add((config["_class_name"], config.get("use_karras_sigmas"), config.get("algorithm_type")))
        assert (config.beta_start, config.prediction_type) == (own.config.beta_start, "v_prediction")
        assert config.timestep_spacing == "trailing"
    assert len(kinds) == len(SCHEDULERS) - 1, "no two names mean the same"


def test_a_name_says_all_of_the_spacing(folder: Path) -> None:
    karras = build_scheduler("euler_karras", load_decoder(folder).pipeline.scheduler.config)
    assert karras.config.use_karras_sigmas
    assert not build_scheduler("euler", karras.config).config.use_karras_sigmas


def test_an_unknown_scheduler(folder: Path) -> None:
    with pytest.raises(ValueError, match="There is no scheduler 'karras': choose one of as the model says, euler,"):
        load_decoder(folder, scheduler="karras")


def test_the_autoencoder_in_tiles_and_slices(folder: Path) -> None:
    decoder = load_decoder(folder)
    condition = replace(toys.condition(2), captions=())
    shapes: list[torch.Size] = []
    hook = decoder.vae.decoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    how = {"seed": 5, "steps": 1, "width": 48, "height": 48}
    whole = decoder.decode(condition, **how)
    assert [tuple(shape) for shape in shapes] == [(2, 4, 6, 6)]
    shapes.clear()
    decoder.split_vae(slicing=True)
    torch.testing.assert_close(decoder.decode(condition, **how), whole, rtol=1e-4, atol=1e-4)
    assert [tuple(shape) for shape in shapes] == [(1, 4, 6, 6)] * 2
    shapes.clear()
    decoder.split_vae(tiling=True)
    assert decoder.decode(condition, **how).shape == whole.shape
    assert len(shapes) > 1 and all(max(shape[2:]) <= 4 for shape in shapes)
    shapes.clear()
    decoder.split_vae()
    assert torch.equal(decoder.decode(condition, **how), whole)
    hook.remove()


def test_a_folder_neither_runs_code_nor_fetches_kernels(folder: Path, tmp_path: Path) -> None:
    def changed(name: str, values: dict[str, object]) -> Path:
        copied = shutil.copytree(folder, tmp_path / name.replace("/", "_"), dirs_exist_ok=True)
        (copied / "unet" / "mine.py").write_text("raise SystemExit('code of the model was run')", "utf-8")
        stored = json.loads((copied / name).read_text("utf-8"))
        (copied / name).write_text(json.dumps({**stored, **values}), "utf-8")
        return copied

    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 1\n"
    for name, values, reason in (
        ("model_index.json", {"unet": ["mine", "Mine"]}, r"\(for its unet\), and such code is not run"),
        (
            "text_encoder/config.json",
            {"_attn_implementation": "kernels-community/x"},
            "attention kernel from the internet",
        ),
        (
            "text_encoder_2/config.json",
            {"attn_implementation": "flash_attention_2"},
            "attention kernel from the internet",
        ),
    ):
        with pytest.raises(ValueError, match=reason) as refusal:
            load_decoder(changed(name, values))
        assert toys.one_sentence(refusal.value), refusal.value
    copied = shutil.copytree(folder, tmp_path / "pointer")
    (copied / "vae" / "diffusion_pytorch_model.safetensors").write_text(pointer, "utf-8")
    with pytest.raises(ValueError, match="is a Git LFS pointer") as refusal:
        load_decoder(copied)
    assert toys.one_sentence(refusal.value)
