"""M3FT goes on with what it was begun with, and says what is different where it cannot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import drawn_pictures
import toy_llms
import toys
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.arguments import UserError
from m3adapter.training import m3ft_run, shares
from m3adapter.training.frozen import spelling
from m3adapter.training.loop import about, uninterrupted
from m3adapter.training.m3ft_models import open_models
from m3adapter.training.recipe import Recipe, recipe_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    toy_llms.save_models(folder)
    drawn_pictures.save_stories(folder / "data", 6)
    drawn_pictures.save_stories(folder / "others", 6, seed=3)
    return folder


@pytest.fixture
def recipe(parts: Path, tmp_path: Path) -> Callable[..., Recipe]:
    def made(**changes: dict[str, Any]) -> Recipe:
        models = {"language": "llm", "vision": "vision", "decoder": "decoder"}
        stage = {"steps": 2, "batch": 3, "denoise_share": 0.5}
        tables: dict[str, dict[str, Any]] = {
            "models": {**{name: str(parts / folder) for name, folder in models.items()}, "width": 64, "blocks": 1},
            "data": {"path": str(parts / "data"), "validation": ""},
            "stage1": stage,
            "stage2": stage,
            "run": {"output": str(tmp_path / "out"), "precision": "float32"},
        }
        return recipe_of({name: {**table, **changes.get(name, {})} for name, table in tables.items()})

    return made


def weights(output: Path, stage: int) -> dict[str, torch.Tensor]:
    return load_file(output / f"adapter_stage{stage}.safetensors")


def test_other_settings_are_refused_by_name_and_nothing_is_lost(
    recipe: Callable[..., Recipe], parts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    m3ft_run.run_recipe(recipe())
    before = {path: path.read_bytes() for path in output.glob("*.*")}
    other = load_adapter(output / "adapter_stage1.safetensors")
    save_adapter(tmp_path / "other.safetensors", other)
    for changes, says in (
        ({"run": {"seed": 5}}, "trained with run.seed = 0, and not 5"),
        ({"stage1": {"lr": 0.5}}, "trained with stage1.lr = 0.001, and not 0.5"),
        ({"data": {"path": str(parts / "others")}}, "trained with data.path = 'data', and not 'others'"),
        ({"models": {"adapter": str(tmp_path / "other.safetensors")}}, "trained with another models.adapter"),
    ):
        with pytest.raises(UserError) as caught:
            m3ft_run.run_recipe(recipe(**changes))
        assert says in str(caught.value) and "delete stage1.pt" in str(caught.value)
        assert toys.one_sentence(caught.value)
    assert {path: path.read_bytes() for path in before} == before
    m3ft_run.run_recipe(recipe(run={"log_every": 1, "threads": 1}))  # which change nothing that is learned


def test_another_language_model_is_noticed(recipe: Callable[..., Recipe], parts: Path, tmp_path: Path) -> None:
    m3ft_run.run_recipe(recipe())
    toy_llms.llama(tmp_path / "llm")
    values = load_file(tmp_path / "llm" / "model.safetensors")
    save_file({name: value * 1.5 for name, value in values.items()}, tmp_path / "llm" / "model.safetensors")
    with pytest.raises(UserError, match=r"stage1\.pt that was trained with another models\.language"):
        m3ft_run.run_recipe(recipe(models={"language": str(tmp_path / "llm")}))


def test_stage_1_does_not_go_on_below_a_stage_2(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    output = tmp_path / "out"
    m3ft_run.run_recipe(recipe())
    more = recipe(stage1={"steps": 4}, stage2={"steps": 4})
    with pytest.raises(UserError, match=r"stage1 asks for more than its 2 steps so far.*delete stage2\.pt"):
        m3ft_run.run_recipe(more)
    (output / "stage2.pt").unlink()
    m3ft_run.run_recipe(more)
    one, two = weights(output, 1), weights(output, 2)
    assert about(output / "stage1.pt")["step"] == about(output / "stage2.pt")["step"] == 4
    kept = load_adapter(output / "adapter_stage1.safetensors").stage1_parameters()
    assert all(torch.equal(two[name], one[name]) for name in kept if name in two)
    m3ft_run.run_recipe(recipe(stage1={"steps": 4}, stage2={"steps": 6}))
    assert about(output / "stage2.pt")["step"] == 6, "stage 2 may take longer"


def test_the_minutes_are_those_of_all_runs(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished stage stays finished; one that was stopped has what is left."""
    output, steps = tmp_path / "out", []
    monkeypatch.setattr(shares, "clock", lambda began: 20.0 * len(steps))
    original = shares._gradients
    monkeypatch.setattr(shares, "_gradients", lambda *given: steps.append(1) or original(*given))
    timed = recipe(stage1={"steps": 100, "minutes": 1}, stage2={"steps": 0})
    m3ft_run.run_recipe(timed)
    assert len(steps) == 3
    state = torch.load(output / "stage1.pt", weights_only=True)
    torch.save({**state, "seconds": 61.0}, output / "stage1.pt")  # as a real clock would have it
    m3ft_run.run_recipe(timed)
    assert len(steps) == 3 and about(output / "stage1.pt")["step"] == 3
    torch.save({**state, "seconds": 41.0}, output / "stage1.pt")
    steps.clear()
    m3ft_run.run_recipe(timed)
    assert len(steps) == 1


@pytest.fixture
def stoppable() -> Iterator[None]:
    """Let Ctrl-C stop the tests, also where they run in the background and a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_stop_waits_for_the_end_of_an_update(stoppable: None) -> None:
    """Ctrl-C in the middle of an optimizer's step would leave weights of half a step."""
    done: list[str] = []
    working, pressed = threading.Event(), threading.Event()

    def press() -> None:
        working.wait()
        os.kill(os.getpid(), signal.SIGINT)
        pressed.set()

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        working.set()
        assert pressed.wait(60)
        done.append("whole")
    assert done == ["whole"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_picture_that_is_gone_stops_it_with_what_was_learned(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    data = drawn_pictures.save_stories(tmp_path / "gone", 4)

    def on_step(stage: str, done: int, *_: object) -> None:
        if done == 1:
            for picture in data.rglob("*.png"):
                picture.unlink()

    with pytest.raises(UserError, match=r"data\.path: "):
        m3ft_run.run_recipe(
            recipe(data={"path": str(data)}, stage1={"steps": 9}, stage2={"steps": 9}, run={"log_every": 1}),
            on_step=on_step,
        )
    assert about(tmp_path / "out" / "stage1.pt")["step"] >= 1


def test_the_cache_knows_precision_and_tokenizers(recipe: Callable[..., Recipe], parts: Path) -> None:
    models = open_models(recipe())
    one = spelling(models.language.tokenizer)
    models.language.tokenizer.add_tokens(["<new>"])
    assert spelling(models.language.tokenizer) != one
    before = spelling(models.decoder.pipeline.tokenizer)
    models.decoder.pipeline.tokenizer(["a", "b c"], padding="max_length", truncation=True)
    assert spelling(models.decoder.pipeline.tokenizer) == before, "how it was called does not matter"
    pipeline = models.decoder.pipeline
    assert spelling(pipeline.tokenizer) and spelling(None) == spelling(None)
