"""IP-Adapter in a real ComfyUI: on KSampler and on M²Chat's decoder, its gate, and its errors for wrong files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import graphs
import toys
from comfy_server import ComfyServer
from graphs import DECODER, Graph, node
from m3adapter.weights.starter import STARTER
from runs import picture, ran, same, text
from tools.comfy import ExecutionFailed, PromptRejected

WIDTH = 192  # of the starter's vision encoder
SAMPLER = {"steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "sgm_uniform", "denoise": 1.0}
GATE = {"start_percent": 0.0, "end_percent": 1.0, "weight_type": "all"}
CURE = "choose an IP-Adapter for SDXL, of the kinds base, plus or plus-face."


@pytest.fixture(scope="module")
def files(comfy: ComfyServer) -> Path:
    """ComfyUI's folder of IP-Adapters, with some for the starter in it, and others."""
    from diffusers import UNet2DConditionModel

    folder = comfy.base / "models" / "ipadapter"
    folder.mkdir(exist_ok=True)
    unet = UNet2DConditionModel.from_pretrained(STARTER / "decoder" / "unet")
    good = toys.ip_adapter_weights(unet, image_width=WIDTH)
    layers = {f"ip_adapter.{2 * n + 1}.to_{w}_ip.weight": torch.zeros(4, 768) for n in range(16) for w in "kv"}
    for name, weights in {
        "base": good,
        "faceid_by_its_name_only": toys.ip_adapter_weights(unet, "plus", image_width=WIDTH),
        "narrow": toys.ip_adapter_weights(unet, image_width=24),
        "sd15": {**{name: value for name, value in good.items() if name.startswith("image_proj")}, **layers},
        "face": {**good, "image_proj.proj.0.weight": torch.zeros(4, 4)},
        "lora": {"lora_unet_a.lora_down.weight": torch.zeros(4, 4)},
    }.items():
        save_file(weights, folder / f"{name}.safetensors")
    return folder


def references(file: str = "base", *, size: tuple[int, int] = (96, 64), **inputs: object) -> Graph:
    """A picture, and node `reference` that looks at it; the stock models: node `stock`."""
    given = {"ip_adapter": ["ip", 0], "clip_vision": ["stock", 3], "image": ["shown", 0], "weight": 1.0, **inputs}
    return {
        "stock": node("M2Chat_LoadStarterStock"),
        "ip": node("M2Chat_LoadIPAdapter", file=f"ipadapter/{file}.safetensors"),
        "shown": node("EmptyImage", width=size[0], height=size[1], batch_size=1, color=0x3366CC),
        "reference": node("M2Chat_IPReference", **given),
    }


def prompted() -> Graph:
    """Stock conditioning, `text` and `nothing`."""
    return {
        "text": node("CLIPTextEncode", clip=["stock", 1], text="a fox in the forest"),
        "nothing": node("CLIPTextEncode", clip=["stock", 1], text=""),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
    }


def sampled(name: str, model: list[object]) -> Graph:
    """What KSampler makes of a model: node `name` shows it."""
    given = {"positive": ["text", 0], "negative": ["nothing", 0], "latent_image": ["latent", 0], "seed": 3}
    return {
        f"{name}_sampler": node("KSampler", model=model, **given, **SAMPLER),
        f"{name}_pixels": node("VAEDecode", samples=[f"{name}_sampler", 0], vae=["stock", 2]),
        name: node("PreviewImage", images=[f"{name}_pixels", 0]),
    }


def applied(gate: float = 1.0, **inputs: object) -> dict[str, object]:
    given = {"model": ["stock", 0], "references": ["reference", 0], "gate": gate, **GATE, **inputs}
    return node("M2Chat_ApplyIPAdapter", **given)


def failed(comfy: ComfyServer, graph: Graph) -> str:
    with pytest.raises(ExecutionFailed) as error:
        comfy.run(graph)
    return error.value.details["exception_message"].strip()


def test_the_folder_is_registered_and_files_are_recognised_by_their_contents(comfy: ComfyServer, files: Path) -> None:
    listed = comfy.object_info()["M2Chat_LoadIPAdapter"]["input"]["required"]["file"][1]["options"]
    assert {"ipadapter/base.safetensors", "ipadapter/sd15.safetensors"} <= set(listed)
    graph = references("faceid_by_its_name_only")
    graph = {"ip": graph["ip"], "report": node("PreviewAny", source=["ip", 1])}
    assert text(comfy.run(graph), "report").startswith("IP-Adapter of the kind plus, 16 tokens ")


