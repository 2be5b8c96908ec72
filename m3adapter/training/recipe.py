"""A recipe: everything that a training of an M3-Adapter depends on, as one TOML file.

Each table of the file is a class below, each of its fields a line with a default, a range and a sentence that
`--print-config` writes above it. Unknown names and values out of range are errors before anything is opened.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..arguments import UserError
from ..values import MAX_SIDE, is_number, is_whole, shown
from .options import MOST
from .toml_files import parsed, read_text, written

RECIPES = Path(__file__).parent / "recipes"  # those that come with the library
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes", dict: "a table"}


def option(
    default: Any, help: str, low: float = 0, high: float = MOST, choices: Sequence[str] = (), *, or_zero: bool = False
) -> Any:
    """Return a dataclass field with its documentation and limits; a dictionary is copied for every instance.

    With `or_zero`, 0 is allowed although it is below the lowest number.
    """
    about = {"help": help, "low": low, "high": high, "choices": tuple(choices), "or_zero": or_zero}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Models:
    """The models that the adapter connects, and the adapter to begin with."""

    language: str = option("", 'the language model: a folder or .gguf file, or "starter"')
    vision: str = option("", 'the vision encoder: a folder of a CLIP vision model, or "starter"')
    decoder: str = option("", 'the decoder of SDXL\'s layout: a folder or .safetensors file, or "starter"')
    adapter: str = option("", "an adapter to go on with; empty makes a new one of the sizes below")
    anchor: bool = option(
        True, "a new adapter changes the decoder's own embeddings of the caption; false replaces them"
    )
    width: int = option(768, "inner width of a new adapter, a multiple of 64", 64, 2**14)
    blocks: int = option(4, "blocks of a new adapter", 1, 64)
    language_dtype: str = option(
        "auto", "weights of the language model", choices=("auto", "float32", "bfloat16", "float16")
    )
    quantization: str = option("", "4 or 8 bits for the language model's weights", choices=("", "8bit", "4bit"))
    decoder_dtype: str = option("auto", "weights of the decoder", choices=("auto", "float32", "bfloat16", "float16"))


@dataclass(frozen=True)
class Data:
    """What is learned from; see docs/training.md for the layouts."""

    path: str = option("", 'the data set: a folder or file, or a world that the library draws, such as "storybook"')
    kind: str = option("", "its layout; empty tells it by what lies there")
    split: str = option("train", "the part to learn from")
    validation: str = option("validation", "the part to measure on; empty measures nothing")
    resolution: int = option(
        0,
        "side in pixels of square pictures, of whose area the others are; 0 is the decoder's own",
        16,
        MAX_SIDE,
        or_zero=True,
    )
    pairs: str = option(
        "given",
        "stage 2: references as the data gives them, or also by likeness for pictures that have none",
        choices=("given", "likeness"),
    )
    alike: float = option(0.85, "pairs by likeness: the least cosine of the vision encoder's pooled features", -1, 1)
    exchanged: float = option(0.3, "stage 2: part of the samples with another conversation's references", 0, 1)
    options: dict[str, Any] = option({}, "further options of the layout")


@dataclass(frozen=True)
class Stage:
    """How long and how fast a stage learns, and what from."""

    steps: int = option(1500, "steps in all; 0 leaves the stage out")
    minutes: float = option(0.0, "stop after this time; the learning rate then follows the clock")
    samples: int = option(0, "the most samples that it learns from; 0 takes all")
    batch: int = option(32, "samples in a step, of all processes together", 1)
    micro_batch: int = option(0, "samples that are on a device at a time; 0 takes all of its share", 0)
    lr: float = option(1e-3, "highest learning rate", 1e-12, 10)
    warmup: int = option(50, "steps until it is reached", 1)
    average: float = option(0.995, "decay of the moving average of the weights, which is what is saved", 0, 1)
    align: float = option(1.0, "weight of the distance from the text encoders' embeddings")
    denoise: float = option(0.5, "weight of the decoder's own loss")
    denoise_from: float = option(0.0, "when the decoder's own loss begins, as part of the steps", 0, 1)
    denoise_share: float = option(1.0, "part of a step's samples that are denoised", 0, 1)
    settled: float = option(0.0, "stage 1, new adapter: part of the steps in which its image tokens learn", 0, 1)
    dropped: float = option(0.1, "part of the samples without text condition (stage 1) or references (stage 2)", 0, 1)
    gate: bool = option(True, "stage 2: false keeps the gate at 1, as an ablation")
    projection: bool = option(
        False, "stage 2: teach a language model that cannot see to see users' pictures, through a visual projection"
    )


@dataclass(frozen=True)
class Loss:
    """The decoder's own loss; its prediction and noise schedule are those of its configuration."""

    min_snr: float = option(0.0, "gamma of the min-SNR weights; 0 weighs all times alike")
    early: float = option(1.0, "exponent of the times: below 1, noisy ones are drawn more often", 0.05, 20)
    picture_text: float = option(0.1, "stage 2: weight of the picture's own embedding where no words are told")


