"""Folders of vision encoders: another kind of model, a weight that is gone and sizes that do not fit are a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import toy_llms
import toys
from m3adapter.adapter.vision_encoder import VisionEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toys.vision_encoder().save_pretrained(tmp_path / "vision")
    return tmp_path / "vision"


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        VisionEncoder.from_pretrained(folder)
    said = str(caught.value)
    assert said.startswith(f"{folder.name} ") and str(folder.parent) not in said and toys.one_sentence(said), said
    return said


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def test_a_model_of_another_kind_is_no_vision_encoder(tmp_path: Path, folder: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    toy_llms.llama(tmp_path / "llm")
    for name, kind in (("dino", "dinov2"), ("llm", "llama")):
        assert f"holds a model of the kind '{kind}': choose the folder of a CLIP vision model" in refused(
            tmp_path / name
        )
    set_config(folder, model_type=None)
    assert "holds a model of the kind None" in refused(folder)


def test_a_whole_clip_has_a_vision_encoder(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    inner = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=inner, vision_config={**inner, "image_size": 16, "patch_size": 4}, projection_dim=8)
    whole = CLIPModel(config)
    whole.save_pretrained(tmp_path / "clip")
    opened = VisionEncoder.from_pretrained(tmp_path / "clip").model.state_dict()
    expected = whole.vision_model.state_dict()
    for name, value in opened.items():
        assert value.equal(expected[name.removeprefix("vision_model.")]), name


def test_a_weight_that_is_gone_is_not_made_up(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    gone = next(name for name in sorted(weights) if "layers.1.self_attn.q_proj.weight" in name)
    del weights[gone]
    save_file(weights, path, metadata={"format": "pt"})
    said = refused(folder)
    assert "lacks " in said and "layers.1.self_attn.q_proj.weight: get its files of weights again" in said


@pytest.mark.parametrize("damage", ["sizes", "strict", "cut", "none", "pickle"])
def test_damaged_files_are_a_sentence(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    if damage == "sizes":
        set_config(folder, intermediate_size=48)
    elif damage == "strict":
        set_config(folder, hidden_size="wide")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
        if damage == "pickle":
            (folder / "pytorch_model.bin").write_bytes(b"words")
    assert "cannot be opened as a CLIP vision model (" in refused(folder)
