"""The official release's adapter: its arithmetic, restated here, and its files, of which nothing is ever executed."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

import toys
from m3adapter.adapter.auto import open_adapter, save_adapter
from m3adapter.adapter.config import OfficialConfig
from m3adapter.adapter.features import SlotFeatures
from m3adapter.adapter.importing import import_official, import_visual_projection
from m3adapter.adapter.official import WINDOW, OfficialAdapter
from m3adapter.adapter.official_files import Report
from m3adapter.gate import GateSetting
from m3adapter.weights.counting import CheckpointError

WIDTH, HEADS, POOLED, TOKENS = 64, 2, 48, 7
LAYERS = ("0", "1")


def weights() -> dict[str, Tensor]:
    """The tensors of the release, by the names below query_block."""
    return release()["query_block"]


def release() -> dict[str, Any]:
    """What the release writes into epochN_queryblock.pkl."""
    return toys.official_release(WIDTH, POOLED, TOKENS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save(release(), tmp_path / "epoch2_queryblock.pkl")
    return tmp_path / "epoch2_queryblock.pkl"


def restated(context: Tensor) -> tuple[Tensor, Tensor]:
    """Prompt embeddings [N, W] and pooled embedding [P] of hidden states [L, H], by the release's formulas."""
    w, c = weights(), context[:32, None]  # nn.MultiheadAttention's own order: [L, batch, H]

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    q = norm("Qnorm", linear("Qlinear", release()["sd_query"]["weight"][:, None]))
    k, v = norm("Knorm", linear("Klinear", c)), norm("Vnorm", linear("Vlinear", c))
    for i in LAYERS:
        name = f"cross_attn_layers.{i}.multihead_attn"
        q, _ = functional.multi_head_attention_forward(
            q, k, v, WIDTH, HEADS, w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"], None, None, False, 0.0,
            w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"], training=False, need_weights=False,
        )  # fmt: skip
        q = linear(f"cross_attn_layers.{i}.linear", q)
    embeds = linear("ffn.ffn.2", functional.relu(linear("ffn.ffn.0", q)))[:, 0]
    return embeds, linear("pooled", embeds.mean(0))


def refused(path: Path, words: str, opened: Any = open_adapter) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        opened(path)
    assert toys.one_sentence(caught.value), caught.value


# Arithmetic


