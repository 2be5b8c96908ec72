"""Adapters in a real ComfyUI: from files, fresh and anchored, with the text encoders that anchor them."""

from __future__ import annotations

import argparse
import shutil

import pytest
import torch

import graphs
import toys
from comfy_server import ComfyServer
from graphs import DECODER, LANGUAGE, MODELS, VISION, Graph, node
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.weights.starter import STARTER
from runs import Event, picture, same, text
from tools.comfy import PromptRejected

CAPTION = "A fox on the beach."
SMALL = {"width": 64, "blocks": 1, "seed": 0}


def fresh(**inputs: object) -> dict[str, object]:
    """A New M3-Adapter node."""
    return node("M2Chat_NewAdapter", **LANGUAGE, **VISION, **DECODER, **{**SMALL, **inputs})


def loaded(file: str) -> Graph:
    """A Load M3-Adapter node whose report is shown."""
    return {
        "adapter": node("M2Chat_LoadAdapter", file=file),
        "report": node("PreviewAny", source=["adapter", 1]),
    }


def anchored() -> Graph:
    """The blocks, with a fresh adapter anchored on the caption: `picture`; `plain` is what the decoder paints of it."""
    graph = graphs.blocks(gate=2.0)
    graph["adapter"] = fresh()
    graph["text"] = node("M2Chat_EncodeText", **DECODER, text=["encode", 1])
    for name in ("encode", "fuse"):
        graph[name]["inputs"]["adapter"] = ["adapter", 0]
    graph["fuse"]["inputs"]["anchor"] = ["text", 0]
    graph["painted"] = graphs.changed(graph, "decode", condition=["text", 0])["decode"]
    graph["plain"] = node("PreviewImage", images=["painted", 0])
    return graph


def said(events: list[Event]) -> str:
    """The one error of a run."""
    (error,) = [event["data"]["exception_message"] for event in events if event["type"] == "execution_error"]
    return error.strip()


def test_a_fresh_adapter_paints_what_the_decoder_paints_of_the_caption(comfy: ComfyServer) -> None:
    entry = comfy.run(anchored())
    assert same(picture(comfy, entry, "picture"), picture(comfy, entry, "plain"))
    assert float(text(entry, "mean")) > 0, "there was an earlier picture, and the gate was open"


def test_stock_clip_anchors_it_as_well(comfy: ComfyServer) -> None:
    graph = anchored()
    graph |= {
        "stock": node("M2Chat_LoadStarterStock"),
        "positive": node("CLIPTextEncode", clip=["stock", 1], text=["encode", 1]),
        "negative": node("CLIPTextEncode", clip=["stock", 1], text=""),
        "text": node("M2Chat_FromConditioning", positive=["positive", 0], negative=["negative", 0]),
    }
    entry = comfy.run(graph)
    assert same(picture(comfy, entry, "picture"), picture(comfy, entry, "plain"))


def test_stories_encode_their_captions_themselves(comfy: ComfyServer) -> None:
    graph = graphs.story(seed=5)
    graph["adapter"] = fresh()
    graph["story"]["inputs"]["adapter"] = ["adapter", 0]
    graph["captions"] = node("PreviewAny", source=["story", 4])
    entry = comfy.run(graph)
    caption = text(entry, "captions")
    again = {
        "load": node("M2Chat_LoadStarter"),
        "text": node("M2Chat_EncodeText", **DECODER, text=caption),
        "decode": node("M2Chat_Decode", **DECODER, condition=["text", 0], seed=5, **graphs.PAINT),
        "plain": node("PreviewImage", images=["decode", 0]),
    }
    assert same(picture(comfy, entry, "show"), picture(comfy, comfy.run(again), "plain"))


def test_a_fresh_adapter_without_a_vision_encoder_tells_a_story_in_a_size_of_ones_own(comfy: ComfyServer) -> None:
    graph = graphs.story(panels=2)
    graph["adapter"] = node("M2Chat_NewAdapter", **LANGUAGE, **DECODER, **SMALL)
    graph["story"]["inputs"] |= {"adapter": ["adapter", 0], "steps": 2, "width": 96, "height": 64}
    graph["list"] = node("PreviewImage", images=["story", 1])
    entry = comfy.run(graph)
    assert [picture(comfy, entry, "list", index).size for index in range(2)] == [(96, 64)] * 2
    graph["story"]["inputs"]["width"] = 100
    assert said(comfy.events(graph)) == "Tell Story: width is 100: give a multiple of 8, or 0 for the native size."


