"""Data sets, training and saving of adapters in a real ComfyUI: learned, kept, stopped, gone on with, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import drawn_pictures
import graphs
import toys
from comfy_server import ComfyServer
from graphs import ADAPTER, DECODER, LANGUAGE, VISION, Graph, node
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.training.recipe import read_recipe
from m3adapter.weights.starter import STARTER
from runs import Event, text
from tools import example_data
from tools.comfy import PromptRejected

QUICK = {
    "stages": "both",
    "steps": 2,
    "batch_size": 2,
    "grad_accumulation_steps": 1,
    "learning_rate": 0.001,
    "optimizer": "Muon",
    "seed": 0,
    "training_dtype": "fp32",
    "gradient_checkpointing": False,
    "resolution": 32,
}


@pytest.fixture(scope="module")
def stories(comfy: ComfyServer) -> str:
    drawn_pictures.save_stories(comfy.input_dir / "training" / "stories", 4)
    return "input/training/stories"


def dataset(name: str, **inputs: Any) -> dict[str, Any]:
    return node("M2Chat_Dataset", **{"dataset": name, "layout": "auto", "split": "train", "held_out": 0.3, **inputs})


def training(data: str, **inputs: Any) -> Graph:
    """A training of the starter's adapter; its report and steps are shown, its loss plotted, and it is saved."""
    return {
        "load": node("M2Chat_LoadStarter"),
        "data": dataset(data),
        "train": node(
            "M2Chat_TrainAdapter", **LANGUAGE, **VISION, **DECODER, **ADAPTER, dataset=["data", 0],
            **{**QUICK, "name": "quick", **inputs},
        ),
        "report": node("PreviewAny", source=["train", 3]),
        "graph": node("LossGraphNode", loss=["train", 1], filename_prefix="loss"),
        "save": node("M2Chat_SaveAdapter", adapter=["train", 0], prefix="trained/quick", steps=["train", 2]),
        "file": node("PreviewAny", source=["save", 1]),
    }  # fmt: skip


def folder_of(comfy: ComfyServer, name: str) -> Path:
    (found,) = (path for path in (comfy.output_dir / "m2chat" / "training" / name).iterdir() if path.name != "cache")
    return found


def ran(events: list[Event]) -> set[str]:
    return {event["data"]["node"] for event in events if event["type"] == "executing"} - {None}


def said(events: list[Event]) -> str:
    (error,) = [event["data"]["exception_message"] for event in events if event["type"] == "execution_error"]
    return error.strip()


def test_an_adapter_is_trained_saved_and_loaded_and_nothing_else_changes(comfy: ComfyServer, stories: str) -> None:
    before = comfy.run(graphs.story(seed=3))
    graph = training(stories)
    seen: list[Event] = []
    entry = comfy.follow(graph, seen.append, previews="auto")
    report, name = text(entry, "report"), text(entry, "file")
    assert "Alignment: 2 steps" in report and "References: 2 steps" in report and "held out" in report
    assert name == "m2chat/trained/quick_4_steps_00001.safetensors"
    assert entry["outputs"]["graph"]["images"]
    saved = load_adapter(comfy.base / "models" / name).state_dict()
    start = load_adapter(STARTER / "adapter.safetensors").state_dict()
    assert saved.keys() == start.keys() and not all(torch.equal(saved[key], start[key]) for key in saved)
    assert any(event["type"] == "preview" for event in seen), "the loss was shown while it ran"
    with Image.open(folder_of(comfy, "quick") / "stage2_000002.png") as sheet:  # data above, painted below
        assert sheet.height == 384 and sheet.width in (192, 384, 576, 768)
    recipe = read_recipe(folder_of(comfy, "quick") / "recipe.toml")
    assert recipe.stage1.steps == recipe.stage2.steps == 2 and recipe.models.adapter.endswith("begin.safetensors")
    # The same once more: nothing runs, and nothing is saved twice.
    assert ran(comfy.events(graph)) == set()
    shown = {"load": node("M2Chat_LoadAdapter", file=name), "report": node("PreviewAny", source=["load", 1])}
    assert "M3-Adapter" in text(comfy.run(shown), "report")
    # The models on the wires paint as they did: a premise that differs by a space is not answered from the cache.
    again = comfy.run(graphs.changed(graphs.story(seed=3), "story", premise="A fox on the beach. "))
    assert again["outputs"]["show"]["text"] == before["outputs"]["show"]["text"]
    comfy.free()
    comfy.run({"idle": node("M2Chat_Conversation"), "show": node("M2Chat_ShowConversation", conversation=["idle", 0])})
    begun = (folder_of(comfy, "quick") / "stage1.pt").stat().st_mtime_ns
    entry = comfy.run(graph)
    assert (folder_of(comfy, "quick") / "stage1.pt").stat().st_mtime_ns == begun, "a finished training is not run again"
    assert text(entry, "report") == report and text(entry, "file") == name.replace("00001", "00002")


