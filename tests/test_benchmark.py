"""The benchmarks run at a small size, and report what they measured."""

from __future__ import annotations

import re

import pytest
import torch

from comfy_server import ComfyServer
from tools import benchmark_gate, benchmark_sdxl, benchmark_starter

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_table_of_all_parts(capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    benchmark_sdxl.main(["--toy", "--dtype", dtype, "--repeats", "2"])
    printed = capsys.readouterr().out
    assert f"{dtype}, torch {torch.__version__}, 64 x 64 pixels, toy size" in printed
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| not counted \|$", printed, re.MULTILINE)
    assert [row[0].split(",")[0] for row in rows] == ["language model", "M3-Adapter", "UNet", "VAE"]
    assert all(float(row[1]) > 0 and float(row[3]) > 0 for row in rows)
    seconds = [float(row[3]) / 1e3 for row in rows]
    whole = seconds[0] + seconds[1] + 25 * seconds[2] + seconds[3]
    said, share = re.search(r"25 steps takes ([\d.]+) s; .* is ([\d.]+) %\.", printed).groups()
    assert float(said) == pytest.approx(whole, abs=0.02)
    assert float(share) == pytest.approx(100 * seconds[1] / whole, rel=0.05)
    assert torch.get_default_dtype() == torch.float32


def test_the_real_sizes_are_those_of_the_real_models() -> None:
    from diffusers import UNet2DConditionModel
    from transformers import LlamaConfig, LlamaForCausalLM

    bench = benchmark_sdxl.Bench(benchmark_sdxl.argparse.Namespace(
        device="meta", dtype="bf16", repeats=1, toy=False, size=1024
    ))  # fmt: skip
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(bench._config("unet"))
        llama = LlamaForCausalLM(LlamaConfig(**benchmark_sdxl.LLAMA, tie_word_embeddings=False))
    billions = [sum(weight.numel() for weight in model.parameters()) / 1e9 for model in (unet, llama)]
    assert billions == pytest.approx([2.567, 8.030], abs=0.001)


def test_the_starter_beside_diffusers_and_part_by_part(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_starter.main(["--steps", "1", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert "1 steps, medians of 1" in printed
    ours, theirs = (float(ms) for ms in re.findall(r"^\| (?:M²Chat|diffusers)'.+ \| (\d+) \|$", printed, re.MULTILINE))
    said = re.search(r"decoder takes ([\d.]+) of the time", printed)[1]
    assert float(said) == pytest.approx(ours / theirs, rel=0.05)
    rows = re.findall(r"^\| (.+?): .+ \| ([\d.]+) \| ([\d.]+) % \|$", printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["vision encoder", "language model", "M³-Adapter", "decoder"]
    assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=0.3)
    assert all(float(row[1]) > 0 for row in rows)


def test_rounds_go_there_and_back_and_the_first_does_not_count() -> None:
    called: list[str] = []
    found = benchmark_starter.rounds({name: lambda name=name: called.append(name) for name in "abc"}, 2)
    assert "".join(called) == "abccbaabc" and {name: len(times) for name, times in found.items()} == dict.fromkeys(
        "abc", 2
    )
    assert benchmark_starter.ratio([1.0, 6.0, 90.0], [1.0, 2.0, 10.0]) == 3.0


def test_turning_the_gate_beside_a_whole_turn(comfy: ComfyServer) -> None:
    times = benchmark_gate.measure(comfy, repeats=1, steps=2)
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys(
        ("turn", "picture", "preview", "gate"), 1
    )
    assert all(found[0] > 0 for found in times.values())


def test_ratios_of_the_gate_are_those_of_a_round() -> None:
    times = {"turn": [4.0, 8.0, 90.0], "picture": [2.0, 2.0, 2.0], "preview": [1.0, 1.0, 1.0], "gate": [2.0, 4.0, 9.0]}
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) s \| ([\d.]+) \| ([\d.]+) \|$", benchmark_gate.report(times, 20), re.M)
    assert [row[1:] for row in rows] == [
        ("8.00", "1.00", "4.00"), ("2.00", "0.25", "1.00"), ("1.00", "0.12", "0.50"), ("4.00", "0.50", "2.00")
    ]  # fmt: skip
