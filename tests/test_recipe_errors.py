"""Mistakes in recipes that are found at once: before anything is prepared, in a sentence that names the field."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import toy_llms
import toys
from m3adapter import arguments
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.arguments import UserError
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import DatasetError
from m3adapter.language.auto import load_language_model
from m3adapter.training import m3ft_run, options
from m3adapter.training.lora import LanguageLora, layer_names
from m3adapter.training.m3ft_run import check_recipe
from m3adapter.training.recipe import Lora, Recipe, as_toml, read_recipe, recipe_of
from m3adapter.training.recipe_checks import check_models

LONG = "x" * 300  # longer than a file's name may be
says_why = pytest.mark.skipif(sys.platform == "win32", reason="Windows says only that there is nothing.")


def recipe_for(folder: Path, **changes: dict[str, Any]) -> Recipe:
    """A recipe that is right but for these changes."""
    (folder / "data").mkdir(exist_ok=True)
    values: dict[str, dict[str, Any]] = {
        "models": dict.fromkeys(("language", "vision", "decoder"), "starter"),
        "data": {"path": str(folder / "data")},
        "run": {"output": str(folder / "output")},
    }
    return recipe_of({table: {**values.get(table, {}), **changes.get(table, {})} for table in {**values, **changes}})


def refused(recipe: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        check_recipe(recipe)
    assert toys.one_sentence(caught.value), str(caught.value)
    return str(caught.value)


def test_a_recipe_that_is_right_is_checked_and_leaves_nothing(tmp_path: Path) -> None:
    check_recipe(recipe_for(tmp_path, run={"cache": str(tmp_path / "deep" / "cache")}))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"run": {"tracker": "nothing"}}, "run.tracker is 'nothing', which accelerate does not know"),
        ({"lora": {"rank": 4, "targets": " , "}}, "lora.targets is empty: name layers, such as q_proj, or write"),
        pytest.param(*({"run": {"output": LONG}}, "run.output: 'xxx"), marks=says_why),
        pytest.param(*({"run": {"cache": LONG}}, "run.cache: 'xxx"), marks=says_why),
        pytest.param(*({"data": {"path": LONG}}, "data.path: 'xxx"), marks=says_why),
        pytest.param(*({"models": {"decoder": LONG}}, "models.decoder: 'xxx"), marks=says_why),
        pytest.param(*({"models": {"adapter": LONG}}, "models.adapter: 'xxx"), marks=says_why),
        ({"data": {"path": "~nobody at home/data"}}, "data.path: there is no data set ~nobody at home/data"),
        ({"data": {"options": {"policy": "x"}}}, "it takes held_out, check and history"),
        ({"data": {"options": {"check": "no"}}}, "data.options.check is 'no': give true or false"),
        ({"data": {"options": {"held_out": 1}}}, "data.options.held_out is 1: give a number from 0 to 0.5"),
        ({"data": {"options": {"history": True}}}, "data.options.history is True: give a whole number from 1"),
        ({"data": {"path": "storybook", "options": {"retyped": 2}}}, "data.options.retyped is 2: give the part"),
        ({"data": {"path": "picturebook", "options": {"check": True}}}, "which picturebook does not know"),
    ],
)
def test_what_cannot_work_is_found_at_once(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    said = refused(recipe_for(tmp_path, **changes))
    assert says in said and ("xxx" not in says or "cannot be reached (File name too long): name another" in said)


def test_a_tracker_and_a_lora_need_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    said = refused(recipe_for(tmp_path, run={"tracker": "tensorboard"}))
    assert said == "run.tracker is 'tensorboard': install the Python package tensorboard first."
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    assert "install it with `pip install peft`" in refused(recipe_for(tmp_path, lora={"rank": 4}))
    check_recipe(recipe_for(tmp_path, lora={"rank": 4}, stage2={"steps": 0}))


@pytest.mark.parametrize("field", ["output", "cache"])
def test_folders_of_results_are_such_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    file = tmp_path / "file"
    file.write_text("words", "utf-8")
    for path in (file, file / "below"):
        said = refused(recipe_for(tmp_path, run={field: str(path)}))
        assert said == f"run.{field}: {file} is a file, choose a folder."
    for path in (tmp_path / "data", tmp_path / "data" / "results"):
        said = refused(recipe_for(tmp_path, run={field: str(path)}))
        assert said.startswith(f"run.{field} lies in data.path") and said.endswith("name a folder outside.")

    def denied(*, dir: Path) -> None:
        if Path(dir) == tmp_path / "shut":
            raise PermissionError(13, "Permission denied", str(dir))

    (tmp_path / "shut").mkdir()
    temporary = arguments.TemporaryFile
    monkeypatch.setattr(arguments, "TemporaryFile", lambda dir: denied(dir=dir) or temporary(dir=dir))
    said = refused(recipe_for(tmp_path, run={field: str(tmp_path / "shut" / "results")}))
    assert said.startswith(f"run.{field}: nothing can be written to ")
    assert said.endswith("(Permission denied): choose another folder.")


@says_why
def test_a_name_that_is_too_long_is_found_below_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    for field in ("output", "cache"):
        said = refused(recipe_for(tmp_path, run={field: str(tmp_path / "new" / LONG)}))
        assert said.startswith(f"run.{field}: nothing can be written to ") and "(File name too long)" in said


def test_a_folder_of_data_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    recipe = recipe_for(tmp_path)
    monkeypatch.setattr(Path, "iterdir", shut)
    said = refused(recipe)
    assert said.startswith("data.path: ") and said.endswith("cannot be reached (Permission denied): name another.")


def test_paths_that_are_too_long_are_no_data_sets_and_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no data set xxx"):
        open_dataset(tmp_path / LONG)
    with pytest.raises(UserError, match="There is no recipe xxx"):
        read_recipe(Path(LONG))
    path = tmp_path / "mine.toml"
    path.write_text(f'[data]\npath = "{LONG}"\n[run]\noutput = "{LONG}"\n', "utf-8")
    assert read_recipe(path).data.path == LONG, "and the check says that it cannot be reached"


@pytest.mark.parametrize("resolution", [1, 15, 8193, -1])
def test_a_resolution_is_a_size_that_pictures_have(resolution: int) -> None:
    with pytest.raises(UserError, match="give a whole number from 16 to 8192, or 0") as caught:
        recipe_of({"data": {"resolution": resolution}})
    assert toys.one_sentence(caught.value)
    for allowed in (0, 16, 8192):
        assert recipe_of({"data": {"resolution": allowed}}).data.resolution == allowed


class Layers(nn.Module):
    """What of a language model a LoRA could change, and what not."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"q_proj": nn.Linear(4, 4), "v_proj": nn.Linear(4, 4)})
        self.norm = nn.LayerNorm(4)


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [
        ("all-linear", ""), ("q_proj", ""), ("q_proj, v_proj", ""), ("attention.q_proj", ""),
        ("q_proj, qq", "qq"), ("proj", "proj"), ("norm", "norm"), ("attention", "attention"),
    ],
)  # fmt: skip
def test_layers_that_the_language_model_does_not_have_are_found_once_it_is_open(targets: str, wrong: str) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(block_out_channels=(8, 8)))
    decoder = SimpleNamespace(unet=unet, pipeline=SimpleNamespace(vae_scale_factor=8))
    models: Any = SimpleNamespace(language=SimpleNamespace(model=Layers()), decoder=decoder)
    recipe = recipe_of({"lora": {"rank": 4, "targets": targets}, "data": {"resolution": 16}})
    if not wrong:
        check_models(recipe, models)
    else:
        with pytest.raises(UserError, match=f"lora.targets: the language model has no layer '{wrong}'") as caught:
            check_models(recipe, models)
        assert toys.one_sentence(caught.value)
        check_models(recipe_of({"lora": {"targets": targets}}), models)
    unet.config.block_out_channels = (8, 8, 8)
    with pytest.raises(UserError, match="data.resolution is 16: give at least 32, the smallest picture"):
        check_models(recipe, models)


