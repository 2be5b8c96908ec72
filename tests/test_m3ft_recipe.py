"""M3FT by a recipe, on toys of every width: both stages, anchored and plain, resumed, divided, kept and refused."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import drawn_pictures
import toy_llms
import toys
from m3adapter.adapter.auto import load_adapter
from m3adapter.arguments import UserError
from m3adapter.datasets.opening import open_dataset
from m3adapter.events import Interrupted
from m3adapter.language.language_model import LanguageModel
from m3adapter.training import frozen as frozen_models
from m3adapter.training import m3ft_run, shares, sources, stage2, stage_common
from m3adapter.training.m3ft_models import open_adapter, open_models
from m3adapter.training.models_at_work import Models
from m3adapter.training.recipe import Recipe, recipe_of
from m3adapter.training.rewording import reworded
from m3adapter.training.sources import open_samples
from tools import environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy models, and a data set that nobody has described."""
    folder = tmp_path_factory.mktemp("parts")
    toy_llms.save_models(folder)
    drawn_pictures.save_stories(folder / "data", 6)
    return folder


def recipe_for(parts: Path, output: Path, **changes: dict) -> Recipe:
    values: dict[str, dict] = {
        "models": {
            "language": str(parts / "llm"),
            "vision": str(parts / "vision"),
            "decoder": str(parts / "decoder"),
            "width": 64,
            "blocks": 1,
        },
        "data": {"path": str(parts / "data")},
        "stage1": {"steps": 4, "batch": 4, "settled": 0.5},
        "stage2": {"steps": 4, "batch": 4},
        "run": {
            "output": str(output),
            "cache": str(parts / "cache"),
            "precision": "float32",
            "log_every": 1,
            "validation_samples": 2,
        },
    }
    for table, fields in changes.items():
        values[table] = {**values.get(table, {}), **fields}
    return recipe_of(values)


@pytest.fixture(scope="module")
def opened(parts: Path) -> Models:
    """The models, opened once."""
    return open_models(recipe_for(parts, parts))


@pytest.fixture
def run(opened: Models) -> Callable[..., Path]:
    """`run_recipe` with models that are open already, and an adapter of its own."""

    def start(recipe: Recipe, **how: Any) -> Path:
        adapter = open_adapter(recipe, opened.language, opened.vision, opened.decoder)
        return m3ft_run.run_recipe(recipe, models=replace(opened, adapter=adapter), **how)

    return start


