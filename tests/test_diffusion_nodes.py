"""The user's own diffusion model in a real ComfyUI: found by name, refused before a run, painting, refining."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import graphs
import toys
from comfy_server import ComfyServer
from graphs import node
from m3adapter.diffusion.schedulers import AS_THE_MODEL_SAYS
from m3adapter.weights.starter import STARTER
from runs import picture, ran, same
from tools.comfy import ExecutionFailed, PromptRejected


@pytest.fixture(scope="module")
def models(comfy: ComfyServer) -> Path:
    """ComfyUI's model folder with the starter's decoder in it as a model of the user's own, and a refiner for it."""
    models = comfy.base / "models"
    folder = shutil.copytree(STARTER / "decoder", models / "diffusers" / "mine" / "decoder")
    toys.save_refiner(models / "diffusers" / "mine", folder)
    (models / "checkpoints").mkdir(exist_ok=True)
    (models / "vae").mkdir(exist_ok=True)
    (weights,) = (folder / "vae").glob("*.safetensors")
    shutil.copy(weights, models / "vae" / "mine.safetensors")
    return models


def load(model: str = "diffusers/mine/decoder", **inputs: str | bool) -> dict:
    given = {"dtype": "auto", "scheduler": AS_THE_MODEL_SAYS, "vae_tiling": False, **inputs}
    return node("M2Chat_LoadDecoder", model=model, **given)


def decode(decoder: str, **inputs) -> dict:
    given = {"decoder": [decoder, 0], "condition": ["condition", 0], "seed": 3, "steps": 4, "guidance": 3.0}
    return node("M2Chat_Decode", **{**given, **inputs})


def prompt() -> graphs.Graph:
    """A condition of a stock text encoder: node `condition`."""
    return {
        "stock": node("M2Chat_LoadStarterStock"),
        "positive": node("CLIPTextEncode", clip=["stock", 1], text="a fox in the forest"),
        "negative": node("CLIPTextEncode", clip=["stock", 1], text=""),
        "condition": node("M2Chat_FromConditioning", positive=["positive", 0], negative=["negative", 0]),
    }


def shown(graph: graphs.Graph, *names: str) -> graphs.Graph:
    return {**graph, **{f"show_{name}": node("PreviewImage", images=[name, 0]) for name in names}}


def test_the_list_has_the_users_models(comfy: ComfyServer, models: Path) -> None:
    listed = comfy.object_info()["M2Chat_LoadDecoder"]["input"]["required"]["model"][1]["options"]
    assert {"diffusers/mine/decoder", "diffusers/mine/refiner"} <= set(listed)
    vaes = comfy.object_info()["M2Chat_LoadDecoder"]["input"]["optional"]["vae"][1]["options"]
    assert vaes[0] == "built-in" and "vae/mine.safetensors" in vaes


def test_a_folder_paints_what_it_painted_as_the_starter(comfy: ComfyServer, models: Path) -> None:
    graph = {**prompt(), "starter": node("M2Chat_LoadStarter"), "mine": load(), "other": load(scheduler="dpmpp_2m")}
    graph |= {"a": decode("starter"), "b": decode("mine"), "c": decode("other")}
    graph["starter"]["inputs"] = {}
    graph["a"]["inputs"]["decoder"] = ["starter", 3]
    graph |= {"image": node("EmptyImage", width=100, height=64, batch_size=1, color=0xFF0000)}
    graph["d"] = decode("mine", image=["image", 0], denoise=0.4)
    graph["e"] = decode("mine", width=64, height=96)
    graph |= {"vae": load(vae="vae/mine.safetensors", vae_dtype="fp32"), "spaced": load(spacing="linspace")}
    graph |= {"f": decode("vae"), "g": decode("spaced")}
    entry = comfy.run(shown(graph, *"abcdefg"))
    a, b, c, d, e, f, g = (picture(comfy, entry, f"show_{name}") for name in "abcdefg")
    assert same(a, b) and not same(a, c) and same(a, f) and not same(a, g)
    assert (d.size, e.size) == ((96, 64), (64, 96))
    red, green, _ = d.resize((1, 1)).getpixel((0, 0))
    assert red > 2 * green, "two fifths of the steps leave the red of the picture"


def test_a_changed_model_is_loaded_again(comfy: ComfyServer, models: Path) -> None:
    graph = shown({**prompt(), "mine": load(), "b": decode("mine", steps=1)}, "b")
    comfy.run(graph)
    assert ran(comfy.events(graph)) == set()
    os.utime(models / "diffusers" / "mine" / "decoder" / "model_index.json")
    assert ran(comfy.events(graph)) == {"mine", "b", "show_b"}