def test_layers_are_looked_for_before_anything_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = SimpleNamespace(config=SimpleNamespace(block_out_channels=(8, 8)))
    decoder = SimpleNamespace(unet=unet, pipeline=SimpleNamespace(vae_scale_factor=8))
    models = SimpleNamespace(language=SimpleNamespace(model=Layers()), decoder=decoder, let_go=False)
    monkeypatch.setattr(m3ft_run, "open_models", lambda recipe: models)
    monkeypatch.setattr(m3ft_run, "open_samples", lambda *how: ([], []))
    monkeypatch.setattr(m3ft_run, "train_stage", lambda *how: pytest.fail("stage 1 began"))
    with pytest.raises(UserError, match="no layer 'qq'"):
        m3ft_run.run_recipe(recipe_for(tmp_path, lora={"rank": 4, "targets": "qq"}))


def test_a_single_layer_is_a_name_as_several_are(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    assert layer_names(" q_proj ,, v_proj") == ["q_proj", "v_proj"]
    toy_llms.llama(tmp_path)
    lora = LanguageLora(load_language_model(tmp_path), Lora(rank=2, targets="q_proj"), 0)
    assert lora.parameters and all(".q_proj." in name for name in lora.parameters)


# How recipes are written


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_recipe_is_read_in_what_editors_and_shells_write(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    (tmp_path / "mine.toml").write_bytes(f'{mark}[data]\r\nkind = "fötö"\r\n'.encode(encoding))
    assert read_recipe(tmp_path / "mine.toml").data.kind == "fötö"


def test_what_no_editor_writes_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"[data]\nkind = '\xe9'\n")
    with pytest.raises(UserError, match=r"^mine\.toml is no TOML file"):
        read_recipe(tmp_path / "mine.toml")


def test_further_options_are_printed_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[data]\nkind = "a\\u007fb\\u0001\\t\\"é"\n[data.options]\n"two words" = [1, [true, "x"], inf, -inf]\n'
        'nested = { inner = { "" = 1.5, nought = nan } }\nlarge = 1e30\n"ä.b" = {}\n'
        "day = 2026-11-27\ntime = 07:32:00\nboth = 2026-11-27T07:32:00Z\n",
        "utf-8",
    )
    first = read_recipe(path)
    path.write_text(as_toml(first), "utf-8")
    again = read_recipe(path)
    assert repr(again.data) == repr(first.data) and "nan" in repr(again.data) and again.data.kind[1] == "\x7f"