def test_an_anchor_that_is_missing_or_not_wanted_is_named(comfy: ComfyServer) -> None:
    graph = anchored()
    del graph["fuse"]["inputs"]["anchor"]
    message = said(comfy.events(graph))
    assert message.startswith("Fuse M3-Adapter: This M3-Adapter is anchored: connect the caption")
    assert message.endswith("as its anchor.")
    graph = anchored()
    graph["fuse"]["inputs"]["adapter"] = ["load", 2]
    assert said(comfy.events(graph)).startswith("Fuse M3-Adapter: This M3-Adapter is not anchored")


def test_an_adapter_from_a_file_is_the_same(comfy: ComfyServer) -> None:
    folder = comfy.base / "models" / "m2chat"
    folder.mkdir(exist_ok=True)
    shutil.copy(STARTER / "adapter.safetensors", folder / "again.safetensors")
    (folder / "notes.txt").write_text("not an adapter", "utf-8")
    files = comfy.object_info()["M2Chat_LoadAdapter"]["input"]["required"]["file"][1]["options"]
    assert "m2chat/again.safetensors" in files and "m2chat/notes.txt" not in files
    graph = graphs.story(seed=3)
    own = comfy.run(graph)
    graph |= loaded("m2chat/again.safetensors")
    graph["story"]["inputs"] |= {**MODELS, "adapter": ["adapter", 0]}
    entry = comfy.run(graph)
    assert same(picture(comfy, entry, "show"), picture(comfy, own, "show"))
    report = text(entry, "report")
    assert report.startswith("M3-Adapter of ") and report.endswith(" pooled.") and "vision encoder 192 wide" in report
    with pytest.raises(PromptRejected, match="Load"):
        comfy.run(loaded("m2chat/notes.txt"))


def test_an_adapter_of_the_official_release_paints(comfy: ComfyServer) -> None:
    folder = comfy.base / "models" / "m2chat"
    folder.mkdir(exist_ok=True)
    own = load_adapter(STARTER / "adapter.safetensors").config
    sizes = (own.embed_width, own.pooled_width, own.num_tokens)
    torch.save(toys.official_release(*sizes, llm_width=own.llm_width), folder / "epoch2_queryblock.pkl")
    graph = {**graphs.blocks(gate=2.0), **loaded("m2chat/epoch2_queryblock.pkl")}
    for name in ("encode", "fuse"):
        graph[name]["inputs"]["adapter"] = ["adapter", 0]
    entry = comfy.run(graph)
    assert picture(comfy, entry, "picture").size == (128, 128)
    assert float(text(entry, "mean")) == 0, "there is no low-level path behind the gate"
    report = text(entry, "report")
    assert report.startswith("Adapter of the official release") and "Ignored: query_block.linear" in report


def test_a_pickle_of_more_than_tensors_is_refused(comfy: ComfyServer) -> None:
    folder = comfy.base / "models" / "m2chat"
    folder.mkdir(exist_ok=True)
    torch.save({"args": argparse.Namespace()}, folder / "trap.pkl")
    assert said(comfy.events(loaded("m2chat/trap.pkl"))).startswith(
        "Load M3-Adapter: The file trap.pkl is damaged or holds more than tensors, and nothing in it was executed"
    )


def test_another_language_models_adapter_is_named(comfy: ComfyServer) -> None:
    folder = comfy.base / "models" / "m2chat"
    folder.mkdir(exist_ok=True)
    save_adapter(folder / "toy.safetensors", toys.adapter())
    graph = {**graphs.blocks(), **loaded("m2chat/toy.safetensors")}
    graph["fuse"]["inputs"]["adapter"] = ["adapter", 0]
    assert said(comfy.events(graph)).startswith(
        "Fuse M3-Adapter: The M3-Adapter was trained for a language model of width 24, and this one has "
    )
