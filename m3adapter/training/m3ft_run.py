"""Runs a recipe: opens the models and the data set, then trains the stages of M3FT one after the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..adapter.auto import save_adapter
from ..adapter.config import HEAD_WIDTH
from ..adapter.m3_adapter import M3Adapter
from ..arguments import UserError, check_reachable, mendable
from ..conversation.segments import ConversationError
from ..datasets.sample import Dataset, Sample
from ..language.visual_projection import PROJECTION_NAME, VisualProjection
from . import sight
from .continuing import check_continues, check_stages, made_from
from .diffusion_loss import DiffusionLoss
from .frozen import Frozen
from .loop import Average, about, accelerator
from .lora import LanguageLora
from .m3ft_models import STARTER_PARTS, open_models, place_of
from .models_at_work import Models
from .muon import Muon
from .recipe_checks import check_data, check_folders, check_lora, check_models, check_tracker
from .rewording import reworded
from .sharding import asked_for, check_sharding, shard
from .shares import Schedule, train_shares
from .sources import by_looks, check_options, open_samples
from .stage1 import Stage1
from .stage2 import Stage2
from .stage_common import Setting, denoised, group_of, parts
from .text_target import MEASURED, PictureText, TextTarget
from .watching import OnStep, Watch

if TYPE_CHECKING:
    from .recipe import Recipe


# Scales of what an anchored adapter adds. They begin at 0 and move by the learning rate at a step, whatever the loss:
# after a few hundred steps there would still be hardly anything that the second stage could say through them.
SCALES = ("alpha", "alpha_pooled")
SCALES_FASTER = 20.0
PLAIN = ("tokens", "queries", "pool_query", "vision_")  # parameters that Muon leaves to Adam


def check_recipe(recipe: Recipe, *, opened: bool = False) -> None:
    """Raise UserError unless everything that a recipe names is there, and its numbers go together.

    Args:
        recipe: The recipe.
        opened: Whether its models are open already, and need no places.
    """
    models, run = recipe.models, recipe.run
    if not run.output:
        raise UserError("run.output is empty: name the folder of the results.")
    check_data(recipe)
    check_options(recipe)
    for name in () if opened else STARTER_PARTS:
        given = getattr(models, name)
        if not given and name != "adapter":
            raise UserError(f'models.{name} is empty: name a folder, or "starter".')
        check_reachable(f"models.{name}", given)
        if given and not place_of(given, name).exists():
            raise UserError(f"models.{name}: there is no {given}.")
    if models.width % HEAD_WIDTH:
        raise UserError(f"models.width is {models.width}: give a multiple of {HEAD_WIDTH}.")
    if not recipe.stage1.steps and not recipe.stage2.steps:
        raise UserError("stage1.steps and stage2.steps are both 0: there is nothing to train.")
    processes = accelerator().num_processes
    if recipe.stage1.projection:
        raise UserError("stage1.projection is true, and a projection is learned in stage 2: set stage2.projection.")
    for name in ("stage1", "stage2"):
        if getattr(recipe, name).steps and getattr(recipe, name).batch < processes:
            raise UserError(f"{name}.batch is smaller than the number of processes, {processes}: raise it.")
    if run.precision == "float16" and accelerator().device.type != "cuda":
        raise UserError("run.precision is float16, which trains on a CUDA device only: choose bfloat16 or float32.")
    check_sharding(recipe)
    check_lora(recipe)
    check_tracker(recipe)
    check_folders(recipe)


def optimizer_for(recipe: Recipe, group: dict[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of a group of parameters."""
    decay = recipe.run.weight_decay
    scales = [group[name] for name in SCALES if name in group]
    rest = {name: parameter for name, parameter in group.items() if name not in SCALES}
    optimizer: torch.optim.Optimizer
    if recipe.run.optimizer == "muon":
        optimizer = Muon(rest.items(), lr=lr, weight_decay=decay, plain=PLAIN)
    else:
        matrices = [p for p in rest.values() if p.dim() > 1]
        others = [p for p in rest.values() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.95))
    if scales:
        kind = {"muon": False} if recipe.run.optimizer == "muon" else {"weight_decay": 0.0}
        optimizer.add_param_group({"params": scales, "lr": lr, "lr_scale": SCALES_FASTER, **kind})
    return optimizer


class Trained(nn.Module):
    """An adapter and what a language model is taught, as one model."""

    def __init__(self, adapter: M3Adapter, lora: LanguageLora | None, projection: VisualProjection | None) -> None:
        super().__init__()
        self.adapter = adapter
        if lora is not None:
            self.lora = nn.ParameterDict({name.replace(".", "-"): p for name, p in lora.parameters.items()})
        if projection is not None:
            self.projection = projection