def test_it_computes_what_the_release_computes(path: Path) -> None:
    adapter, _ = import_official(path)
    lengths = (5, WINDOW, WINDOW + 9, 1)
    rows = [toys.states(length, 3, seed=seed) for seed, length in enumerate(lengths)]
    condition = adapter(SlotFeatures.collate([(row, None) for row in rows]))
    for index, row in enumerate(rows):
        embeds, pooled = restated(row.context)
        torch.testing.assert_close(condition.embeds[index], embeds, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(condition.pooled[index], pooled, rtol=1e-4, atol=1e-5)
        assert embeds.std() > 0.01, "or anything would be close"
    assert not condition.negative_embeds.any() and not condition.negative_pooled.any()
    assert condition.captions == ("a fox",) * 4


def test_there_is_nothing_behind_the_gate(path: Path) -> None:
    adapter, _ = import_official(path)
    features = toys.slot_features()
    closed, open_ = adapter(features, GateSetting(0)), adapter(features, GateSetting(4, "fixed", 1.0))
    assert torch.equal(closed.embeds, open_.embeds) and torch.equal(closed.pooled, open_.pooled)
    assert open_.gate.shape == (3, TOKENS, 1) and not open_.gate.any()


def test_it_stands_where_an_m3_adapter_stands(path: Path) -> None:
    adapter, _ = import_official(path)
    assert adapter.image_tokens.shape == (0, toys.LLM_WIDTH) and not adapter.config.anchor
    for given, anchor, words in (
        (toys.slot_features(llm_width=40), None, "a language model of width 24, and this one has 40"),
        (toys.slot_features(), toys.condition(3), "is not anchored"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            adapter(given, None, anchor)
        assert toys.one_sentence(caught.value)


def test_at_full_size_it_has_the_releases_parameters() -> None:
    adapter = OfficialAdapter(OfficialConfig(), device="meta")
    unused = 2 * 1280 + 2048 * 2048 + 2048 + 2 * 2048  # poolnorm, linear, linear_norm
    assert sum(p.numel() for p in adapter.parameters()) + unused == 157_696 + 78_171_904


# Files


def test_the_report_says_what_became_of_the_file(path: Path) -> None:
    adapter, report = import_official(path)
    assert set(report.ignored) == {
        "epoch", *(f"query_block.{n}.{k}" for n in ("poolnorm", "linear", "linear_norm") for k in ("weight", "bias"))
    }  # fmt: skip
    assert len(report.taken) == 1 + len(weights()) - 6 and "sd_query.weight" in report.taken
    assert report.missing == ("image tokens", "low-level path", "gate")
    opened, text = open_adapter(path)
    assert torch.equal(opened.queries, adapter.queries)
    assert (
        text.startswith("Adapter of the official release") and "\nMissing: image tokens, low-level path, gate" in text
    )
    assert str(Report((), ("a", "b"), ())) == "Taken: nothing\nIgnored: a, b\nMissing: nothing"


def test_it_is_read_from_safetensors_and_older_names_as_well(path: Path, tmp_path: Path) -> None:
    expected, _ = import_official(path)
    flat = {f"query_block.{name}": value for name, value in weights().items()}
    flat["query_embedding.weight"] = release()["sd_query"]["weight"]
    save_file(flat, tmp_path / "official.safetensors")
    torch.save({"model": flat, "config": {}}, tmp_path / "official.pth")
    for name in ("official.safetensors", "official.pth"):
        adapter, _ = open_adapter(tmp_path / name, dtype=torch.float64)
        assert adapter.queries.dtype == torch.float64
        assert all(torch.equal(v, expected.state_dict()[n].double()) for n, v in adapter.state_dict().items())


def test_our_own_adapters_open_as_before(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a.safetensors", toys.adapter())
    adapter, text = open_adapter(tmp_path / "a.safetensors")
    assert torch.equal(adapter.queries, toys.adapter().queries)
    assert text.startswith("M3-Adapter of 0.1 million parameters: language model 24 wide")


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    refused(path, r"There is no adapter file a\.pth")
    torch.save({"visual_proj.weight": torch.zeros(4, 3)}, path)
    refused(path, "holds no adapter of the official release")
    torch.save([torch.zeros(3)], path)
    refused(path, "holds no adapter of the official release")
    lacking = release()
    del lacking["query_block"]["cross_attn_layers.1.multihead_attn.in_proj_bias"]
    torch.save(lacking, path)
    refused(path, r"does not fit together: attentions\.1\.to_q\.bias is missing")
    wrong = release()
    wrong["query_block"]["ffn.ffn.0.weight"] = torch.zeros(3, WIDTH)
    torch.save(wrong, path)
    refused(path, r"embed_up\.weight is \(3, 64\), expected \(64, 64\)")
    torch.save({**release(), "sd_query": {"weight": torch.zeros(7, 50)}}, path)
    refused(path, "are 50 wide, which is not a multiple of 32")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("opened", [open_adapter, import_visual_projection])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, opened: Any) -> None:
    path, trace = tmp_path / "epoch0_queryblock.pkl", tmp_path / "executed"
    trapped = {**release(), "extra": Trap(trace)}
    pickle.loads(pickle.dumps(Trap(trace)))
    assert trace.exists(), "the trap does not work"
    trace.unlink()
    for write in (
        lambda: torch.save(trapped, path),
        lambda: torch.save(trapped, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(trapped)),
        lambda: path.write_bytes(pickle.dumps(Trap(trace))),
        lambda: torch.save({**release(), "args": argparse.Namespace(lr=1)}, path),
    ):
        write()
        refused(path, "is damaged or holds more than tensors, and nothing in it was executed", opened)
        assert not trace.exists()


def test_damaged_files_are_refused(path: Path, tmp_path: Path) -> None:
    whole, damaged = path.read_bytes(), tmp_path / "damaged.pkl"
    around: dict[str, Any] = {}
    around["itself"] = around
    for contents in (b"", b"\x80\x04", whole[:100], whole[: len(whole) // 2], bytes(range(256)), pickle.dumps(around)):
        damaged.write_bytes(contents)
        refused(damaged, "is damaged or holds more than tensors")


# The visual projection


def llama_adapter() -> dict[str, Any]:
    shapes = {"visual_proj": (40, 12), "visual_proj_norm": (40,), "clip_proj": (12, 12), "clip_proj_norm": (12,)}
    tensors = {f"{n}.weight": toys.draw(*shape, seed=i) for i, (n, shape) in enumerate(shapes.items())}
    tensors |= {f"{n}.bias": toys.draw(shape[0], seed=9 + i) for i, (n, shape) in enumerate(shapes.items())}
    return {"model": {**tensors, "visual_query.weight": torch.zeros(10, 12)}, "config": {"w_bias": True}}


def test_the_visual_projection_is_taken_where_it_fits(tmp_path: Path) -> None:
    path, contents = tmp_path / "7B.pth", llama_adapter()
    torch.save(contents, path)
    projection, report = import_visual_projection(path)
    w, x = contents["model"], toys.draw(5, 12, seed=3)
    linear = functional.linear(x, w["visual_proj.weight"], w["visual_proj.bias"])
    expected = functional.layer_norm(linear, (40,), w["visual_proj_norm.weight"], w["visual_proj_norm.bias"])
    torch.testing.assert_close(projection(x), expected)
    assert set(report.taken) == {f"visual_proj{n}.{kind}" for n in ("", "_norm") for kind in ("weight", "bias")}
    assert {"visual_query.weight", "clip_proj.weight", "clip_proj_norm.bias"} <= set(report.ignored)
    assert report.missing == ()


def test_a_norm_that_does_not_fit_the_projection_is_left(tmp_path: Path) -> None:
    contents = llama_adapter()["model"]
    contents |= {"visual_proj_norm.weight": torch.zeros(3), "visual_proj_norm.bias": torch.zeros(3)}
    save_file(contents, tmp_path / "a.safetensors")
    projection, report = import_visual_projection(tmp_path / "a.safetensors")
    assert report.missing == ("visual_proj_norm.weight", "visual_proj_norm.bias")
    assert {"visual_proj_norm.weight", "visual_proj_norm.bias"} <= set(report.ignored)
    assert projection.norm.weight.eq(1).all() and not projection.norm.bias.any()


def test_a_file_without_a_projection_is_named(path: Path) -> None:
    refused(path, "has no visual projection", import_visual_projection)


@pytest.mark.parametrize("name", ["folder", "adapter.safetensors"])
def test_it_is_saved_by_the_names_of_the_release(path: Path, tmp_path: Path, name: str) -> None:
    saved, report = import_official(path)
    saved.save_pretrained(tmp_path / name)
    opened = OfficialAdapter.from_pretrained(tmp_path / name)
    assert type(opened) is OfficialAdapter and opened.config == saved.config
    assert all(torch.equal(value, opened.state_dict()[key]) for key, value in saved.state_dict().items())
    _, again = import_official(tmp_path / "folder" / "adapter.safetensors" if name == "folder" else tmp_path / name)
    assert (set(again.taken), again.ignored) == (set(report.taken), ())
