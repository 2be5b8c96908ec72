"""Data sets, training and saving of adapters in a real ComfyUI: learned, kept, stopped, gone on with, refused."""

from __future__ import annotations

import importlib.util
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
from tools import environment, example_data
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


def texts(events: list[Event]) -> str:
    """What the training node showed while it ran."""
    return "\n".join(
        event["data"]["text"]
        for event in events
        if event["type"] == "progress_text" and event["data"]["node"] == "train"
    )


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
    folder = folder_of(comfy, "quick")
    for sheet_name, rows in (("stage1_000000", 2), ("stage1_000002", 3), ("stage2_000002", 3)):  # data, before, now
        with Image.open(folder / f"{sheet_name}.png") as sheet:
            assert sheet.height == 192 * rows and sheet.width in (192, 384, 576, 768)
    told = texts(seen)
    for work in (
        "Reading held-out samples",
        "Preparing latents",
        "Measuring 1 of",
        "step 0 of 2: painting samples 1 of",
    ):
        assert work in told, "long work says how far it is"
    assert "Alignment, step 1 of 2: loss " in told and "References, step 2 of 2" in told
    lines = (folder / "stage1_curve.jsonl").read_text("utf-8").splitlines()
    assert "validation_denoise" in json.loads(lines[0]) and json.loads(lines[0])["step"] == 0
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


def test_the_curve_shows_losses_of_both_stages_and_what_was_measured_below(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("curve", environment.REPO / "nodes" / "training_curve.py")
    curve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curve)
    steps = {"stage1": 3, "stage2": 3}
    lines = [{"stage": "stage1", "step": step, "loss": 1 / step} for step in (1, 2, 3)]
    alone = curve.draw(lines, steps)
    lines += [{"stage": "stage2", "step": step, "loss": 0.5} for step in (1, 2, 3)]
    lines += [{"stage": "stage1", "step": step, "validation_denoise": 0.4 - step / 10} for step in (0, 3)]
    both = curve.draw(lines, steps)
    assert alone.size == (512, 200) and both.size == (512, 330)
    colours = {colour for _, colour in both.crop((0, 200, 512, 330)).convert("P").convert("RGB").getcolors(999)}
    assert any(red > 200 and green > 150 and blue < 150 for red, green, blue in colours), "measured ones are dots"
    assert curve.draw([], steps).size == curve.draw(lines[:1], steps).size == (512, 200)
    report = curve.describe(lines, ("stage1", "stage2"))
    assert "held out, from step 0 to 3: denoise 0.4000 to 0.1000" in report


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
    assert f"Stopped after step {done} of 6 of the alignment. Run again" in texts(events)
    assert 2 <= done < 6 and not (folder / "adapter_stage1.safetensors").exists()
    again = comfy.events(graph)
    assert f"It went on after step {done} of 6 of the alignment." in texts(again)
    ours, theirs = (load_adapter(each / "adapter_stage1.safetensors") for each in (folder, folder_of(comfy, "whole")))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    curve = [json.loads(line) for line in (folder / "stage1_curve.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in curve if "loss" in line] == [1, 2, 3, 4, 5, 6]
    graph["train"]["inputs"] |= {"steps": 1, "seed": 3}
    before = f"the training before is kept in {folder.name}."
    assert f"It begins anew, since steps is 1 instead of 6 and seed is 3 instead of 0; {before}" in texts(
        comfy.events(graph)
    )
    graph["data"]["inputs"]["held_out"] = 0.3
    assert "It begins anew, since dataset is another one;" in texts(comfy.events(graph))


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
    shipped = [name for name in listed if name.startswith("examples/")]
    assert shipped == listed[:2] == ["examples/german-captions", "examples/short-captions"]
    assert example_data.FOLDER.name == "german-captions"
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