def test_an_interrupted_training_goes_on_to_what_it_would_have_been(comfy: ComfyServer, stories: str) -> None:
    whole = training(stories, name="whole", stages="alignment", steps=6)
    whole["data"]["inputs"]["held_out"] = 0.0
    comfy.run(whole)
    graph = training(stories, name="stopped", stages="alignment", steps=6)
    graph["data"]["inputs"]["held_out"] = 0.0
    stopped = False

    def on_event(event: Event) -> None:
        nonlocal stopped
        done = event["data"]["value"] if event["type"] == "progress" and event["data"]["node"] == "train" else 0
        if done >= 2 and not stopped:
            comfy.interrupt()
            stopped = True

    events = comfy.events(graph, on_event)
    assert [event["data"]["node_id"] for event in events if event["type"] == "execution_interrupted"] == ["train"]
    folder = folder_of(comfy, "stopped")
    done = torch.load(folder / "stage1.pt", weights_only=True)["step"]
    assert 2 <= done < 6 and not (folder / "adapter_stage1.safetensors").exists()
    comfy.run(graph)
    ours, theirs = (load_adapter(each / "adapter_stage1.safetensors") for each in (folder, folder_of(comfy, "whole")))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    curve = [json.loads(line) for line in (folder / "stage1_curve.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in curve if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_a_new_adapter_is_trained_from_the_anchor(comfy: ComfyServer, stories: str) -> None:
    graph = training(stories, name="new", steps=3, gradient_checkpointing=True, grad_accumulation_steps=2)
    graph["train"]["inputs"] |= {"denoise_from": 0.5, "min_snr": 5.0}
    graph["new"] = node("M2Chat_NewAdapter", **LANGUAGE, **VISION, **DECODER, width=64, blocks=1, seed=0)
    graph["train"]["inputs"]["adapter"] = ["new", 0]
    assert "Anchored" in text(comfy.run(graph), "report")
    recipe = read_recipe(folder_of(comfy, "new") / "recipe.toml")
    assert recipe.loss.min_snr == 5.0 and recipe.stage1.denoise_from == recipe.stage2.denoise_from == 0.5
    lines = (folder_of(comfy, "new") / "stage1_curve.jsonl").read_text("utf-8").splitlines()
    assert ["denoise" in line for line in map(json.loads, lines) if "loss" in line] == [False, False, True]
    graph["train"]["inputs"] |= {"stages": "references", "name": "too early"}
    assert "stages is references" in said(comfy.events(graph))


@pytest.mark.parametrize(
    "name",
    [
        "input/nothing",
        "input/../output",
        "/etc",
        "sessions/../..",
        "",
        "output/m2chat",
        "examples",
        "examples/../opening.py",
    ],
)
def test_data_sets_elsewhere_are_refused_before_anything_runs(comfy: ComfyServer, name: str) -> None:
    graph = {"data": dataset(name), "report": node("PreviewAny", source=["data", 1])}
    with pytest.raises(PromptRejected) as caught:
        comfy.run(graph)
    assert "dataset" in str(caught.value)


@pytest.mark.parametrize("name", ["../out", "a/b", "", "nul", "x" * 99])
def test_names_that_lead_elsewhere_are_refused_before_anything_runs(
    comfy: ComfyServer, stories: str, name: str
) -> None:
    with pytest.raises(PromptRejected) as caught:
        comfy.run(training(stories, name=name))
    assert "name is" in str(caught.value)
    graph = {key: value for key, value in training(stories).items() if key not in ("report", "graph", "file")}
    graph["save"]["inputs"]["prefix"] = f"{name}/.."
    with pytest.raises(PromptRejected) as caught:
        comfy.run(graph)
    assert "prefix is" in str(caught.value)


def test_a_data_set_says_what_was_left_out_and_is_read_again_when_it_changes(comfy: ComfyServer) -> None:
    folder = comfy.input_dir / "training" / "changing"
    drawn_pictures.save_stories(folder, 3)
    graph = {"data": dataset("input/training/changing", split="all"), "report": node("PreviewAny", source=["data", 1])}
    assert "9 samples" in text(comfy.run(graph), "report")
    assert ran(comfy.events(graph)) == set()
    (folder / "0_0.png").write_bytes(b"broken")
    assert "left out 1" in text(comfy.run(graph), "report")
    shutil.rmtree(folder)
    folder.mkdir()
    assert said(comfy.events(graph)).startswith("Dataset: dataset: changing holds neither pictures nor")


def test_a_saved_session_is_a_data_set(comfy: ComfyServer) -> None:
    graph = graphs.story(seed=4)
    graph["keep"] = node("M2Chat_SaveSession", conversation=["story", 0], name="to learn")
    comfy.run(graph)
    for name in ("sessions/to learn", "sessions"):
        found = comfy.run({"data": dataset(name, split="all"), "report": node("PreviewAny", source=["data", 1])})
        assert "(session): " in text(found, "report")


def test_the_example_that_comes_with_the_pack_can_be_chosen_and_lies_where_it_is_made(comfy: ComfyServer) -> None:
    listed = comfy.object_info()["M2Chat_Dataset"]["input"]["required"]["dataset"][1]["options"]
    assert listed[0] == "examples/short-captions" and example_data.FOLDER.is_dir()
    graph = {"data": dataset(listed[0], split="all"), "report": node("PreviewAny", source=["data", 1])}
    report = text(comfy.run(graph), "report")
    assert f"{2 * example_data.STORIES} samples" in report and "left out" not in report


def test_an_adapter_for_other_models_is_refused_and_says_which(comfy: ComfyServer, stories: str) -> None:
    (comfy.base / "models" / "m2chat").mkdir(parents=True, exist_ok=True)
    save_adapter(comfy.base / "models" / "m2chat" / "toy.safetensors", toys.adapter())
    graph = training(stories, name="other")
    graph["toy"] = node("M2Chat_LoadAdapter", file="m2chat/toy.safetensors")
    graph["train"]["inputs"]["adapter"] = ["toy", 0]
    message = said(comfy.events(graph))
    assert message.startswith("Train M3-Adapter: adapter is made for a language_model of width") and toys.one_sentence(
        message
    )
    graph = training(stories)
    graph["train"]["inputs"]["dataset"] = "input/training/stories"
    assert "dataset is 'input/training/stories': connect" in said(comfy.events(graph))
