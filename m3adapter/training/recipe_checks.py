"""Checks of what a recipe names, made before anything is prepared: folders, trackers, packages and layers."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..arguments import UserError, check_reachable, check_writable, unreachable
from ..values import shown
from ..weights.starter import WORLDS
from .lora import ALL_LINEAR, layer_names
from .options import check_output

if TYPE_CHECKING:
    from .models_at_work import Models
    from .recipe import Recipe


def check_data(recipe: Recipe) -> None:
    """Raise UserError unless the data set of a recipe is there and can be read."""
    given = recipe.data.path
    if not given:
        raise UserError("data.path is empty: name a data set.")
    if given in WORLDS:
        return
    place = Path(os.path.expanduser(given))
    check_reachable("data.path", place)
    if not place.exists():
        raise UserError(f"data.path: there is no data set {given}.")
    if place.is_dir():
        try:
            next(place.iterdir(), None)
        except OSError as error:
            raise unreachable("data.path", given, error) from error


def check_folders(recipe: Recipe) -> None:
    """Raise UserError unless a recipe's output and cache can be written, and do not become part of its data."""
    given = recipe.data.path
    for name in ("output", "cache"):
        if not getattr(recipe.run, name):
            continue
        folder, field = Path(getattr(recipe.run, name)), f"run.{name}"
        check_output(folder, name=field)
        data = Path(os.path.expanduser(given))
        if given not in WORLDS and data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
            raise UserError(
                f"{field} lies in data.path, {data}, so that the next training would learn from its files: "
                "name a folder outside."
            )
        check_writable(field, folder)


def check_tracker(recipe: Recipe) -> list[Any]:
    """Return the trackers of accelerate that a recipe asks for.

    Raises:
        UserError: It is unknown, or its package is missing.
    """
    name = recipe.run.tracker
    if not name:
        return []
    from accelerate.tracking import filter_trackers

    try:
        found: list[Any] = filter_trackers([name], recipe.run.output)
    except ValueError as error:
        raise UserError(f"run.tracker is {name!r}, which accelerate does not know: choose tensorboard.") from error
    if not found:
        raise UserError(f"run.tracker is {name!r}: install the Python package {name} first.")
    return found


def check_lora(recipe: Recipe) -> None:
    """Raise UserError unless a LoRA that a recipe asks for has its package, and layers to change."""
    if not recipe.lora.rank or not recipe.stage2.steps:
        return
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora.rank needs the Python package peft: install it with `pip install peft`.")
    if not layer_names(recipe.lora.targets):
        raise UserError(f"lora.targets is empty: name layers, such as q_proj, or write {ALL_LINEAR}.")


def check_models(recipe: Recipe, models: Models) -> None:
    """Raise UserError unless a recipe's numbers and names go with its models, which are open."""
    decoder = models.decoder
    least = decoder.pipeline.vae_scale_factor * 2 ** (len(decoder.unet.config.block_out_channels) - 1)
    if 0 < recipe.data.resolution < least:
        raise UserError(
            f"data.resolution is {recipe.data.resolution}: give at least {least}, the smallest picture of the decoder."
        )
    if not recipe.lora.rank or not recipe.stage2.steps:
        return
    layers = [name for name, part in models.language.model.named_modules() if _has_matrix(part)]
    for wanted in layer_names(recipe.lora.targets):
        if wanted != ALL_LINEAR and not any(f".{name}".endswith(f".{wanted}") for name in layers):
            raise UserError(
                f"lora.targets: the language model has no layer {shown(wanted)}: name some that it has, or write "
                f"{ALL_LINEAR}."
            )


def _has_matrix(part: nn.Module) -> bool:
    """Return whether a layer can be changed by a LoRA: a norm cannot, nor a group of layers."""
    own = (*part.parameters(recurse=False), *part.buffers(recurse=False))  # quantised weights may be buffers
    return any(tensor.ndim > 1 for tensor in own)
