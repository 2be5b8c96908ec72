"""Whether a checkpoint belongs to a recipe: what a stage is trained with is kept in it, and compared to go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import UserError
from .loop import about
from .recipe import Recipe, table_of
from .stores import fingerprint

if TYPE_CHECKING:
    from ..adapter.m3_adapter import M3Adapter
    from .frozen import Frozen

# What may be different when a training goes on: how long it takes, where it lies, what it tells and where it computes.
FREE = frozenset(
    f"{table}.{name}"
    for table, names in {
        "run": ("output", "cache", "threads", "log_every", "save_every", "validate_every", "validation_samples")
        + ("pictures", "tracker", "offload", "checkpointing"),
        "stage1": ("steps", "minutes", "micro_batch"),
        "stage2": ("steps", "minutes", "micro_batch"),
        "data": ("validation",),
        # These are compared by what they are, not by their names.
        "models": ("language", "vision", "decoder", "adapter"),
    }.items()
    for name in names
)
OF_OTHERS = {1: ("stage2.", "lora.", "loss.picture_text"), 2: ("stage1.",)}  # fields that a stage does not read


def made_from(recipe: Recipe, stage: int, frozen: Frozen, adapter: M3Adapter) -> dict[str, str]:
    """Return what a stage learns with and from: values of fields, and digests of models.

    Args:
        recipe: The recipe.
        stage: 1 or 2.
        frozen: The models that do not learn.
        adapter: As the stage finds it.
    """
    found = {
        name: _written(name, value)
        for name, value in table_of(recipe)
        if name not in FREE and not name.startswith(OF_OTHERS[stage])
    }
    begun = "stage 1" if stage == 2 and recipe.stage1.steps else "models.adapter"
    return {**found, **frozen.identities(), begun: fingerprint(adapter)}


def check_continues(path: Path, made: Mapping[str, str]) -> None:
    """Check that the checkpoint at `path`, if there is one, was made with the same.

    Raises:
        UserError: It was made with something else.
    """
    kept = about(path).get("made_from", {})
    for name, value in made.items():
        if kept.get(name, value) == value:
            continue
        field = name in dict(table_of(Recipe())) and not name.startswith("models.")
        what = f"{name} = {kept[name]}, and not {value}" if field else f"another {name}"
        raise UserError(
            f"run.output has a {path.name} that was trained with {what}: choose another folder, or delete "
            f"{path.name} to train it again."
        )


def check_stages(output: Path, recipe: Recipe) -> None:
    """Check that stage 1 does not go on where stage 2 has learned on it already.

    Raises:
        UserError: It would.
    """
    one, two = output / "stage1.pt", output / "stage2.pt"
    kept = about(one)
    if not (two.is_file() and "seconds" in kept and recipe.stage1.steps and recipe.stage2.steps):
        return
    stage = recipe.stage1
    if kept["step"] < stage.steps and not (stage.minutes and kept["seconds"] >= 60 * stage.minutes):
        raise UserError(
            f"stage1 asks for more than its {kept['step']} steps so far, and stage 2 has learned on these: delete "
            f"{two.name} in run.output to train it again afterwards, or choose another folder."
        )


def _written(name: str, value: Any) -> str:
    if name == "data.path":
        return repr(Path(value).name)  # it may have been moved
    if isinstance(value, dict):
        return repr({key: each for key, each in sorted(value.items()) if not callable(each)})
    return repr(value)
