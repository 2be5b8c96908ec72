"""Language models from the disk in a real ComfyUI: found, refused, loaded, written with and read."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator

import pytest

import graphs
import toy_llms
from comfy_server import ComfyServer
from graphs import node
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.language.visual_projection import VisualProjection
from m3adapter.weights.starter import STARTER
from runs import text
from test_inputs import failed, refused

# Files and folders beside language models that are none themselves, with the error if a workflow names one.
OTHERS = {
    "LLM/lora/adapter_config.json": "{}",
    "LLM/mmproj-toy-f16.gguf": "GGUF",
    "LLM/toy-00002-of-00002.gguf": "GGUF",
    "m2chat/pipeline/model_index.json": "{}",
    "m2chat/pipeline/text_encoder/config.json": '{"model_type": "qwen2_5_vl"}',
    "m2chat/unet/config.json": '{"_class_name": "UNet2DConditionModel"}',
    "text_encoders/t5/config.json": '{"model_type": "t5"}',
}


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A ComfyUI that has models in several folders, one of them named by extra_model_paths.yaml."""
    base = tmp_path_factory.mktemp("comfy")
    toy_llms.build("Llama", base / "models" / "LLM" / "makers" / "toy-llama")
    toy_llms.build("LLaVA", base / "models" / "text_encoders" / "toy-llava")
    (base / "models" / "text_encoders" / "clip_l.safetensors").write_bytes(b"none")
    (base / "models" / "m2chat").mkdir()
    (base / "models" / "m2chat" / "broken.gguf").write_bytes(b"none" * 100)
    os.symlink(base / "models" / "m2chat", base / "models" / "m2chat" / "circle")
    for name, config in OTHERS.items():
        path = base / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config, "utf-8")
    gguf = base / "models" / "text_encoders" / "t5-v1_1-xxl-encoder-Q8_0.gguf"
    gguf.write_bytes(b"GGUF" + struct.pack("<IQQQ20sIQ9s", 3, 0, 1, 20, b"general.architecture", 8, 9, b"t5encoder"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    toy_llms.llama(elsewhere / "silent", template=None)
    paths = base / "extra.yaml"
    paths.write_text(f"more:\n  base_path: {elsewhere.as_posix()}\n  LLM: .\n", "utf-8")
    with ComfyServer(base, "--extra-model-paths-config", str(paths)) as server:
        server.wait_ready()
        yield server


def loaded(model: str, **more: str) -> graphs.Graph:
    """A conversation of the user's with a model from the disk, and its reply."""
    graph = graphs.conversation()
    del graph["load"]
    graph["load"] = node("M2Chat_LoadLanguageModel", model=model, dtype="auto", **more)
    graph["reply"] = graphs.reply(max_length=6)
    del graph["reply"]["inputs"]["vision_encoder"]
    graph["show"] = node("M2Chat_ShowConversation", conversation=["reply", 0])
    return graph


def test_models_are_listed_by_their_folders(comfy: ComfyServer) -> None:
    kind, options = comfy.object_info()["M2Chat_LoadLanguageModel"]["input"]["required"]["model"]
    listed = options["options"] if kind == "COMBO" else kind
    assert listed == ["LLM/makers/toy-llama", "LLM/silent", "m2chat/broken.gguf", "text_encoders/toy-llava"]


def test_a_text_model_replies_and_takes_no_pictures(comfy: ComfyServer) -> None:
    graph = loaded("LLM/makers/toy-llama")
    first = text(comfy.run(graph))
    assert "M2Chat: " in first and "[picture" in first
    graph["user"]["inputs"]["pictures.picture_0"] = ["picture", 0]
    graph["picture"] = node("EmptyImage", width=32, height=16, batch_size=1, color=0xFF0000)
    assert failed(comfy, graph) == (
        "Reply: The user shows pictures, but the language model cannot see: "
        "use a vision-language model, or leave the pictures out."
    )
    assert text(comfy.run(graphs.changed(loaded("LLM/makers/toy-llama"), "load", dtype="fp32"))) == first


@pytest.mark.parametrize("kind", ["folder", "GGUF file"])
def test_a_text_model_sees_once_its_projection_is_put_beside_it(comfy: ComfyServer, kind: str) -> None:
    """A folder of its own name is where that of a GGUF file lies."""
    beside = comfy.base / "models" / "LLM" / "blind"
    if kind == "folder":
        toy_llms.build("Llama", beside)
    else:
        pytest.importorskip("gguf")
        toy_llms.gguf_llama(beside.with_suffix(".gguf"))
    graph = loaded("LLM/blind" if kind == "folder" else "LLM/blind.gguf")
    without = text(comfy.run(graph))
    graph["starter"] = node("M2Chat_LoadStarter")
    graph["picture"] = node("EmptyImage", width=32, height=16, batch_size=1, color=0xFF0000)
    graph["user"]["inputs"]["pictures.picture_0"] = ["picture", 0]
    assert "the language model cannot see" in failed(comfy, graph)
    beside.mkdir(exist_ok=True)
    vision = VisionEncoder.from_pretrained(STARTER / "vision_encoder")
    VisualProjection(vision.hidden_size, toy_llms.WIDTH).save_pretrained(beside)
    try:
        assert "connect vision_encoder" in failed(comfy, graph)
        graph["reply"]["inputs"]["vision_encoder"] = ["starter", 1]
        assert "M2Chat: " in text(comfy.run(graph))
        del graph["user"]["inputs"]["pictures.picture_0"]
        assert text(comfy.run(graph)) == without
    finally:
        shutil.rmtree(beside)
        beside.with_suffix(".gguf").unlink(missing_ok=True)


def test_a_vision_language_model_is_shown_the_users_pictures(comfy: ComfyServer) -> None:
    graph = loaded("text_encoders/toy-llava")
    graph["user"]["inputs"]["pictures.picture_0"] = ["picture", 0]
    graph["picture"] = node("EmptyImage", width=32, height=16, batch_size=1, color=0xFF0000)
    assert "M2Chat: " in text(comfy.run(graph))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("LLM/../../secret", "leads out of ComfyUI's model folders"),
        ("/etc", "leads out of ComfyUI's model folders"),
        ("C:\\models\\llama", "leads out of ComfyUI's model folders"),
        ("https://example.org/llama", "nothing is downloaded"),
        ("LLM/gone", "There is no model LLM/gone: put it below"),
        ("checkpoints/x", "There is no model checkpoints/x: put it below"),
    ],
)
def test_names_stay_inside_the_folders(comfy: ComfyServer, name: str, reason: str) -> None:
    assert reason in refused(comfy, loaded(name))


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("LLM/lora", "an adapter (LoRA)"),
        ("LLM/mmproj-toy-f16.gguf", "the vision part of a model (mmproj)"),
        ("m2chat/pipeline", "a diffusers model"),
        ("m2chat/unet", "a diffusers model"),
        ("text_encoders/t5", "a t5 model"),
        ("text_encoders/t5-v1_1-xxl-encoder-Q8_0.gguf", "a text encoder"),
    ],
)
def test_what_writes_no_text_is_not_listed_and_refused_before_the_run(comfy: ComfyServer, name: str, noun: str) -> None:
    assert f"{name} is {noun}" in refused(comfy, loaded(name))


def test_models_that_cannot_be_loaded_are_refused(comfy: ComfyServer) -> None:
    assert failed(comfy, loaded("LLM/silent")).startswith(
        "Load Language Model: The language model has no chat template"
    )
    message = failed(comfy, loaded("m2chat/broken.gguf"))
    assert message.startswith("Load Language Model: ") and "\n" not in message


def test_a_quantised_model_replies_where_it_was_loaded(comfy: ComfyServer) -> None:
    pytest.importorskip("bitsandbytes")
    assert "M2Chat: " in text(comfy.run(loaded("LLM/makers/toy-llama", quantization="8-bit")))
