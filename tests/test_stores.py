"""Stores of what frozen models have said: whole files only, by content, larger than memory if need be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from m3adapter.training import stores
from m3adapter.training.stores import Store, fingerprint


def values(number: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 2), float(number)), "b": torch.full((number,), number, dtype=torch.bfloat16)}


def test_what_is_kept_comes_back_in_the_next_run_and_for_no_other_model(tmp_path: Path) -> None:
    store = Store(tmp_path, "model")
    for number in range(5):
        store[str(number)] = values(number)
    assert "3" in store and not list(tmp_path.rglob("*.safetensors"))
    store.flush()
    assert [path.suffix for path in (tmp_path / "model").iterdir()] == [".safetensors"]
    again = Store(tmp_path, "model")
    for number in range(5):
        found = again[str(number)]
        assert found.keys() == {"a", "b"} and all(torch.equal(found[name], values(number)[name]) for name in found)
    assert len(again) == 5 and not len(Store(tmp_path, "another")) and "9" not in again


def test_files_are_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SHARD_BYTES", 4000)
    store = Store(tmp_path, "model")
    for number in range(40):
        store[str(number)] = {"x": torch.zeros(250)}
    assert len(list(tmp_path.rglob("*.safetensors"))) == 10 and not store._fresh


def test_only_what_is_missing_is_made_in_groups(tmp_path: Path) -> None:
    store = Store(tmp_path, "model")
    store["2"] = values(2)
    made: list[list[int]] = []

    def make(items: list[int]) -> list[dict[str, torch.Tensor]]:
        made.append(items)
        return [values(item) for item in items]

    told: list[tuple[int, int]] = []
    store.fill(((str(n), n) for n in (1, 2, 3, 4, 3)), make, together=2, told=lambda *how: told.append(how))
    assert made == [[1, 3], [4]] and told == [(2, 3), (3, 3)]
    assert len(Store(tmp_path, "model")) == 4


@pytest.mark.parametrize("killed", [KeyboardInterrupt, None])
def test_what_was_made_before_a_run_was_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: type[BaseException] | None
) -> None:
    """Of one that is killed, a minute is lost; of one that is interrupted, nothing."""
    store = Store(tmp_path, "model")
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(stores.time, "monotonic", lambda: next(clock))

    def make(items: list[int]) -> list[dict[str, torch.Tensor]]:
        if items == [4]:
            if killed is not None:
                raise killed
            assert len(Store(tmp_path, "model")) >= 2, "nobody may ever come back to this one"
        return [values(item) for item in items]

    items = [(str(number), number) for number in range(1, 6)]
    if killed is None:
        store.fill(items, make)
    else:
        with pytest.raises(killed):
            store.fill(items, make)
        assert len(Store(tmp_path, "model")) == 3


@pytest.mark.parametrize("damage", ["cut", "other", "part"])
def test_a_file_that_is_not_whole_is_not_read_and_made_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path, "model")
    store["1"] = values(1)
    store.flush()
    path = next(tmp_path.rglob("*.safetensors"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "other":
        from safetensors.torch import save_file

        save_file({"1/a": torch.zeros(2)}, path)
    else:
        path.rename(path.with_suffix(".part"))
    again = Store(tmp_path, "model")
    assert "1" not in again and bool(again.notes) == (damage != "part")
    again["1"] = values(1)
    again.flush()
    assert "1" in Store(tmp_path, "model")


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import safetensors.torch

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(safetensors.torch, "save_file", full)
        store = Store(tmp_path, "model")
        store["1"] = values(1)
        store.flush()
    assert "stays in memory" in capsys.readouterr().err and torch.equal(store["1"]["a"], values(1)["a"])
    assert not list(tmp_path.rglob("*.part"))
    store.flush()
    assert "1" in Store(tmp_path, "model")


def test_a_fingerprint_is_that_of_weights_and_values() -> None:
    torch.manual_seed(0)
    layer, same = nn.Linear(300, 300), nn.Linear(300, 300)
    same.load_state_dict(layer.state_dict())
    assert fingerprint(layer, 1) == fingerprint(same, 1) != fingerprint(same, 2)
    with torch.no_grad():
        same.weight.add_(1e-4)
    assert fingerprint(layer) != fingerprint(same) and fingerprint(layer) != fingerprint(layer.half())
    assert fingerprint("a", "b") != fingerprint("ab") and fingerprint(layer.bias) != fingerprint(layer.bias + 1)
