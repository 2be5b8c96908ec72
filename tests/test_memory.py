"""Memory: what is freed goes back to the system, nothing grows, and too little room changes nothing but the speed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import graphs
import toy_llms
from comfy_server import ComfyServer
from graphs import node
from m3adapter.weights.starter import STARTER
from runs import inside

pytestmark = pytest.mark.comfy

reads_proc = pytest.mark.skipif(sys.platform != "linux", reason="Resident sizes are read from /proc, which is Linux's.")

IDLE = {
    "idle": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
    "show": node("PreviewImage", images=["idle", 0]),
}
WEIGHTS = 100  # MB, what the starter takes in main memory at the least


def resident(comfy: ComfyServer) -> float:
    """The memory that ComfyUI's process takes, in MB."""
    pages = int(Path(f"/proc/{comfy.pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def freed(comfy: ComfyServer) -> float:
    """The memory that it takes after the free-memory call, which is obeyed once the run after it has ended."""
    comfy.free()
    comfy.run(IDLE)
    time.sleep(2)
    return resident(comfy)


@reads_proc
@pytest.mark.exhaustive
def test_what_is_freed_goes_back_to_the_system(tmp_path: Path) -> None:
    with ComfyServer(tmp_path) as comfy:
        comfy.wait_ready()
        comfy.run(graphs.story(seed=1))  # imports what a first load imports, and no later one
        before = freed(comfy)
        comfy.run(graphs.story(seed=2))
        working = resident(comfy)
        after = freed(comfy)
    assert working - before > WEIGHTS, "the starter was not loaded"
    assert after < 1.1 * before, f"{before:.0f} MB before the load, {working:.0f} at work, {after:.0f} after"
    assert working - after > 0.9 * WEIGHTS, f"{working:.0f} MB at work, {after:.0f} after"


@reads_proc
@pytest.mark.exhaustive
def test_two_language_models_alternate_without_growth(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(STARTER / "language_model", other)
    weights = load_file(other / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    noisy = {name: v + 0.02 * torch.randn(v.shape, generator=generator).to(v) for name, v in weights.items()}
    save_file(noisy, other / "model.safetensors", metadata={"format": "pt"})
    found = inside("alternate", STARTER / "language_model", other)
    one, two = set(found["replies"][::2]), set(found["replies"][1::2])
    assert len(one) == len(two) == 1 and one != two, "each model always says the same, and they differ"
    assert max(found["managed"]) <= 1
    settled, end = max(found["sizes"][2:6]), max(found["sizes"][16:])
    assert end < 1.05 * settled, found["sizes"]


def test_a_model_that_will_not_fit_is_announced_in_one_line_before_it_is_loaded(tmp_path: Path) -> None:
    toy_llms.build("Llama", tmp_path / "toy")
    found = inside("announced", tmp_path)
    assert found["plenty"] == [["loaded"], ["loaded"]]
    for (line, *rest), name in zip(found["little"], ("LLM/toy", "diffusers/decoder"), strict=True):
        assert re.fullmatch(
            rf"M2Chat: {name} needs about 0\.\d GB, and cpu has room for 0\.0 GB: "
            r"choose a smaller dtype or model, or close other programs\.",
            line,
        )
        assert rest == ["loaded"]


def test_too_little_room_offloads_models_and_changes_no_picture() -> None:
    found = inside("budget", 20)
    assert found["everything"] > 100 and len(found["same"]) == 4 and all(found["same"])
    seen = found["seen"]
    assert {each["name"] for each in seen} == {"language_model", "vision_encoder", "adapter", "texts", "unet", "vae"}
    for each in seen:
        if each["name"] in ("adapter", "unet"):
            assert 0 < each["loaded"] < each["size"], "its layers stream: part of them stays behind"
            assert each["all"] <= 20, each
        else:
            assert each["loaded"] == each["size"], "a model that cannot stream is loaded whole"
        # nothing stays loaded beside a model that fills the memory, except what still fits
        assert each["all"] <= max(20, each["size"]) + 8, each