def curve(output: Path, stage: int) -> list[float]:
    lines = [json.loads(line) for line in (output / f"stage{stage}_curve.jsonl").read_text("utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize(("anchor", "width", "blocks"), [(True, 64, 1), (False, 128, 2)])
def test_both_stages_change_their_own_parameters_and_nothing_else(
    parts: Path, tmp_path: Path, anchor: bool, width: int, blocks: int
) -> None:
    recipe = recipe_for(parts, tmp_path, models={"anchor": anchor, "width": width, "blocks": blocks})
    models = open_models(recipe)
    frozen = [models.language.model, models.vision.model, models.decoder.unet, models.decoder.vae]
    frozen += [models.decoder.text_encoder, models.decoder.text_encoder_2]
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in frozen]
    fresh = {name: value.clone() for name, value in models.adapter.state_dict().items()}
    assert models.adapter.is_untrained == anchor
    m3ft_run.run_recipe(replace(recipe, stage2=replace(recipe.stage2, steps=0)), models=models)
    first = load_adapter(tmp_path / "adapter_stage1.safetensors").state_dict()
    names = models.adapter.stage1_parameters().keys()
    changed = {name for name, value in first.items() if not torch.equal(value, fresh[name])}
    assert changed <= names and changed >= {"queries", "embed_head.down.weight"}
    assert ("alpha" in changed) == anchor
    m3ft_run.run_recipe(replace(recipe, stage1=replace(recipe.stage1, steps=0)), models=models)
    second = load_adapter(tmp_path / "adapter_stage2.safetensors")
    changed = {name for name, value in second.state_dict().items() if not torch.equal(value, first[name])}
    assert changed == models.adapter.stage2_parameters().keys()
    assert 0 < second.config.open_gate < 1
    for model, values in zip(frozen, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_a_new_anchored_adapter_starts_exactly_at_the_anchor(
    parts: Path, tmp_path: Path, run: Callable[..., Path]
) -> None:
    recipe = recipe_for(
        parts,
        tmp_path,
        stage1={"steps": 1, "lr": 1e-12},
        stage2={"steps": 1, "lr": 1e-12},
        run={"validation_samples": 3},
    )
    run(recipe)
    lines = (tmp_path / "stage1_curve.jsonl").read_text("utf-8").splitlines()
    measured = next(line for line in map(json.loads, lines) if "validation_denoise" in line)
    assert abs(measured["validation_denoise"] - measured["validation_denoise_caption"]) < 1e-6
    lines = (tmp_path / "stage2_curve.jsonl").read_text("utf-8").splitlines()
    found = next(line for line in map(json.loads, lines) if "validation_denoise_0" in line)
    gates = [found[f"validation_denoise_{name}"] for name in ("0", "0.5", "1", "1.5", "other")]
    assert max(gates) - min(gates) < 1e-6, "an adapter that has learned nothing paints the same at every gate"
    with pytest.raises(UserError, match="give stage1 some steps first"):
        run(recipe_for(parts, tmp_path / "other", stage1={"steps": 0}))


def test_without_told_words_only_the_decoder_says_what_references_are_for(
    parts: Path, tmp_path: Path, run: Callable[..., Path]
) -> None:
    """Every step denoises, and nothing else pulls at another conversation's references or shuts the gate at first."""
    run(recipe_for(parts, tmp_path, data={"exchanged": 1.0}, stage2={"steps": 8, "denoise": 0.5}))
    lines = map(json.loads, (tmp_path / "stage2_curve.jsonl").read_text("utf-8").splitlines())
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 8 and all("denoise" in line and line["align"] == 0 for line in steps)
    assert abs(steps[0]["loss"] - 0.5 * steps[0]["denoise"]) < 1e-6


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_what_scales_an_anchored_adapter_leaves_its_start_in_a_few_steps(
    parts: Path, opened: Models, optimizer: str
) -> None:
    recipe = recipe_for(parts, parts, run={"optimizer": optimizer})
    adapter = open_adapter(recipe, opened.language, opened.vision, opened.decoder)
    group = stage_common.group_of(adapter, 1)
    found = m3ft_run.optimizer_for(recipe, group, 1e-3)
    assert sum(len(part["params"]) for part in found.param_groups) == len(group)
    for part in found.param_groups:
        part["lr"] = 1e-3 * part.get("lr_scale", 1.0)  # as the loop sets it
    for parameter in group.values():
        parameter.grad = torch.ones_like(parameter)
    found.step()
    assert abs(float(adapter.alpha)) > 0.01 and abs(float(adapter.alpha_pooled)) > 0.01
    second = m3ft_run.optimizer_for(recipe, stage_common.group_of(adapter, 2), 1e-3)
    assert not any("lr_scale" in part for part in second.param_groups)


def test_the_gate_costs_nothing_until_there_is_something_to_let_through() -> None:
    useful, unknown = torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False])
    costs = [stage2.gate_cost(useful, unknown, progress, worth=0.02) for progress in (0.1, 0.5, 1.0)]
    assert [cost[2:].tolist() for cost in costs] == [costs[0][2:].tolist()] * 3, (
        "told words are a target from the start"
    )
    assert costs[0][:2].tolist() == [0, 0] and torch.allclose(costs[2], costs[1] * torch.tensor([2.0, 2, 1, 1]))
    assert costs[2][1] > costs[2][0] > 0 and torch.allclose(costs[2][:2], costs[2][2:] * 0.02)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    parts: Path, tmp_path: Path, run: Callable[..., Path], stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(output: Path) -> Recipe:
        return recipe_for(
            parts,
            output,
            models={"anchor": False},
            **{f"stage{number}": {"steps": 5 if number == stage else 1} for number in (1, 2)},
            run={"save_every": 2},
        )

    run(recipe(tmp_path / "whole"))
    place = random.Random(stage).randrange(1, 5)

    def kill(name: str, done: int, steps: int, figures: object) -> None:
        if (name, done) == (f"stage{stage}", place):
            raise SystemExit  # nothing that a training could answer, like a signal

    with pytest.raises(SystemExit):
        run(recipe(tmp_path / "killed"), on_step=kill)
    run(recipe(tmp_path / "killed"))
    for number in (1, 2):
        assert curve(tmp_path / "killed", number) == curve(tmp_path / "whole", number)
        name = f"adapter_stage{number}.safetensors"
        killed, whole = (load_adapter(tmp_path / folder / name) for folder in ("killed", "whole"))
        assert killed.config == whole.config
        assert all(torch.equal(one, other) for one, other in zip(killed.parameters(), whole.parameters(), strict=True))