@pytest.mark.parametrize("file", ["base", "faceid_by_its_name_only"])
def test_ksampler_looks_at_references(comfy: ComfyServer, files: Path, file: str) -> None:
    graph = {**references(file), **prompted(), "black": node("SolidMask", value=0.0, width=8, height=8)}
    graph["masked"] = graphs.changed(graph, "reference", mask=["black", 0])["reference"]
    second = {"references": ["reference", 0], "image": ["wide", 0], "weight": 0.5}
    graph["wide"] = node("EmptyImage", width=200, height=30, batch_size=2, color=0xCC3300)
    graph["more"] = graphs.changed(graph, "reference", **second)["reference"]
    for name, patched in {
        "open": applied(),
        "shut": applied(0.0),
        "style": applied(weight_type="style"),
        "own": applied(weight_type="custom", weight_type__table="up.0.1 = 1"),
        "late": applied(start_percent=0.5),
        "nowhere": applied(references=["masked", 0]),
        "mixed": applied(references=["more", 0]),
    }.items():
        graph[f"{name}_model"] = patched
        graph |= sampled(name, [f"{name}_model", 0])
    graph |= sampled("plain", ["stock", 0])
    entry = comfy.run(graph)
    shown = {
        name: picture(comfy, entry, name)
        for name in ("plain", "open", "shut", "style", "own", "late", "nowhere", "mixed")
    }
    assert same(shown["shut"], shown["plain"]) and same(shown["nowhere"], shown["plain"])
    assert same(shown["style"], shown["own"])
    different = [shown[name] for name in ("plain", "open", "style", "late", "mixed")]
    assert not any(same(one, other) for k, one in enumerate(different) for other in different[:k])
    again = comfy.run(graphs.changed(graph, "plain_sampler", seed=4))
    assert not same(picture(comfy, again, "plain"), shown["plain"])
    assert ran(comfy.events(graph)) <= {"plain_sampler", "plain_pixels", "plain"}


def test_decoder_and_ksampler_look_alike(comfy: ComfyServer, files: Path) -> None:
    graph = {**references(), **prompted(), "load": node("M2Chat_LoadStarter")}
    graph["condition"] = node("M2Chat_FromConditioning", positive=["text", 0], negative=["nothing", 0])
    given = {"references": ["reference", 0], "gate": 0.5, **GATE}
    graph["looking"] = node("M2Chat_DecoderIPAdapter", **DECODER, **given)
    paint = {"condition": ["condition", 0], "seed": 3, "steps": 4, "guidance": 3.0}
    graph |= {
        "decode": node("M2Chat_Decode", decoder=["looking", 0], **paint),
        "ours": node("PreviewImage", images=["decode", 0]),
        "decode_plain": node("M2Chat_Decode", **DECODER, **paint),
        "plain": node("PreviewImage", images=["decode_plain", 0]),
        "model": applied(0.5),
        **sampled("stock_picture", ["model", 0]),
    }
    entry = comfy.run(graph)
    ours, stock, plain = (
        np.asarray(picture(comfy, entry, name), dtype=np.float32) for name in ("ours", "stock_picture", "plain")
    )
    assert np.abs(ours - stock).mean() <= 1 < 3 < np.abs(ours - plain).mean()


def test_both_low_level_paths_act_each_with_its_own_strength(comfy: ComfyServer, files: Path) -> None:
    graph = {**graphs.blocks(gate=1.0), **references()}
    graph["looking"] = node("M2Chat_DecoderIPAdapter", **DECODER, references=["reference", 0], gate=0.5, **GATE)
    pictures = []
    for gate, decoder in ((1.0, ["looking", 0]), (1.0, ["load", 3]), (0.0, ["looking", 0]), (0.0, ["load", 3])):
        changed = graphs.changed(graphs.changed(graph, "fuse", gate=gate), "decode", decoder=decoder)
        pictures.append(picture(comfy, comfy.run(changed), "picture"))
    assert not any(same(one, other) for k, one in enumerate(pictures) for other in pictures[:k])


