"""Adapter checkpoints: saved and loaded without loss, and one clear sentence for every other file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import toys
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.adapter.checkpoint import recognise
from m3adapter.weights.counting import CheckpointError
from m3adapter.weights.starter import STARTER


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, toys.adapter())
    return path


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (not a dict)


def refused(path: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        load_adapter(path)
    assert toys.one_sentence(caught.value), caught.value


def test_there_and_back_is_exact(path: Path) -> None:
    saved, loaded = toys.adapter(), load_adapter(path)
    assert loaded.config == saved.config
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    expected = saved.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    features = toys.slot_features()
    assert torch.equal(loaded(features).embeds, saved(features).embeds)


def test_a_configuration_of_its_own_comes_back(tmp_path: Path) -> None:
    config = toys.config(num_tokens=5, num_blocks=1, references=3, num_image_tokens=2)
    save_adapter(tmp_path / "a.safetensors", toys.adapter(config=config))
    assert load_adapter(tmp_path / "a.safetensors").config == config


def test_half_precision(path: Path) -> None:
    save_adapter(path, toys.adapter(), dtype=torch.float16)
    tensors, _ = contents(path)
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    expected = toys.adapter().state_dict()
    for name, value in load_adapter(path).state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].half().float())
    assert {p.dtype for p in load_adapter(path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_saving_leaves_nothing_else_behind(path: Path) -> None:
    save_adapter(path, toys.adapter(seed=1))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert torch.equal(load_adapter(path).queries, toys.adapter(seed=1).queries)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", r"There is no adapter file none\.safetensors")
    refused(tmp_path, "There is no adapter file")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refused(path, "is not a complete safetensors file: copy or download it again")


def test_a_pickle_under_another_name_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "opened",)

    path = tmp_path / "adapter.safetensors"
    path.write_bytes(pickle.dumps({"weights": [Trap()] * 50}))
    refused(path, "is not a complete safetensors file")
    torch.save({"weights": torch.zeros(3), "trap": Trap()}, path)
    refused(path, "is not a complete safetensors file")
    assert not (tmp_path / "opened").exists()


def test_another_models_weights(path: Path) -> None:
    save_file({"unet.weight": torch.zeros(3)}, path)
    refused(path, "is not an M3-Adapter checkpoint")
    save_file({"unet.weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    refused(path, "is not an M3-Adapter checkpoint")


def test_weights_of_another_width(path: Path) -> None:
    tensors, header = contents(path)
    header["config"] = json.dumps({**json.loads(header["config"]), "llm_width": 99})
    save_file(tensors, path, metadata=header)
    refused(path, r"context_in.weight is \(32, 24\), expected \(32, 99\)")


def test_weights_too_few_or_too_many(path: Path) -> None:
    tensors, header = contents(path)
    save_file({**tensors, "another": torch.zeros(2)}, path, metadata=header)
    refused(path, r"another is \(2,\), expected nothing")
    tensors.pop("gate.bias")
    save_file(tensors, path, metadata=header)
    refused(path, r"gate.bias is missing, expected \(32,\)")


@pytest.mark.parametrize(
    "config", ["{", "[]", "null", "{}", '{"llm_width": "wide"}', '{"llm_width": null}', "width 0", "width 33"]
)
def test_a_damaged_header(path: Path, config: str) -> None:
    tensors, header = contents(path)
    if config.startswith("width"):
        config = json.dumps({**json.loads(header["config"]), "width": int(config.split()[1])})
    save_file(tensors, path, metadata={**header, "config": config})
    refused(path, "The header of the adapter adapter.safetensors is damaged")


def test_what_a_newer_version_adds_is_ignored(path: Path) -> None:
    tensors, header = contents(path)
    header["config"] = json.dumps({**json.loads(header["config"]), "unheard_of": 1})
    save_file(tensors, path, metadata=header)
    assert load_adapter(path).config == toys.config()


def test_how_far_its_gate_opens_comes_back_and_is_that_of_the_first_starter_where_nobody_said(path: Path) -> None:
    save_adapter(path, toys.adapter(config=toys.config(open_gate=0.3)))
    assert load_adapter(path).config.open_gate == 0.3
    tensors, header = contents(path)
    config = json.loads(header["config"])
    for said, words in (("wide", "must be above 0 and up to 1, not 'wide'"), (0, "up to 1, not 0")):
        save_file(tensors, path, metadata={**header, "config": json.dumps({**config, "open_gate": said})})
        refused(path, words)
    del config["open_gate"]
    save_file(tensors, path, metadata={**header, "config": json.dumps(config)})
    assert load_adapter(path).config.open_gate == 0.11


def test_an_anchored_adapter_comes_back_anchored(tmp_path: Path) -> None:
    saved = toys.adapter(config=toys.config(anchor=True))
    save_adapter(tmp_path / "a.safetensors", saved)
    loaded = load_adapter(tmp_path / "a.safetensors")
    assert loaded.config.anchor and loaded.config == saved.config
    assert {"alpha", "alpha_pooled"} <= loaded.state_dict().keys()


def test_whether_it_is_anchored_must_be_true_or_false(path: Path) -> None:
    tensors, header = contents(path)
    header["config"] = json.dumps({**json.loads(header["config"]), "anchor": 1})
    save_file(tensors, path, metadata=header)
    refused(path, "is damaged: The adapter's anchor must be true or false, not 1")


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("format", [None, "pt", "m2chat-adapter-1"])
def test_a_file_without_its_configuration_is_recognised(tmp_path: Path, anchor: bool, format: str | None) -> None:
    changes = {
        "num_tokens": 5,
        "num_blocks": 3,
        "references": 3,
        "num_image_tokens": 2,
        "vision_levels": 2,
        "anchor": anchor,
    }
    saved = toys.adapter(config=toys.config(width=128, num_heads=2, **changes))
    path = tmp_path / "a.safetensors"
    save_file(dict(saved.state_dict()), path, metadata={"format": format} if format else None)
    loaded = load_adapter(path)
    assert loaded.config == saved.config
    assert torch.equal(loaded.queries, saved.queries)


def test_the_number_of_heads_may_be_stored_alone(path: Path) -> None:
    tensors, _ = contents(path)
    save_file(tensors, path, metadata={"heads": "4"})
    assert load_adapter(path).config == toys.config()
    save_file(tensors, path)
    assert load_adapter(path).config == toys.config(num_heads=1), "heads are 64 wide where nothing is stored"
    assert recognise({"queries": torch.zeros(3, 4)}) is None


def test_the_starters_adapter_is_not_anchored() -> None:
    path = STARTER / "adapter.safetensors"
    loaded = load_adapter(path)
    tensors, header = contents(path)
    assert not json.loads(header["config"]).get("anchor") and not loaded.config.anchor
    state = {name.replace("gate_projection.", "gate."): value for name, value in loaded.state_dict().items()}
    assert state.keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name].float()) for name, value in state.items())
