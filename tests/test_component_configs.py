"""Diffusion models with wrong configurations: reported by file and field, before any weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import toys
from m3adapter.diffusion.auto import load_decoder
from m3adapter.diffusion.component_configs import check_parts
from m3adapter.diffusion.loading import CONFIGS
from m3adapter.diffusion.vae_loading import load_vae

UNET, VAE, TEXT, SCHEDULER = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.save_decoder(tmp_path_factory.mktemp("configured") / "mine")


def changed(folder: Path, to: Path, file: str, **values: Any) -> Path:
    """A copy of a decoder with other values in one of its configurations."""
    shutil.copytree(folder, to)
    path = to / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return to


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        *[(UNET, "block_out_channels", value) for value in ("x", None, ["32", "64"], {"a": 1}, [32, None])],
        (UNET, "down_block_types", 5), (UNET, "down_block_types", [1, 2]), (UNET, "sample_size", "large"),
        (UNET, "cross_attention_dim", "wide"), (UNET, "attention_head_dim", {"a": 8}), (UNET, "norm_eps", "small"),
        (UNET, "layers_per_block", None), (UNET, "act_fn", 7),
        *[(VAE, "scaling_factor", value) for value in ("a", None, [1.0], {})],
        (VAE, "block_out_channels", "x"), (VAE, "layers_per_block", "two"), (VAE, "latents_mean", "zero"),
        *[(SCHEDULER, "beta_start", value) for value in ("a", None, [0.1], {"a": 1})],
        (SCHEDULER, "timestep_spacing", 5), (SCHEDULER, "steps_offset", "one"), (SCHEDULER, "beta_schedule", 3),
        (SCHEDULER, "num_train_timesteps", "x"), (SCHEDULER, "num_train_timesteps", 10**9),
        (TEXT, "hidden_size", "x"), (TEXT, "hidden_size", {"a": 1}), (TEXT, "hidden_act", 5),
        (TEXT, "num_hidden_layers", "two"), (TEXT, "vocab_size", ["a"]), (TEXT, "layer_norm_eps", "small"),
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_told_with_its_file(
    folder: Path, tmp_path: Path, file: str, field: str, value: Any
) -> None:
    path = changed(folder, tmp_path / "mine", file, **{field: value})
    with pytest.raises(ValueError) as refusal:
        load_decoder(path)
    said = str(refusal.value)
    assert field in said and file in said and "\n" not in said and str(tmp_path) not in said, said


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        (UNET, "block_out_channels", [32]), (UNET, "block_out_channels", True), (UNET, "norm_num_groups", 0),
        (UNET, "norm_num_groups", 7), (UNET, "down_block_types", ["Nothing", "DownBlock2D"]), (UNET, "act_fn", "none"),
        (VAE, "block_out_channels", []), (VAE, "act_fn", None), (SCHEDULER, "beta_schedule", "nonsense"),
        (TEXT, "num_attention_heads", 0), (TEXT, "num_attention_heads", 5), (TEXT, "hidden_act", "nonsense"),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_built_is_told_by_its_file(
    folder: Path, tmp_path: Path, file: str, field: str, value: Any
) -> None:
    path = changed(folder, tmp_path / "mine", file, **{field: value})
    with pytest.raises(ValueError, match=rf"^{file} of mine cannot be built \(.*\): get the file"):
        load_decoder(path)


def test_a_vae_of_its_own_is_looked_over_too(folder: Path, tmp_path: Path) -> None:
    path = changed(folder, tmp_path / "mine", VAE, scaling_factor="a")
    with pytest.raises(ValueError, match="^vae/config.json has 'a' as scaling_factor, which is not a valid value: get"):
        load_vae(path / "vae", channels=4, config=folder, dtype=None)


def test_what_stands_in_files_that_work_is_no_mistake(folder: Path, tmp_path: Path) -> None:
    for own in CONFIGS.iterdir():
        check_parts(own)
    usual = {"upcast_attention": None, "sample_size": [2, 2], "dropout": 0}
    path = changed(folder, tmp_path / "mine", UNET, **usual, norm_eps=1, what_nobody_knows={"a": [1, "x"]})
    assert load_decoder(path).unet.config.sample_size == [2, 2]
