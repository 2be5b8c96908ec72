"""Recipes: read, printed, changed, and refused in a sentence that names the field and its cure."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

import toys
from m3adapter.arguments import UserError
from m3adapter.cli.main import main
from m3adapter.training.recipe import RECIPES, Recipe, as_toml, read_recipe, recipe_of


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
@pytest.mark.parametrize("comments", [True, False])
def test_a_recipe_that_is_printed_reads_as_the_same(name: str, comments: bool, tmp_path: Path) -> None:
    recipe = read_recipe(Path(name))
    options = replace(recipe.data, options={"history": 3})
    path = tmp_path / "printed.toml"
    path.write_text(as_toml(replace(recipe, data=options), comments=comments), "utf-8")
    found = read_recipe(path)
    assert replace(found, run=recipe.run) == replace(recipe, data=options)
    assert found.run.output == str(tmp_path / recipe.run.output)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_a_recipe_is_reached_by_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--print-config"]) == 0
    assert capsys.readouterr().out == as_toml(read_recipe(Path(name))) + "\n"


def test_every_field_is_documented() -> None:
    for table in fields(Recipe):
        for item in fields(getattr(Recipe(), table.name)):
            assert item.metadata["help"], f"{table.name}.{item.name}"


def test_the_command_prints_a_recipe_with_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "stage2.lr=3e-4", "--set", "models.language=some/folder", "--set", "run.offload=true"]
    assert main(["train", "sdxl_24gb", *changes, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "lr = 0.0003\n" in printed and 'language = "some/folder"\n' in printed and "offload = true\n" in printed
    assert "# chooses samples, noise and a new adapter's weights\nseed = 0\n" in printed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[run]\nsed = 1", "there is no run.sed; the nearest name is seed"),
        ("[stage1]\nmin_snr = 5.0", "there is no stage1.min_snr; the nearest name is loss.min_snr"),
        ("[modls]", "there is no modls; the nearest name is models"),
        ("[xyz]", "there is no xyz; known are models, data"),
        ("run = 3", "run is a table, so write [run]"),
        ("[run]\nseed = '3'", "run.seed is '3': give a whole number"),
        ("[run]\nseed = -1", "run.seed is -1: give a whole number from 0 to"),
        ("[run]\ncheckpointing = 1", "run.checkpointing is 1: give true or false"),
        ("[stage2]\nlr = nan", "stage2.lr is nan: give a number from"),
        ("[run]\nprecision = 'fp8'", "run.precision is 'fp8': choose one of auto, float32, bfloat16, float16"),
        ("[run", "is no TOML file"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_the_field(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert says in str(caught.value) and str(caught.value).startswith("mine.toml") and toys.one_sentence(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [("seed=3", "write table.field=value"), ("run.sed=3", "no run.sed"), ("run.seed=x", "give a whole number")],
)
def test_a_change_on_the_command_line_is_checked_alike(change: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_recipe(Path("storybook"), [change])
    assert says in str(caught.value) and toys.one_sentence(caught.value)


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    path = tmp_path / "mine.toml"
    path.write_text('[models]\nlanguage = "llm"\nvision = "starter"\n[run]\noutput = "out"\n', "utf-8")
    recipe = read_recipe(path)
    assert recipe.models.language == str(tmp_path / "llm") and recipe.models.vision == "starter"
    assert recipe.run.output == str(tmp_path / "out") and recipe.run.cache == ""


def test_whole_numbers_are_numbers() -> None:
    assert recipe_of({"stage1": {"align": 2}}).stage1.align == 2.0