@dataclass(frozen=True)
class Lora:
    """Low-rank changes to the language model in stage 2 (needs the package peft)."""

    rank: int = option(0, "rank; 0 leaves the language model as it is", 0, 1024)
    alpha: int = option(16, "scale: changes are multiplied by alpha / rank")
    dropout: float = option(0.0, "dropout of the changes' input", 0, 0.99)
    targets: str = option("all-linear", "names of the layers to change, separated by commas")
    words: float = option(0.5, "weight of the loss on the assistant's own words and captions, of a projection too")
    merge: bool = option(True, "also write the language model with the changes in its weights")


@dataclass(frozen=True)
class Run:
    """Where results go, and how the run behaves."""

    output: str = option("", "folder of checkpoints and results")
    cache: str = option("", "folder of what frozen models have said; empty is a folder in the output")
    seed: int = option(0, "chooses samples, noise and a new adapter's weights", 0, 2**63 - 1)
    precision: str = option("auto", "what is computed in", choices=("auto", "float32", "bfloat16", "float16"))
    checkpointing: bool = option(False, "compute activations of decoder and language model twice, to keep none")
    offload: bool = option(False, "keep on the device only the models that work at the moment")
    optimizer: str = option("muon", "the optimizer", choices=("muon", "adamw"))
    weight_decay: float = option(0.01, "decoupled weight decay", 0, 10)
    threads: int = option(0, "threads of torch; 0 is as many as there are cores", 0, 4096)
    log_every: int = option(50, "steps between two printed lines", 1)
    save_every: int = option(500, "steps between two checkpoints", 1)
    validate_every: int = option(
        500, "steps between two measurements on the validation part; the first is before the first step", 1
    )
    validation_samples: int = option(64, "samples of a measurement", 1)
    pictures: int = option(0, "pictures of the validation part that are painted at every measurement of stage 2", 0, 64)
    tracker: str = option("", "what accelerate logs to besides the terminal, such as tensorboard")