def test_a_step_has_the_same_loss_however_it_is_divided(parts: Path, tmp_path: Path, run: Callable[..., Path]) -> None:
    whole = recipe_for(parts, tmp_path / "whole", stage1={"batch": 6}, stage2={"batch": 6})
    run(whole)
    cut = recipe_for(
        parts, tmp_path / "cut", stage1={"batch": 6, "micro_batch": 2}, stage2={"batch": 6, "micro_batch": 1}
    )
    run(cut)
    for stage in (1, 2):
        assert curve(tmp_path / "cut", stage) == pytest.approx(curve(tmp_path / "whole", stage), abs=1e-5)


# Trains each recipe it is given; with FSDP those whose name says so, of which it tells how the weights are divided.
TWO_PROCESSES = """
import os, sys
from pathlib import Path
from torch.distributed.tensor import DTensor
from m3adapter.training import m3ft_run
from m3adapter.training.recipe import read_recipe

divide = m3ft_run.shard

def shard(language, lora):
    divide(language, lora)
    parts = dict(language.model.named_parameters())
    print("divided", sum(isinstance(part, DTensor) for part in parts.values()), "of", len(parts))
    print("whole", not any(isinstance(part, DTensor) for part in lora.parameters.values()))

m3ft_run.shard = shard
for config in map(Path, sys.argv[1:]):
    os.environ["ACCELERATE_USE_FSDP"] = str("fsdp" in config.name).lower()
    m3ft_run.run_recipe(read_recipe(config))
"""


