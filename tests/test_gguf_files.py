"""Faulty GGUF files: each is refused by name, before it is read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_llms
from m3adapter.language.auto import load_language_model
from m3adapter.language.gguf_files import check_gguf
from m3adapter.language.sizes import weight_bytes
from test_language_files import POINTER
from toys import one_sentence


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid GGUF file."""
    return toy_llms.gguf_llama(tmp_path_factory.mktemp("whole") / "toy.gguf")


def remade(path: Path, target: Path, *, drop: str = "$^", tensors: str = "$^", **values: Any) -> Path:
    """A GGUF file with other metadata: `drop` and `tensors` leave some out by name, `values` set or add some."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(path)
    given = {name.replace("__", "."): value for name, value in values.items()}
    writer = GGUFWriter(target, given.get("general.architecture", "llama"))
    for name, item in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or re.match(drop, name) or name in given:
            continue
        kind = item.types[0]
        writer.add_key_value(name, item.contents(), kind, item.types[-1] if kind == GGUFValueType.ARRAY else None)
    for name, value in given.items():
        if name != "general.architecture":
            kind = GGUFValueType.STRING if isinstance(value, str) else GGUFValueType.UINT32
            writer.add_key_value(name, value, kind)
    for item in reader.tensors:
        if not re.match(tensors, item.name):
            writer.add_tensor(item.name, item.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_gguf_file_that_is_remade_still_opens(whole: Path, tmp_path: Path) -> None:
    path = remade(whole, tmp_path / "toy.gguf", split__count=1)
    weights, again = (load_language_model(file).model.state_dict() for file in (whole, path))
    assert all(torch.equal(weights[name], value) for name, value in again.items())


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("toy.gguf", {"drop": r"tokenizer\.chat_template"}, "no chat template.* variant of toy.gguf"),
        ("toy.gguf", {"drop": r"tokenizer\.ggml\.tokens"}, "without its vocabulary"),
        ("toy.gguf", {"tensors": r"blk\.1\."}, "toy.gguf lacks blk.1"),
        ("toy.gguf", {"tensors": r"blk\.2\."}, "lacks blk.2"),
        ("toy.gguf", {"tensors": r"blk\.1\.ffn_up"}, r"toy.gguf lacks model\.layers\.1\.mlp\.up"),
        ("toy.gguf", {"tensors": "token_embd"}, "lacks token_embd.weight"),
        ("toy.gguf", {"split__count": 3, "split__no": 1}, "part 2 of 3 of a split model"),
        ("toy-00001-of-00003.gguf", {}, "part 1 of 3 of a split model"),
        ("mmproj-toy-f16.gguf", {}, "vision part"),
        ("toy.gguf", {"general__architecture": "clip", "general__type": "mmproj"}, "vision part"),
        ("toy.gguf", {"general__architecture": "clip"}, "vision part"),
        ("toy.gguf", {"general__type": "adapter"}, "a LoRA adapter"),
        *[("toy.gguf", {"general__architecture": kind}, "a text encoder") for kind in ("t5", "t5encoder")],
        ("toy.gguf", {"general__architecture": "bert"}, "an embedding model"),
        ("toy.gguf", {"llama__pooling_type": 3}, "an embedding model"),
        ("toy.gguf", {"general__architecture": "flux"}, "a diffusion model"),
        ("toy.gguf", {"general__architecture": "mamba9", "mamba9__block_count": 3}, "mamba9"),
        (
            "toy.gguf",
            {"general__architecture": "deci", "deci__block_count": 3},
            "holds a deci model, which transformers does not open as GGUF .*: get the model as a folder, or choose",
        ),
    ],
)
def test_a_gguf_file_that_is_not_right_is_refused_by_name(
    whole: Path, tmp_path: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    path = remade(whole, tmp_path / name, **changes)
    with pytest.raises(ValueError, match=reason) as refusal:
        load_language_model(path)
    assert one_sentence(refusal.value) and name in str(refusal.value), refusal.value


def test_the_last_norm_of_a_gguf_file_may_be_called_as_lfm2s(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    for name in ("output_norm", "token_embd_norm", "another_norm"):
        writer = GGUFWriter(path := tmp_path / f"{name}.gguf", "lfm2")
        writer.add_block_count(1)
        writer.add_token_list(["a"])
        writer.add_chat_template("{{ messages }}")
        for tensor in ("token_embd", "blk.0.attn_norm", name):
            writer.add_tensor(f"{tensor}.weight", torch.zeros(1, 32).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if name == "another_norm":
            with pytest.raises(ValueError, match="lacks output_norm.weight"):
                check_gguf(path)
        else:
            assert f"{name}.weight" in check_gguf(path).tensors


def test_a_gguf_file_beside_an_adapter_is_not_taken_for_its_model(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole, tmp_path / "toy.gguf")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}', "utf-8")
    with pytest.raises(ValueError, match="toy.gguf lies beside an adapter") as refusal:
        load_language_model(tmp_path / "toy.gguf")
    assert one_sentence(refusal.value)


def test_a_damaged_gguf_file_is_refused_before_it_is_read(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it is read"))
    data, path = whole.read_bytes(), tmp_path / "toy.gguf"
    nested = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little")
    nested += (1).to_bytes(8, "little") + b"a" + (9).to_bytes(4, "little") * 2 + (2**40).to_bytes(8, "little")
    for content, reason in (
        (data[:-1], "cut off"),
        (data[: len(data) // 2], "cut off"),
        (data[:2000], "cut off"),
        (data[:9], "cut off"),
        (b"", "empty"),
        (POINTER.encode(), "Git LFS pointer"),
        (b"GGUF" + b"\xff" * 64, "is not a GGUF file"),
        (b"FUGG" + data[4:], "is not a GGUF file"),
        (nested, "is not a GGUF file"),
        (data[:8] + b"\xff" * 8 + data[16:], "is not a GGUF file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason) as refusal:
            load_language_model(path)
        assert one_sentence(refusal.value) and "toy.gguf" in str(refusal.value), refusal.value
    with pytest.raises(ValueError, match="is not a GGUF file"):
        weight_bytes(path)