def test_a_folder_with_the_name_of_a_recipe_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = read_recipe(Path("storybook"))
    (tmp_path / "storybook").mkdir()
    assert read_recipe(Path("storybook")) == expected
    (tmp_path / "mine").write_text("[run]\nseed = 3\n", "utf-8")
    assert read_recipe(Path("mine")).run.seed == 3, "a file of any name is a recipe"


# How errors name what is wrong


def test_errors_name_fields_of_recipes_and_options_of_commands(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig

    folder = tmp_path / "vision"
    CLIPVisionConfig(model_type="dinov2").save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "dinov2"}', "utf-8")
    for name, shown in (("models.vision", "models.vision"), ("text_encoder", "--text-encoder")):
        with pytest.raises(UserError) as caught, options.opened(name, folder):
            VisionEncoder.from_pretrained(folder)
        said = str(caught.value)
        assert said.startswith(f"{shown}: ") and "kind 'dinov2'" in said and toys.one_sentence(said)
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    with pytest.raises(UserError, match=r"^--output: .* is a file"):
        options.check_output(file)


@says_why
def test_options_of_commands_that_are_too_long_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--output: .*File name too long"):
        options.check_output(tmp_path / LONG, "stage1.pt", ["x"])
    with pytest.raises(UserError, match=r"^--vision: .*File name too long"):
        options.check_folders(SimpleNamespace(vision=Path(LONG)), "vision")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^--init: .*File name too long"):
        options.check_files(SimpleNamespace(init=Path(LONG)), "init")  # type: ignore[arg-type]
