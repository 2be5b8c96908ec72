"""The benchmark runs, at toy size, and says what it measured."""

from __future__ import annotations

import re

import pytest
import torch

from tools import benchmark_sdxl


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