@pytest.mark.exhaustive
def test_two_processes_with_half_the_batch_have_the_same_loss(
    parts: Path, tmp_path: Path, run: Callable[..., Path]
) -> None:
    """Plain ones, and with FSDP, which divides the language model under its LoRA."""
    pytest.importorskip("peft")
    from m3adapter.training.recipe import as_toml

    changes = {"stage1": {"steps": 0}, "stage2": {"steps": 2}, "lora": {"rank": 2, "merge": False}}
    adapter = {"adapter": str(tmp_path / "one" / "adapter_stage1.safetensors")}
    configs = []
    short = {"stage1": {"steps": 2}, "stage2": {"steps": 2}}
    for name, how in {"": short, "_fsdp": {**changes, "models": adapter}}.items():
        (m3ft_run.run_recipe if name else run)(recipe_for(parts, tmp_path / f"one{name}", **how))
        configs.append(tmp_path / f"two{name}.toml")
        configs[-1].write_text(as_toml(recipe_for(parts, tmp_path / f"two{name}", **how)), "utf-8")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    settings = {"PYTHONPATH": str(environment.REPO), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launched = subprocess.run(
        [*command, *map(str, configs)],
        env={**os.environ, **settings, "FSDP_VERSION": "2"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr[-2000:]
    for name, stages in (("", (1, 2)), ("_fsdp", (2,))):
        for stage in stages:
            one, two = (curve(tmp_path / f"{count}{name}", stage) for count in ("one", "two"))
            assert two == pytest.approx(one, abs=1e-5)
    divided = re.search(r"divided (\d+) of (\d+)", launched.stdout)
    assert divided and int(divided[1]) >= 9 * toy_llms.LAYERS and "whole True" in launched.stdout
    saved = [load_file(tmp_path / f"{name}_fsdp/language_lora/adapter_model.safetensors") for name in ("one", "two")]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.allclose(value, saved[1][name], atol=1e-4) for name, value in saved[0].items())


def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Count how often each frozen model is asked."""
    calls: dict[str, int] = {}
    for name in ("_encode", "_embed", "_see", "read"):
        original = getattr(frozen_models.Frozen, name)

        def counted(self: object, given: object, original=original, name: str = name) -> object:
            calls[name] = calls.get(name, 0) + (len(given) if isinstance(given, list) else 1)
            return original(self, given)

        monkeypatch.setattr(frozen_models.Frozen, name, counted)

    def taken() -> dict[str, int]:
        found = dict(calls)
        calls.clear()
        return found

    return taken


def test_frozen_models_are_asked_once_and_again_only_for_what_has_changed(
    parts: Path, tmp_path: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn_pictures.save_stories(tmp_path / "data", 4)
    taken = count(monkeypatch)

    def again(output: str, **changes: dict) -> dict[str, int]:
        values = {"stage1": {"settled": 0.0, "steps": 1}, "data": {"path": str(data)}, **changes}
        values["stage2"] = {"steps": 1}
        run(recipe_for(parts, tmp_path / output, run={"cache": str(tmp_path / "cache")}, **values))
        return taken()

    first = again("one")
    assert first["_encode"] == 11 and first["_see"] and first["read"] and first["_embed"]
    assert "_encode" not in again("two", stage1={"settled": 0.0, "steps": 3}), "and stage 2 reads other image tokens"
    assert not again("three"), "nothing has changed"
    picture = data / "2_1.png"
    drawn_pictures.drawn("box", "red", "sea", 48, random.Random(9)).save(picture)
    changed = again("four")
    assert changed == {"_encode": 1, "_see": 1}
    cut = next((tmp_path / "cache" / "latents").rglob("*.safetensors"))
    cut.write_bytes(cut.read_bytes()[:-100])
    repaired = again("five")
    assert set(repaired) == {"_encode"} and repaired["_encode"] >= 1


def test_a_gradient_that_is_no_number_stops_with_the_last_good_weights(
    parts: Path, tmp_path: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shares.clock
    calls: list[int] = []

    def spoilt(began: float) -> float:
        calls.append(1)
        if len(calls) == 3:
            monkeypatch.setattr(shares.Share, "mean", lambda self, values, whole: values.sum() * float("nan"))
        return original(began)

    monkeypatch.setattr(shares, "clock", spoilt)
    with pytest.raises(
        UserError, match=r"the gradient of step 3 is not a number: the weights of the 2 steps"
    ) as caught:
        run(recipe_for(parts, tmp_path, stage2={"steps": 0}))
    assert toys.one_sentence(caught.value)
    state = torch.load(tmp_path / "stage1.pt", weights_only=True)
    assert state["step"] == 2 and all(value.isfinite().all() for value in state["model"].values())


def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(
    parts: Path, tmp_path: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    original = shares.save_state

    def full(path: Path, model: object, optimizer: object, average: object, step: int, told: object) -> None:
        if step > 2:
            path.with_suffix(".part").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        original(path, model, optimizer, average, step, told)

    monkeypatch.setattr(shares, "save_state", full)
    recipe = recipe_for(parts, tmp_path, run={"save_every": 2}, stage2={"steps": 0})
    with pytest.raises(UserError, match=r"make room on the disk and start again; it goes on from step 2\.") as caught:
        run(recipe)
    assert toys.one_sentence(caught.value) and "No space left" in capsys.readouterr().out
    assert not (tmp_path / "stage1.part").exists()
    monkeypatch.undo()
    run(recipe)
    assert len(curve(tmp_path, 1)) == 4


def test_both_stages_read_the_data_set_once_and_not_at_all_what_is_open(
    parts: Path, tmp_path: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def opening(*given: Any, **options: Any) -> Any:
        read.append(options["split"])
        return open_dataset(*given, **options)

    monkeypatch.setattr(sources, "open_dataset", opening)
    steps = {"stage1": {"steps": 1}, "stage2": {"steps": 1}}
    run(recipe_for(parts, tmp_path / "one", **steps))
    assert read == ["train", "validation"]
    run(recipe_for(parts, tmp_path / "two", **steps), opened={"train": open_dataset(parts / "data", split="train")})
    assert read == ["train", "validation", "validation"]
    ours, theirs = (load_file(tmp_path / name / "adapter_stage2.safetensors") for name in ("one", "two"))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_what_is_measured_is_kept_if_it_is_the_best(parts: Path, tmp_path: Path, run: Callable[..., Path]) -> None:
    run(recipe_for(parts, tmp_path, run={"validate_every": 2}))
    for stage, figure in ((1, "validation_denoise"), (2, "validation_denoise_1.5")):
        lines = [json.loads(line) for line in (tmp_path / f"stage{stage}_curve.jsonl").read_text("utf-8").splitlines()]
        assert [line["step"] for line in lines if figure in line] == [0, 2, 4]
        assert load_adapter(tmp_path / f"adapter_stage{stage}_best.safetensors")


def test_the_curve_begins_before_the_first_step_and_measuring_changes_nothing(
    parts: Path, tmp_path: Path, run: Callable[..., Path]
) -> None:
    stops = [("stage1", 0), ("stage1", 2), ("stage2", 0), ("stage2", 3)]

    def on_step(stage: str, done: int, steps: int, figures: Mapping[str, float]) -> None:
        if stops and stops[0] == (stage, done):
            del stops[0]
            raise Interrupted

    recipe = recipe_for(parts, tmp_path / "measured", run={"validate_every": 1})
    for _ in list(stops):
        with pytest.raises(Interrupted):
            run(recipe, on_step=on_step)
    run(recipe, on_step=on_step)
    run(recipe_for(parts, tmp_path / "not", data={"validation": ""}))
    for stage, figure in ((1, "validation_denoise"), (2, "validation_denoise_1")):
        lines = (tmp_path / "measured" / f"stage{stage}_curve.jsonl").read_text("utf-8").splitlines()
        found = [line for line in map(json.loads, lines) if figure in line]
        assert [line["step"] for line in found] == [0, 1, 2, 3, 4], "stopped before a measurement, it goes on with it"
        if stage == 1:
            assert found[0]["validation_denoise"] == pytest.approx(found[0]["validation_denoise_caption"], abs=1e-7)
        ours, theirs = (
            load_file(tmp_path / each / f"adapter_stage{stage}.safetensors") for each in ("measured", "not")
        )
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_lora_learns_in_stage_2_and_can_be_merged(parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from m3adapter.language.auto import load_language_model

    m3ft_run.run_recipe(recipe_for(parts, tmp_path, lora={"rank": 2}, models={"anchor": False}, stage2={"lr": 0.01}))
    before, after = (
        load_language_model(path).model.state_dict() for path in (parts / "llm", tmp_path / "language_model")
    )
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all("proj" in name for name in changed)
    assert (tmp_path / "language_lora" / "adapter_model.safetensors").is_file()
    lines = (tmp_path / "stage2_curve.jsonl").read_text("utf-8").splitlines()
    assert all("words" in line for line in map(json.loads, lines) if "loss" in line)


def test_a_reworded_sample_says_in_the_answer_what_its_caption_leaves_out(parts: Path, tmp_path: Path) -> None:
    samples, _ = open_samples(recipe_for(parts, tmp_path), 1)
    for index in range(6):
        sample = samples[index]
        found = reworded(sample)
        assert found.caption and found.caption != sample.caption
        said = found.conversation.turns[found.slot.turn].text
        assert sorted(re.findall(r"\w+", f"{found.caption} {said}")) == sorted(
            re.findall(r"\w+", f"{sample.caption} {sample.conversation.turns[sample.slot.turn].text}")
        )
        assert reworded(sample).caption == found.caption and found.picture is sample.picture
        told = reworded(replace(sample, told="it is red"))
        assert told.caption == sample.caption and "it is red" in told.conversation.turns[told.slot.turn].text


def test_pictures_that_nobody_paired_are_paired_by_likeness(
    parts: Path, tmp_path: Path, opened: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of captioned pictures without names: red balls are references of red balls, copies of nothing."""
    data, rng = tmp_path / "data", random.Random(4)
    data.mkdir()
    names = ["red", "blue", "red", "blue", "red", "blue"]
    for number, colour in enumerate(names):
        picture = Image.new("RGB", (48, 48), drawn_pictures.COLOURS[colour])
        picture.putpixel((number, 0), (rng.randrange(255), 0, 0))
        picture.save(data / f"{number}.png")
        (data / f"{number}.txt").write_text("a wall", "utf-8")
    (data / "7.png").write_bytes((data / "0.png").read_bytes())
    (data / "7.txt").write_text("the same wall", "utf-8")
    cache = tmp_path / "cache"
    recipe = recipe_for(parts, tmp_path, data={"path": str(data), "options": {"held_out": 0.0}, "validation": ""})
    samples, _ = open_samples(recipe, 2)
    everything = [samples[index] for index in range(len(samples))]
    colours = [sample.picture.pixels.mean((0, 1)).argmax().item() for sample in everything]
    assert not any(sample.references for sample in everything) and len(samples) == 7

    def paired() -> Any:
        made = frozen_models.Frozen(opened, cache, 32)
        return sources.by_looks(samples, [samples[1]], made, 0.999)

    found, held_out = paired()
    said = capsys.readouterr().out
    for index in range(7):
        sample = found[index]
        shown = [reference.picture for reference in sample.references]
        assert all(picture.pixels.mean((0, 1)).argmax().item() == colours[index] for picture in shown)
        assert sample.picture.digest not in {picture.digest for picture in shown}
        others = {reference.picture.digest for reference in found.exchanged(index, random.Random(index)).references}
        assert not others & {picture.digest for picture in shown}
    some = sum(bool(found[index].references) for index in range(7))
    assert some >= 4 and f"{some} of 7 samples have some" in said
    assert held_out[0].references and held_out[0].picture.digest == samples[1].picture.digest
    monkeypatch.setattr(type(opened.vision), "embed", None)
    again, _ = paired()
    assert [again[index].references for index in range(7)] == [found[index].references for index in range(7)]
    assert recipe.data.pairs == "given", "which is what the recipes say that do not know of it"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": {"language": ""}}, "models.language is empty"),
        ({"models": {"vision": "nowhere"}}, "models.vision: there is no nowhere"),
        ({"models": {"width": 65}}, "give a multiple of 64"),
        ({"data": {"path": "nowhere"}}, "there is no data set nowhere"),
        ({"data": {"options": {"colour": 1}}}, "data.options has what the data set does not take"),
        ({"stage1": {"steps": 0}, "stage2": {"steps": 0}}, "there is nothing to train"),
        ({"run": {"precision": "float16"}}, "choose bfloat16 or float32"),
        ({"run": {"tracker": "nothing"}}, "run.tracker is 'nothing'"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_in_a_sentence(
    parts: Path, tmp_path: Path, changes: dict, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        m3ft_run.run_recipe(recipe_for(parts, tmp_path, **changes))
    assert says in str(caught.value) and toys.one_sentence(caught.value)


def test_a_data_set_of_one_sample_trains(parts: Path, tmp_path: Path, run: Callable[..., Path]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    drawn_pictures.drawn("ball", "red", "sea", 40, random.Random(1)).save(data / "ball.png")
    (data / "ball.txt").write_text("a red ball", "utf-8")
    run(recipe_for(parts, tmp_path / "out", data={"path": str(data)}))
    assert load_adapter(tmp_path / "out" / "adapter_stage2.safetensors")


def test_a_language_model_that_stays_on_the_device_is_let_go_once_it_has_read_everything(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go: list[bool] = []
    original = Models.let_language_go
    monkeypatch.setattr(LanguageModel, "movable", property(lambda self: False))
    monkeypatch.setattr(Models, "let_language_go", lambda self: (let_go.append(True), original(self)))
    changes = {"stage1": {"settled": 0.0}, "run": {"offload": True, "pictures": 1}}
    m3ft_run.run_recipe(recipe_for(parts, tmp_path, **changes))
    assert let_go == [True, True] and len(curve(tmp_path, 2)) == 4
    sheet = Image.open(tmp_path / "stage2_pictures" / "00004.png")
    assert sheet.size == (4 * toys.SIDE, toys.SIDE)


@pytest.mark.exhaustive
def test_checkpointing_changes_no_loss_and_half_precision_trains(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"lora": {"rank": 2, "merge": False}, "stage1": {"steps": 2, "settled": 1.0}, "stage2": {"steps": 2}}
    m3ft_run.run_recipe(recipe_for(parts, tmp_path / "plain", **plain))
    layers: list[bool] = []
    original = frozen_models.Frozen.read

    def watched(self: Any, sample: object) -> object:
        found = original(self, sample)
        layers.append(all(layer.training == torch.is_grad_enabled() for layer in self.models.recomputed))
        assert len(self.models.recomputed) == toy_llms.LAYERS
        return found

    monkeypatch.setattr(frozen_models.Frozen, "read", watched)
    m3ft_run.run_recipe(recipe_for(parts, tmp_path / "less", run={"checkpointing": True}, **plain))
    assert layers and all(layers)
    for stage in (1, 2):
        assert curve(tmp_path / "less", stage) == pytest.approx(curve(tmp_path / "plain", stage), abs=1e-5)
    half = {"run": {"checkpointing": True, "precision": "bfloat16"}}
    m3ft_run.run_recipe(recipe_for(parts, tmp_path / "half", **half, **plain))
    assert curve(tmp_path / "half", 1) == pytest.approx(curve(tmp_path / "plain", 1), rel=0.1)