def run_recipe(
    recipe: Recipe,
    *,
    models: Models | None = None,
    opened: dict[str, Dataset] | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Train the stages of a recipe that have steps; goes on where an earlier run of it was stopped.

    Args:
        recipe: The recipe.
        models: The models, if they are open already.
        opened: Parts of the data set that were read already, by their names; those that are read now are added.
        on_step: As `Watch` takes it.

    Returns:
        The file of the trained adapter.

    Raises:
        UserError: The recipe, its models or its data cannot be used, or the training cannot go on.
    """
    opened = {} if opened is None else opened
    check_recipe(recipe, opened=models is not None)
    output = Path(recipe.run.output)
    with mendable():
        output.mkdir(parents=True, exist_ok=True)
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    torch.manual_seed(recipe.run.seed)
    check_stages(output, recipe)
    result = output
    for stage in (1, 2):
        if getattr(recipe, f"stage{stage}").steps:
            samples, held_out = open_samples(recipe, stage, opened)
            if sight.wanted(recipe) and (stage == 2 or not recipe.stage1.samples):
                sight.check_shown(samples)
            if models is None or models.let_go:
                started = recipe.models if models is None else replace(recipe.models, adapter=str(result))
                models = open_models(replace(recipe, models=started))
            check_models(recipe, models)
            if sight.wanted(recipe):
                sight.check_blind(models.language)
            if stage == 2 and models.adapter.is_untrained:
                raise UserError(
                    "The adapter is anchored and untrained, so nothing that stage 2 learns would show: "
                    "give stage1 some steps first."
                )
            try:
                result = train_stage(recipe, stage, models, samples, held_out, on_step)
            except ConversationError as error:  # a picture that was there when the data set was read
                raise UserError(f"data.path: {error}") from error
    return result


def train_stage(
    recipe: Recipe,
    stage: int,
    models: Models,
    samples: Dataset,
    held_out: Sequence[Sample],
    on_step: OnStep | None = None,
) -> Path:
    """Train one stage, and return the file of the adapter."""
    name, chosen = f"stage{stage}", getattr(recipe, f"stage{stage}")
    output, adapter = Path(recipe.run.output), models.adapter
    cache = Path(recipe.run.cache) if recipe.run.cache else output / "cache"
    group = group_of(adapter, stage)
    models.taught = False
    resolution = recipe.data.resolution or models.decoder.native_size
    frozen, checkpoint = Frozen(models, cache, resolution), output / f"{name}.pt"
    made = made_from(recipe, stage, frozen, adapter)
    check_continues(checkpoint, made)
    if stage == 2 and recipe.data.pairs == "likeness":
        with accelerator().main_process_first():
            samples, held_out = by_looks(samples, held_out, frozen, recipe.data.alike)
    try:
        denoising = DiffusionLoss(
            models.decoder,
            min_snr=recipe.loss.min_snr or None,
            early=recipe.loss.early,
            context=models.autocast,
        )
    except ValueError as error:
        raise UserError(f"models.decoder: {error}") from error
    texts = random.Random(recipe.run.seed)
    measured = [samples[index] for index in texts.sample(range(len(samples)), min(MEASURED, len(samples)))]
    target = TextTarget(frozen, [sample.meaning for sample in measured])
    setting = Setting(recipe, adapter, frozen, target, denoising, samples, held_out)
    lora: LanguageLora | None = None
    projection: VisualProjection | None = None
    part: Stage1 | Stage2
    model: nn.Module = adapter
    if stage == 1:
        part = Stage1(setting, is_new=not recipe.models.adapter)
    else:
        if recipe.loss.picture_text and recipe.models.vision:
            folder = place_of(recipe.models.vision, "vision")
            setting.picture_text = PictureText.measure(folder, frozen, measured[:64])
        if chosen.projection:
            projection = sight.give_sight(models, recipe.run.seed)
            group |= {f"projection.{key}": p for key, p in projection.named_parameters()}
        if recipe.lora.rank:
            lora = LanguageLora(models.language, recipe.lora, recipe.run.seed)
            if asked_for():
                shard(models.language, lora)
            group |= {f"lora.{key}": p for key, p in lora.parameters.items()}
        if lora is not None or projection is not None:
            model = Trained(adapter, lora, projection)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert {*map(id, trained)} == {*map(id, group.values())} and len(trained) == len(group), "the groups overlap"
        part = Stage2(setting, lora=lora, projection=projection, gated=chosen.gate)
    with accelerator().main_process_first():
        everything = [samples[index] for index in range(len(samples))] + list(held_out)
        if stage == 1 and adapter.config.anchor:
            everything += [reworded(sample) for sample in everything]
        frozen.prepare(everything, stage, denoises=denoised(chosen) > 0 and chosen.denoise_from < 1)
        del everything
    if models.offload and frozen.states is not None and not models.taught and not models.language.movable:
        models.let_language_go()
    optimizer = optimizer_for(recipe, group, chosen.lr)
    average = Average(model, chosen.average)
    watch = Watch(
        recipe, name, adapter, average,
        part.measure if held_out else None,
        "denoise" if stage == 1 else "denoise_1",
        on_step,
        part.paint if isinstance(part, Stage2) and recipe.run.pictures else None,
    )  # fmt: skip
    schedule = Schedule(
        name, output, chosen.steps, chosen.minutes, parts(chosen, accelerator().num_processes), chosen.lr,
        chosen.warmup, recipe.run.seed, recipe.run.log_every, recipe.run.save_every,
        recipe.run.validate_every if held_out else 0, recipe.run.precision == "float16", made,
    )  # fmt: skip
    watch.begin(steps_done(checkpoint))
    try:
        writes = train_shares(schedule, model, optimizer, average, part.loss, watch)
    finally:
        frozen.flush()
        watch.end()
    average.write()
    adapter.requires_grad_(False)
    if projection is not None:
        projection.requires_grad_(False)
    if isinstance(part, Stage2) and part.gated:
        adapter.config = replace(adapter.config, open_gate=part.open_gate())
    path = output / f"adapter_{name}.safetensors"
    if writes:
        with mendable():
            save_adapter(path, adapter)
            if projection is not None:
                projection.save_pretrained(output)
                print(f"{output / PROJECTION_NAME}: put it into the folder of the language model", flush=True)
            if lora is not None:
                lora.save(output, merge=recipe.lora.merge)
    accelerator().wait_for_everyone()
    return path


def steps_done(path: Path) -> int:
    """Return how many steps a checkpoint has behind it; 0 if there is none."""
    return int(about(path).get("step", 0))