def test_the_gate_adapts_and_is_overridden(comfy: ComfyServer) -> None:
    def gate(caption: str, rule: str = "adaptive", **inputs: object) -> tuple[float, str]:
        given = {"reference_caption": "a fox in the forest", "caption": caption, "gate": 0.8, "rule": rule}
        if rule == "adaptive":
            given |= {"rule.lowest": 0.1, "rule.same": 0.85, "rule.other": 0.6}
        graph = {
            "stock": node("M2Chat_LoadStarterStock"),
            "load": node("M2Chat_LoadStarter"),
            "gate": {"class_type": "M2Chat_AdaptiveGate", "inputs": {**given, **inputs}},
            "value": node("PreviewAny", source=["gate", 0]),
        }
        entry = comfy.run(graph)
        return float(text(entry, "value")), text(entry, "gate")

    stock = {"clip": ["stock", 1]}
    value, report = gate("a fox with a kite on the beach", **stock)
    assert (
        value == pytest.approx(0.8) and report == "gate 0.80: 'fox' and the reference's 'fox' have a similarity of 1.00"
    )
    other, _ = gate("an elephant on the beach", **stock)
    assert 0.1 <= other < 0.5
    assert gate("an elephant on the beach", decoder=["load", 3])[0] == pytest.approx(other, abs=0.02)
    value, report = gate("an elephant on the beach", "off", **stock)
    assert value == pytest.approx(0.8) and report.startswith("gate 0.80: 'elephant' and the reference's 'fox'")
    with pytest.raises(ExecutionFailed, match="Either clip, decoder or language_model compares the captions: connect"):
        gate("a fox")


def test_wrong_files_are_refused_before_anything_runs(comfy: ComfyServer, files: Path) -> None:
    for name, sentence in {
        "sd15": f"sd15.safetensors is an IP-Adapter for Stable Diffusion 1.5: {CURE}",
        "face": f"face.safetensors is a FaceID IP-Adapter, which needs a face recogniser: {CURE}",
        "lora": f"lora.safetensors is a LoRA: {CURE}",
        "gone": "There is no model ipadapter/gone.safetensors: put it below one of ComfyUI's model folders ipadapter",
    }.items():
        with pytest.raises(PromptRejected) as error:
            comfy.queue({**references(name), **prompted(), "model": applied(), **sampled("out", ["model", 0])})
        assert sentence in str(error.value) and "M2Chat_LoadIPAdapter (ip)" in str(error.value)


def test_references_that_do_not_fit_are_refused(comfy: ComfyServer, files: Path) -> None:
    rest = {**prompted(), "model": applied(), **sampled("out", ["model", 0])}
    assert failed(comfy, {**references("narrow"), **rest}) == (
        "IP-Adapter Reference: The vision encoder is the wrong one for this IP-Adapter: it gives features 192 wide, "
        "but this one, of the kind base, needs image embeddings 24 wide."
    )
    graph = {**references(mask=["masks", 0]), **rest}
    graph["shown"]["inputs"]["batch_size"] = 2
    graph["image"] = node("EmptyImage", width=8, height=8, batch_size=3, color=0)
    graph["masks"] = node("ImageToMask", image=["image", 0], channel="red")
    assert failed(comfy, graph) == (
        "IP-Adapter Reference: mask holds 3 masks and image 2 pictures: give one mask, or one for each."
    )
    graph = {**references(), **rest, "model": applied(weight_type="custom", weight_type__table="up.9 = 1")}
    assert failed(comfy, graph).startswith("Apply IP-Adapter: The table of blocks names up.9, and the diffusion model")


def test_a_story_is_written_for_stock_models(comfy: ComfyServer) -> None:
    graph = {
        "load": node("M2Chat_LoadStarter"),
        "story": node(
            "M2Chat_WriteStory", language_model=["load", 0], premise="A fox.", panels=3, seed=5, max_length=64
        ),
        "captions": node("PreviewAny", source=["story", 1]),
        "seeds": node("PreviewAny", source=["story", 2]),
        "told": node("M2Chat_ShowConversation", conversation=["story", 0]),
        "picture": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
        "place": node("M2Chat_PlacePictures", conversation=["story", 0], images=["picture", 0]),
        "show": node("M2Chat_ShowConversation", conversation=["place", 0]),
    }
    error = failed(comfy, graph)
    told = graphs.changed(graph, "story")
    for name in ("place", "show", "picture"):
        del told[name]
    entry = comfy.run(told)
    captions = entry["outputs"]["captions"]["text"]
    assert len(captions) >= 3 and len(entry["outputs"]["seeds"]["text"]) == len(captions)
    assert len(set(entry["outputs"]["seeds"]["text"])) == len(captions)
    assert text(entry, "told").count("[picture") == len(captions)
    assert (
        error
        == f"Place Pictures: images holds 1 pictures, but the conversation has {len(captions)} open: give as many."
    )
    graph["picture"]["inputs"]["batch_size"] = len(captions)
    assert len(comfy.run(graph)["outputs"]["show"]["images"]) == len(captions)
    with pytest.raises(PromptRejected, match="The premise is empty"):
        comfy.queue(graphs.changed(graph, "story", premise=" "))
