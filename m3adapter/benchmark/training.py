"""A row about training: an epoch for which the frozen models have already said everything, beside the first one."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import datasets
from .rows import TOO_LONG, Bench, Group, NotHere, Row
from .timing import Figure, Rounds, ratio

if TYPE_CHECKING:
    from ..training.recipe import Recipe

SAMPLES, BATCH, ROUNDS = 64, 16, 3
DATA = Path(datasets.__file__).parent / "examples" / "short-captions"

EPOCH = Group(
    (Row("second_epoch_over_first", "an adapter for SmolLM2: second epoch of both stages / the first", goal=0.4),),
    lambda bench: epochs(bench),
)
GROUPS = (EPOCH,)


def epochs(bench: Bench) -> dict[str, Figure | str]:
    """Measure an epoch of each stage of the recipe `smollm2`, on pictures that come with the library."""
    from ..training.recipe import read_recipe

    if bench.quick:
        raise NotHere(TOO_LONG)
    changes = [f"models.language={bench.plain_path}", f"data.path={DATA}", f"run.threads={bench.threads}"]
    for stage in ("stage1", "stage2"):
        changes += [f"{stage}.steps={SAMPLES // BATCH}", f"{stage}.samples={SAMPLES}", f"{stage}.batch={BATCH}"]
    recipe = read_recipe(Path("smollm2"), changes)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return {"second_epoch_over_first": ratio(timed(recipe, Path(folder), ROUNDS), "second", "first")}


def timed(recipe: Recipe, folder: Path, rounds: int) -> Rounds:
    """Time a recipe with an empty cache, and again with what that has left in it; the models are open already."""
    from ..training.m3ft_models import open_models
    from ..training.m3ft_run import run_recipe

    models = open_models(recipe)
    times: Rounds = {"first": [], "second": []}
    for number in range(rounds):
        for name, found in times.items():
            models.language.forget()
            output, cache = str(folder / f"{name}{number}"), str(folder / f"cache{number}")
            run = replace(recipe, run=replace(recipe.run, output=output, cache=cache))
            began = time.process_time()
            run_recipe(run, models=replace(models, adapter=deepcopy(models.adapter)))
            found.append(time.process_time() - began)
    return times