def test_a_refiner_paints_the_last_steps(comfy: ComfyServer, models: Path) -> None:
    graph = graphs.blocks()
    del graph["map"], graph["mean"]
    graph["refiner"] = load("diffusers/mine/refiner", vae_tiling=True)
    graph = graphs.changed(graph, "decode", steps=5)
    plain = picture(comfy, comfy.run(graph), "picture")
    graph = graphs.changed(graph, "decode", refiner=["refiner", 0], switch_at=0.6)
    events: list = []
    entry = comfy.follow(graph, events.append)
    assert not same(picture(comfy, entry, "picture"), plain)
    bar = [event["data"] for event in events if event["type"] == "progress" and event["data"]["node"] == "decode"]
    assert (bar[-1]["value"], bar[-1]["max"]) == (5, 5)


def failed(comfy: ComfyServer, graph: graphs.Graph) -> str:
    with pytest.raises(ExecutionFailed) as error:
        comfy.run(graph)
    return error.value.details["exception_message"].strip()


def test_conditions_that_cannot_be_painted_are_refused(comfy: ComfyServer, models: Path) -> None:
    graph = {**prompt(), "mine": load(), "refiner": load("diffusers/mine/refiner")}
    graph["two"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0)
    for inputs, sentence in (
        (
            {"refiner": ["refiner", 0]},
            "The refiner needs captions, and the condition has none: leave out the refiner.",
        ),
        ({"image": ["two", 0]}, "image holds 2 pictures, but only one is painted: pick one of the batch first."),
        ({"width": 100}, "width is 100: give a multiple of 8, or 0 for the native size."),
    ):
        assert failed(comfy, shown({**graph, "b": decode("mine", **inputs)}, "b")) == f"Paint Picture: {sentence}"
    assert "A refiner cannot start a picture" in failed(comfy, shown({**graph, "b": decode("refiner")}, "b"))


def test_bad_models_are_refused_before_anything_runs(comfy: ComfyServer, models: Path) -> None:
    unet = "model.diffusion_model."
    old = {
        f"{unet}input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 768),
    }
    checkpoints = models / "checkpoints"
    save_file(old, checkpoints / "old.safetensors")
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(4, 4)}, checkpoints / "style.safetensors")
    (checkpoints / "pickle.safetensors").write_bytes(b"PK\x03\x04rest")
    whole = (checkpoints / "old.safetensors").read_bytes()
    (checkpoints / "cut.safetensors").write_bytes(whole[:-100])
    gone = models / "diffusers" / "gone"
    gone.mkdir()
    (gone / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    leaves = "leads out of ComfyUI's model folders: choose a model from the list."
    unknown = "put it below one of ComfyUI's model folders checkpoints, diffusers, m2chat, then refresh."
    sdxl = "choose an SDXL base model or refiner, which is what M2Chat paints with."
    for name, sentence in {
        "checkpoints/old.safetensors": f"old.safetensors is a Stable Diffusion 1.5 model: {sdxl}",
        "checkpoints/style.safetensors": f"style.safetensors is a LoRA: {sdxl}",
        "checkpoints/pickle.safetensors": "pickle.safetensors is a pickle, which may run any code: get the model as "
        "safetensors.",
        "checkpoints/cut.safetensors": "cut.safetensors is cut off or not a safetensors file: get it again.",
        "diffusers/gone": "gone lacks unet/config.json: get it again.",
        "nothing": f"There is no model nothing: {unknown}",
        "text_encoders/nothing": f"There is no model text_encoders/nothing: {unknown}",
        "diffusers/../mine/decoder": f"'diffusers/../mine/decoder' {leaves}",
        "mine\\..\\x": f"{'mine' + chr(92) + '..' + chr(92) + 'x'!r} {leaves}",
        "/etc/passwd": f"'/etc/passwd' {leaves}",
        "C:model": f"'C:model' {leaves}",
        "https://host/x": "https://host/x is an address, and nothing is downloaded",
    }.items():
        with pytest.raises(PromptRejected) as error:
            comfy.queue(shown({**prompt(), "mine": load(name), "b": decode("mine")}, "b"))
        assert sentence in str(error.value), name
        assert re.search(r"M2Chat_LoadDecoder \(mine\)", str(error.value))


def test_a_wrong_model_or_vae_is_told_once_and_under_its_own_name(comfy: ComfyServer, models: Path) -> None:
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(4, 4)}, models / "vae" / "style.safetensors")

    def graph(**given: str) -> graphs.Graph:
        return shown({**prompt(), "mine": load(**given), "b": decode("mine")}, "b")

    for given, wrong in (({"model": "none"}, "model"), ({"model": "none", "vae": "vae/mine.safetensors"}, "model"),
                         ({"vae": "vae/none"}, "vae")):  # fmt: skip
        with pytest.raises(PromptRejected) as error:
            comfy.queue(graph(**given))
        told = [each["extra_info"]["input_name"] for each in error.value.node_errors["mine"]["errors"]]
        assert told == [wrong], given
    said = failed(comfy, graph(vae="vae/style.safetensors"))
    assert said == "Load SDXL Decoder: style.safetensors is a LoRA: choose a VAE for SDXL."
