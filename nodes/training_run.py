"""What Train M3-Adapter runs: the library's trainer on the models of the canvas, in a folder of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..m3adapter.adapter.auto import save_adapter
from ..m3adapter.events import Interrupted
from .dataset_files import DatasetFiles
from .memory import Handle
from .running import interruptible
from .training_progress import TrainingProgress, place

# What the trainer calls the inputs of the node.
FIELDS = (
    (r"models\.language|--models\.language", "language_model"),
    (r"models\.vision", "vision_encoder"),
    (r"models\.(decoder|adapter)", r"\1"),
    (r"data\.path", "dataset"),
    (r"data\.resolution", "resolution"),
    (r"run\.output|--output", "name"),
    (r"stage[12]\.steps", "steps"),
    (r"stage[12]\.batch", "batch_size"),
    (r"(stage[12]|loss)\.(denoise_from|min_snr)", r"\2"),
    (r"\blower lr\b", "lower learning_rate"),
)


def train(
    values: dict[str, Any],
    folder: Path,
    language_model: Handle,
    vision_encoder: Handle,
    decoder: Handle,
    adapter: Handle,
    dataset: DatasetFiles,
    stages: tuple[str, ...],
    note: str,
) -> str:
    """Run a recipe in a folder; what was asked of frozen models is shared by all trainings of the same name.

    Args:
        values: The recipe, without its places.
        folder: Of the training.
        language_model: The language model.
        vision_encoder: The vision encoder.
        decoder: The decoder.
        adapter: The adapter to begin with.
        dataset: What it learns from.
        stages: The names of the stages.
        note: What is to be said of a training that begins.

    Returns:
        What was said of it: the note, or where it went on.

    Raises:
        UserError: The data or a model cannot be used.
    """
    from ..m3adapter.training.m3ft_run import run_recipe, steps_done
    from ..m3adapter.training.recipe import as_toml, recipe_of
    from .training_models import training_models
    from .training_samples import Samples

    begin = "" if adapter.part.is_untrained else str(folder / "begin.safetensors")
    if begin and not Path(begin).is_file():
        save_adapter(begin, adapter.part)
    recipe = recipe_of({
        **values,
        "models": {**values["models"], "adapter": begin},
        "run": {**values["run"], "output": str(folder), "cache": str(folder.parent / "cache")},
    })  # fmt: skip
    (folder / "recipe.toml").write_text(as_toml(recipe), "utf-8")
    steps = {stage: getattr(recipe, stage).steps for stage in stages}
    done = {stage: steps_done(folder / f"{stage}.pt") for stage in stages}
    behind = next((stage for stage in reversed(stages) if done[stage]), None)
    if behind is not None:
        note = f"It went on after step {place(behind, done[behind], steps[behind])}."
    progress = TrainingProgress(folder, steps, done, note)
    options = {**recipe.data.options, "on_progress": partial(progress.work, "reading held-out samples")}
    recipe = replace(recipe, data=replace(recipe.data, options=options))
    how: Any = {
        "dtype": "bf16" if recipe.run.precision == "bfloat16" else "fp32",
        "checkpointing": recipe.run.checkpointing,
    }
    with interruptible(), training_models(language_model, vision_encoder, decoder, adapter, **how) as models:
        models.told = progress.work
        opened = {dataset.split: dataset.opened}
        begun = folder / f"{stages[0]}_{0:06}.png"
        held_out = recipe.data.validation
        progress.samples = Samples(models, lambda: opened.get(held_out) if held_out else None, begun)
        try:
            run_recipe(recipe, models=models, opened=opened, on_step=progress.step)
        except Interrupted:
            progress.stopped()
            raise
    return note


def in_words_of_the_node(message: str) -> str:
    """Return what the trainer says with the names that the node's inputs have."""
    for pattern, name in FIELDS:
        message = re.sub(pattern, name, message)
    return message