@dataclass(frozen=True)
class Recipe:
    """The whole of it."""

    models: Models = field(default_factory=Models)
    data: Data = field(default_factory=Data)
    stage1: Stage = field(default_factory=Stage)
    stage2: Stage = field(default_factory=Stage)
    loss: Loss = field(default_factory=Loss)
    lora: Lora = field(default_factory=Lora)
    run: Run = field(default_factory=Run)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a TOML file; paths in it are relative to its folder.

    Args:
        path: The file, or the name of a recipe that comes with the library.
        changes: Fields to set instead, as "run.seed=3".

    Raises:
        UserError: The file is missing or no TOML, or a field is unknown, of the wrong type or out of range.
    """
    own = os.path.isfile(path) or path.suffix == ".toml"  # a folder may have the name of a recipe
    found = path if own else RECIPES / f"{path.name}.toml"
    if not os.path.isfile(found):  # unlike Path's, it is false for what cannot be reached
        names = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise UserError(f"There is no recipe {path}: give a TOML file, or one of {names}.")
    try:
        values = parsed(read_text(found))
    except (OSError, ValueError) as error:
        raise UserError(f"{found.name} is no TOML file ({' '.join(str(error).split())[:200]}).") from error
    recipe = recipe_of(values, found.name)
    if own:
        recipe = _anchored(recipe, found.resolve().parent)
    for change in changes:
        recipe = _changed(recipe, change)
    return recipe


def recipe_of(values: Mapping[str, Any], name: str = "The recipe") -> Recipe:
    """Return the recipe of the tables of a TOML file.

    Raises:
        UserError: A field is unknown, of the wrong type or out of range.
    """
    return _filled(Recipe(), values, "", name)


def as_toml(recipe: Recipe, *, comments: bool = True) -> str:
    """Return a recipe as `read_recipe` reads it, each field below what it means."""
    lines = []
    for table in fields(recipe):
        part = getattr(recipe, table.name)
        doc = f"  # {(type(part).__doc__ or '').splitlines()[0]}" if comments else ""
        lines.append(f"[{table.name}]{doc}")
        for item in fields(part):
            value = getattr(part, item.name)
            if comments:
                choices = f" ({', '.join(c or 'empty' for c in item.metadata['choices'])})" * bool(
                    item.metadata["choices"]
                )
                lines.append(f"# {item.metadata['help']}{choices}")
            lines.append(f"{item.name} = {written(value)}")
        lines.append("")
    return "\n".join(lines)


def _filled(part: Any, values: Mapping[str, Any], prefix: str, name: str) -> Any:
    known = {item.name: item for item in fields(part)}
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{name}: there is no {prefix}{key}{_nearest(key, prefix, known)}.")
        default = getattr(part, key)
        if is_dataclass(default):
            if not isinstance(value, Mapping):
                raise UserError(f"{name}: {key} is a table, so write [{key}] and its fields below.")
            chosen[key] = _filled(default, value, f"{key}.", name)
        else:
            chosen[key] = _checked(known[key], type(default), value, f"{name}: {prefix}{key}")
    return replace(part, **chosen)


def _nearest(key: str, prefix: str, known: Mapping[str, Any]) -> str:
    elsewhere = [
        f"{table.name}.{item.name}" for table in fields(Recipe) for item in fields(getattr(Recipe(), table.name))
    ]
    near = difflib.get_close_matches(key, known, 1) or [found for found in elsewhere if found.split(".")[1] == key]
    near = near or difflib.get_close_matches(f"{prefix}{key}", elsewhere, 1)
    return f"; the nearest name is {near[0]}" if near else f"; known are {', '.join(known)}"


def _checked(item: Any, kind: type, value: Any, name: str) -> Any:
    about = item.metadata
    if kind is float and is_whole(value, -MOST, MOST):
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{name} is {shown(value)}: give {TYPES[kind]}.")
    low, high = about["low"], about["high"]
    if kind is int and not is_whole(value, low, high) and not (about["or_zero"] and value == 0):
        zero = ", or 0" if about["or_zero"] else ""
        raise UserError(f"{name} is {shown(value)}: give a whole number from {low} to {high}{zero}.")
    if kind is float and not is_number(value, low, high):
        raise UserError(f"{name} is {shown(value)}: give a number from {low:g} to {high:g}.")
    if about["choices"] and value not in about["choices"]:
        given = ", ".join(choice or '""' for choice in about["choices"])
        raise UserError(f"{name} is {shown(value)}: choose one of {given}.")
    return value


def _changed(recipe: Recipe, change: str) -> Recipe:
    key, found, text = change.partition("=")
    table, _, name = key.strip().partition(".")
    if not found or not name:
        raise UserError(f"--set {shown(change)}: write table.field=value, such as run.seed=3.")
    known = {item.name for item in fields(Recipe)}
    value: Any = text.strip()
    part = getattr(recipe, table, None) if table in known else None
    if part is not None and not isinstance(getattr(part, name, None), str):
        with contextlib.suppress(ValueError):  # the check below says what is expected
            value = parsed(f"value = {value}")["value"]
    return _filled(recipe, {table: {name: value}}, "", "--set")


def _anchored(recipe: Recipe, folder: Path) -> Recipe:
    """Return a recipe whose paths, unless they name something else, begin at its own folder."""

    def at(text: str) -> str:
        return str(folder / text) if text and os.path.exists(folder / text) else text

    def at_new(text: str) -> str:
        return str(folder / text) if text else text

    models: Any = {name: at(getattr(recipe.models, name)) for name in ("language", "vision", "decoder", "adapter")}
    run: Any = {name: at_new(getattr(recipe.run, name)) for name in ("output", "cache")}
    data = replace(recipe.data, path=at(recipe.data.path))
    return replace(recipe, models=replace(recipe.models, **models), run=replace(recipe.run, **run), data=data)


def table_of(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield every field as "table.field" with its value: what a tracker is told."""
    for table in fields(recipe):
        part = getattr(recipe, table.name)
        for item in fields(part):
            yield f"{table.name}.{item.name}", getattr(part, item.name)
