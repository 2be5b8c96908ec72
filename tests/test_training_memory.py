"""How much memory a recipe needs is known from the headers of its files, and said before anything is loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import toy_llms
import toys
from m3adapter.arguments import UserError
from m3adapter.training import memory
from m3adapter.training.memory import check_memory, estimate
from m3adapter.training.recipe import Recipe, read_recipe, recipe_of

GIB = 2**30


def save_header(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file that says what it holds, and holds nothing: an SDXL that takes no room."""
    header, place = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL, CLIP ViT-L and a language model of 8 billion weights, as far as their headers go."""
    folder = tmp_path_factory.mktemp("large")
    parts = {
        "model.diffusion_model.w": [2_567_000, 1000],
        "first_stage_model.w": [83_000, 1000],
        "conditioner.w": [817_000, 1000],
    }
    save_header(folder / "sdxl.safetensors", parts)
    save_header(folder / "vision" / "model.safetensors", {"w": [304_000, 1000]})
    save_header(folder / "llm" / "model.safetensors", {"model.w": [8_190_000, 1000]})
    sizes = {"hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288, "model_type": "qwen3"}
    (folder / "llm" / "config.json").write_text(json.dumps({**sizes, "architectures": ["Qwen3ForCausalLM"]}), "utf-8")
    return folder


def shipped(name: str, large: Path) -> Recipe:
    models = {"language": large / "llm", "vision": large / "vision", "decoder": large / "sdxl.safetensors"}
    return read_recipe(Path(name), [f"models.{part}={path}" for part, path in models.items()])


@pytest.mark.parametrize(("name", "gigabytes"), [("sdxl_12gb", 12), ("sdxl_24gb", 24), ("sdxl_80gb", 80)])
def test_a_recipe_that_ships_fits_its_card_and_uses_it(name: str, gigabytes: int, large: Path) -> None:
    need = estimate(shipped(name, large))
    assert need is not None
    assert 0.5 * gigabytes * 1e9 < need.total < 0.95 * gigabytes * 1e9, str(need)


def test_what_is_too_large_is_refused_in_a_sentence_before_it_is_loaded(
    large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda device: 12 * GIB)
    with pytest.raises(
        UserError, match=r"needs about \d+\.\d GiB and the device has 12\.0: lower micro_batch"
    ) as caught:
        check_memory(shipped("sdxl_80gb", large))
    assert toys.one_sentence(caught.value)
    said = capsys.readouterr().out
    assert said.startswith("Memory needed: about ") and said.count("\n") == 1 and "language model" in said


def test_more_at_a_time_needs_more_and_checkpointing_less(large: Path) -> None:
    def total(**changes: dict) -> int:
        models = {
            "language": str(large / "llm"),
            "vision": str(large / "vision"),
            "decoder": str(large / "sdxl.safetensors"),
        }
        need = estimate(recipe_of({"models": models, **changes}))
        assert need is not None
        return need.total

    plain = total(stage1={"micro_batch": 2}, stage2={"micro_batch": 2})
    assert (
        total(stage1={"micro_batch": 4})
        > plain
        > total(stage1={"micro_batch": 2}, stage2={"micro_batch": 2}, run={"checkpointing": True})
    )
    assert total(stage1={"micro_batch": 2}, stage2={"micro_batch": 2}, run={"offload": True}) < plain


def test_what_the_files_do_not_tell_is_not_guessed(tmp_path: Path) -> None:
    models = {name: str(tmp_path) for name in ("language", "vision", "decoder")}
    assert estimate(recipe_of({"models": models})) is None
    need = estimate(recipe_of({"models": {name: "starter" for name in models}}), cpu=True)
    assert need is not None and need.total < 8 * GIB
    assert memory.device_memory(torch.device("cpu")) > GIB  # type: ignore[operator]


def test_a_gguf_file_tells_what_gradients_through_it_need(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    models = {"language": str(toy_llms.gguf_llama(tmp_path / "toy.gguf")), "vision": "starter", "decoder": "starter"}
    for learns in ({"lora": {"rank": 4}}, {"stage2": {"projection": True}}):
        need = estimate(recipe_of({"models": models, **learns}), cpu=True)
        assert need is not None and need.total < 8 * GIB


@pytest.mark.parametrize("kind", ["folder", "pickle", "text", "empty", "list", "shape", "nested", "missing"])
def test_an_adapter_that_cannot_be_read_is_estimated_as_a_new_one(large: Path, tmp_path: Path, kind: str) -> None:
    """What is wrong with it is said where it is opened."""
    path = tmp_path / ("adapter.pt" if kind == "pickle" else "adapter.safetensors")
    if kind == "folder":
        path.mkdir()
    elif kind in ("pickle", "text", "empty"):
        path.write_bytes({"pickle": b"PK\x03\x04" + bytes(60), "text": b"some words of a text", "empty": b""}[kind])
    elif kind != "missing":
        texts = {"list": b"[1, 2]", "shape": b'{"w": {"shape": "wide"}}', "nested": b"[" * 100_000}
        path.write_bytes(len(texts[kind]).to_bytes(8, "little") + texts[kind])
    recipe = shipped("sdxl_24gb", large)
    new, found = estimate(recipe), estimate(replace(recipe, models=replace(recipe.models, adapter=str(path))))
    assert new is not None and found is not None and found.total == new.total


def test_a_header_that_is_a_list_tells_nothing(large: Path, tmp_path: Path) -> None:
    path = tmp_path / "decoder.safetensors"
    path.write_bytes((6).to_bytes(8, "little") + b"[1, 2]")
    recipe = shipped("sdxl_24gb", large)
    assert estimate(replace(recipe, models=replace(recipe.models, decoder=str(path)))) is None


def test_sizes_that_are_no_numbers_tell_nothing(large: Path, tmp_path: Path) -> None:
    shutil.copytree(large / "llm", tmp_path / "llm")
    config = tmp_path / "llm" / "config.json"
    config.write_text(json.dumps({"hidden_size": "wide", "text_config": 3, "architectures": ["X"]}), "utf-8")
    recipe = shipped("sdxl_24gb", large)
    recipe = replace(recipe, models=replace(recipe.models, language=str(tmp_path / "llm")))
    assert estimate(replace(recipe, lora=replace(recipe.lora, rank=4))) is not None


def test_what_is_next_to_nothing_is_not_listed() -> None:
    assert str(memory.Need({"decoder": 1000})) == "Memory needed: about 0.0 GiB."
    assert str(memory.Need({"decoder": 2 * GIB, "adapter": 1})) == "Memory needed: about 2.0 GiB (decoder 2.0)."
