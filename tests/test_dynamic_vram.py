"""ComfyUI's "dynamic VRAM", which it chooses on NVIDIA's cards, changes no picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

import graphs
import toy_llms
import toys
from comfy_server import ComfyServer
from graphs import node
from m3adapter.adapter.auto import load_adapter
from m3adapter.weights.starter import STARTER
from runs import picture, same
from tools import environment

pytestmark = pytest.mark.comfy

SHOWS = ("PreviewImage", "M2Chat_ShowConversation", "M2Chat_ExportStory")


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("dynamic")
    environment.prepare_base(base)
    shutil.copy(Path(__file__).with_name("dynamic_vram.py"), base / "custom_nodes")
    with ComfyServer(base) as server:
        server.wait_ready()
        yield server


def assert_same(comfy: ComfyServer, dynamic: ComfyServer, graph: graphs.Graph) -> None:
    usual, found = comfy.run(graph), dynamic.run(graph)
    shown = {name: len(output["images"]) for name, output in usual["outputs"].items() if output.get("images")}
    assert shown.keys() == {name for name, each in graph.items() if each["class_type"] in SHOWS} != set()
    for name, count in shown.items():
        for index in range(count):
            one, other = picture(comfy, usual, name, index), picture(dynamic, found, name, index)
            assert same(one, other, tolerance=1), (name, index)


def test_the_starter_paints_the_same(comfy: ComfyServer, dynamic: ComfyServer) -> None:
    assert_same(comfy, dynamic, graphs.blocks(gate=2.0))


def test_adapters_from_files_and_fresh_ones_do(comfy: ComfyServer, dynamic: ComfyServer) -> None:
    own = load_adapter(STARTER / "adapter.safetensors").config
    release = toys.official_release(own.embed_width, own.pooled_width, own.num_tokens, llm_width=own.llm_width)
    for server in (comfy, dynamic):
        folder = server.base / "models" / "m2chat"
        folder.mkdir(exist_ok=True)
        torch.save(release, folder / "dynamic.pkl")
    graph = graphs.blocks(gate=2.0)
    graph["adapter"] = node("M2Chat_LoadAdapter", file="m2chat/dynamic.pkl")
    for name in ("encode", "fuse"):
        graph[name]["inputs"]["adapter"] = ["adapter", 0]
    assert_same(comfy, dynamic, graph)
    made = {**graphs.LANGUAGE, **graphs.VISION, **graphs.DECODER, "width": 64, "blocks": 1, "seed": 0}
    graph["adapter"] = node("M2Chat_NewAdapter", **made)
    graph["text"] = node("M2Chat_EncodeText", **graphs.DECODER, text=["encode", 1])
    graph["fuse"]["inputs"]["anchor"] = ["text", 0]
    assert_same(comfy, dynamic, graph)


@pytest.mark.parametrize("name", ["stock_sampler", "sdxl_consistent_story"])
def test_stock_samplers_do(comfy: ComfyServer, dynamic: ComfyServer, name: str, tmp_path: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(STARTER / "decoder" / "unet")
    weights = toys.ip_adapter_weights(unet, "plus", image_width=192)
    toy_llms.qwen3(tmp_path / "teller")
    for server in (comfy, dynamic):
        models = server.base / "models"
        (models / "ipadapter").mkdir(exist_ok=True)
        save_file(weights, models / "ipadapter" / "ip-adapter-plus_sdxl_vit-h.safetensors")
        shutil.copytree(tmp_path / "teller", models / "LLM" / "teller", dirs_exist_ok=True)
    graph = graphs.quick(name)
    for each in graph.values():
        if each["class_type"] == "M2Chat_LoadLanguageModel":
            each["inputs"]["model"] = "LLM/teller"
    assert_same(comfy, dynamic, graph)
