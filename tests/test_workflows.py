"""The template workflows and their twins in API format: they fit the nodes, and they run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

import graphs
import toy_llms
import toys
from comfy_server import ComfyServer
from m3adapter.weights.starter import STARTER
from tools import environment

TEMPLATES = environment.REPO / "workflows"
# Nodes of the page alone, which the server does not know.
NOTES = {"MarkdownNote", "Note"}


def template(name: str) -> dict[str, Any]:
    """Read a template."""
    return json.loads((TEMPLATES / f"{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module", autouse=True)
def models(comfy: ComfyServer) -> None:
    """Small models under the names that the templates give to a user's own."""
    models = comfy.base / "models"
    toy_llms.qwen3(models / "LLM" / "Qwen3-1.7B")
    toy_llms.qwen2_5_vl(models / "LLM" / "Qwen2.5-VL-3B-Instruct")
    shutil.copytree(STARTER / "decoder", models / "diffusers" / "stable-diffusion-xl-base-1.0")
    unet = UNet2DConditionModel.from_pretrained(STARTER / "decoder" / "unet")
    weights = toys.ip_adapter_weights(unet, "plus", image_width=192)
    (models / "loras").mkdir(exist_ok=True)
    save_file(toys.lora_weights(), models / "loras" / "sd_xl_offset_example-lora_1.0.safetensors")
    (models / "ipadapter").mkdir(exist_ok=True)
    save_file(weights, models / "ipadapter" / "ip-adapter-plus_sdxl_vit-h.safetensors")


@pytest.fixture(scope="module")
def nodes(comfy: ComfyServer) -> dict[str, Any]:
    """The descriptions of all nodes."""
    return comfy.object_info()


def test_every_template_has_a_twin_and_a_thumbnail() -> None:
    assert sorted(path.stem for path in TEMPLATES.glob("*.json")) == graphs.NAMES != []
    assert sorted(path.stem for path in TEMPLATES.glob("*.jpg")) == graphs.NAMES
    assert not [path for path in TEMPLATES.iterdir() if path.suffix not in (".json", ".jpg")]
    for name in graphs.NAMES:
        with Image.open(TEMPLATES / f"{name}.jpg") as thumbnail:
            assert thumbnail.format == "JPEG" and max(thumbnail.size) <= 1024


def test_every_node_of_the_pack_is_in_a_template(nodes: dict[str, Any]) -> None:
    canvases = [canvas for name in graphs.NAMES for canvas in graphs.canvases(template(name))]
    used = {node["type"] for canvas in canvases for node in canvas["nodes"]}
    assert {name for name in nodes if name.startswith("M2Chat_")} <= used


@pytest.mark.parametrize("name", graphs.NAMES)
def test_a_template_fits_the_nodes(nodes: dict[str, Any], name: str) -> None:
    workflow = template(name)
    links = {link[0]: tuple(link[1:]) for link in workflow["links"]}
    ids = [node["id"] for node in workflow["nodes"]]
    assert workflow["version"] == 0.4 and len(set(ids)) == len(ids) and len(links) == len(workflow["links"])
    assert workflow["last_node_id"] == max(ids) and workflow["last_link_id"] == max(links)
    assert workflow["nodes"][0]["type"] in NOTES, "nothing explains the workflow"
    graphs.check_links(workflow["nodes"], links)
    _, *inside = graphs.canvases(workflow)
    of_subgraphs = {canvas["id"]: canvas for canvas in inside}
    for node in workflow["nodes"]:
        if canvas := of_subgraphs.get(node["type"]):
            for way in ("inputs", "outputs"):
                said = {(slot["name"], slot["type"]) for slot in node[way]}
                assert said == {(slot["name"], slot["type"]) for slot in canvas[way]}
        elif node["type"] not in NOTES:
            graphs.check_slots(node, nodes[node["type"]])
    assert set(of_subgraphs) <= {node["type"] for node in workflow["nodes"]}
    for canvas in inside:
        graphs.check_subgraph(canvas, nodes)


@pytest.mark.parametrize("name", graphs.NAMES)
def test_no_node_of_a_template_lies_on_another(name: str) -> None:
    for canvas in graphs.canvases(template(name)):
        assert not graphs.overlapping(canvas["nodes"]), canvas.get("name", name)


@pytest.mark.parametrize("name", graphs.NAMES)
def test_a_workflow_runs(comfy: ComfyServer, name: str) -> None:
    graph = graphs.quick(name)
    entry = comfy.run(graph)
    for key, output in entry["outputs"].items():
        # A layout and the encoding of a slot show their notes, and here there are none.
        silent = graph[key]["class_type"] in ("M2Chat_Pages", "M2Chat_EncodeSlot")
        assert output.get("images") or output.get("text") or silent, key
    pages = [
        Path(text) for output in entry["outputs"].values() for text in output.get("text", []) if text.endswith(".html")
    ]
    assert all(page.is_file() for page in pages)
    stories = (
        "storybook",
        "dialogue",
        "sdxl_story",
        "sdxl_consistent_story",
        "sdxl_lora_story",
        "zimage_story",
        "flux2_klein_story",
        "qwen_edit_story",
    )
    assert len(pages) == (name in stories)


def test_another_gate_paints_only_what_lies_behind_it(comfy: ComfyServer) -> None:
    graph = graphs.quick("gate")
    comfy.run(graph)
    fuse = next(key for key, node in graph.items() if node["class_type"] == "M2Chat_FuseM3Adapter")
    events = comfy.events(graphs.changed(graph, fuse, gate=0.55))
    ran = {event["data"]["node"] for event in events if event["type"] == "executing"} - {None}
    types = sorted(graph[key]["class_type"] for key in ran)
    assert types == ["M2Chat_Decode", "M2Chat_FuseM3Adapter", "PreviewImage", "PreviewImage"]
