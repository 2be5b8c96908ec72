"""Trains an M3-Adapter on a data set by the two stages of M3FT, and saves it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io

from ..m3adapter.adapter.auto import load_adapter, save_adapter
from ..m3adapter.adapter.m3_adapter import M3Adapter
from ..m3adapter.arguments import UserError
from ..m3adapter.events import Interrupted
from ..m3adapter.values import shown as quoted
from . import inputs, training_curve, wires
from .dataset_files import DatasetFiles
from .errors import complaint, names_node
from .memory import Handle, handle, offload_device
from .previews import ProgressPreview, is_watched
from .running import ShowsText, interruptible, show_text, shown

if TYPE_CHECKING:
    from .training_samples import Samples

LossMap = io.Custom("LOSS_MAP")  # the engine's: what its node Plot Loss Graph draws
FOLDER = "m2chat/training"  # below ComfyUI's output folder
STAGES = {"both": ("stage1", "stage2"), "alignment": ("stage1",), "references": ("stage2",)}
DTYPES = ("auto", "bf16", "fp32")
OPTIMIZERS = ("Muon", "AdamW")
PREVIEW_EVERY = 0.5  # seconds
SHEET_SHOWN = 5.0  # seconds, before the curve of losses comes back
MEASUREMENTS = 4  # of each stage
MEASURED = 16  # held-out samples
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
    (r"\blower lr\b", "lower learning_rate"),
)
NAME = re.compile(r"\w(?:[\w .()+-]{0,78}[\w)+-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)


def check_file_name(name: str, text: str) -> None:
    """Raise ValueError unless a text can be the name of a file or folder on every system."""
    if not NAME.fullmatch(text) or RESERVED.fullmatch(text):
        raise ValueError(
            f"{name} is {quoted(text)}: give a name of at most 80 letters, digits, spaces, hyphens and underscores."
        )


class TrainAdapter(ShowsText, io.ComfyNode):
    """Trains an adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_TrainAdapter",
            display_name="Train M3-Adapter",
            category="M2Chat/training",
            description="Trains an M3-Adapter for your models on your data set, by the two stages of M3FT. After an "
            "interruption, it goes on where it was if it is queued again with the same inputs.",
            search_aliases=["fine-tune", "finetune", "train lora", "m3ft", "learn", "training"],
            inputs=[
                inputs.language_model(),
                inputs.vision_encoder(),
                inputs.decoder(),
                inputs.adapter(
                    tooltip="The adapter to begin with: from New M3-Adapter, or one to go on with. It stays as it is."
                ),
                wires.Dataset.Input("dataset", tooltip="What to learn from. From Dataset."),
                io.Combo.Input(
                    "stages",
                    options=list(STAGES),
                    default="both",
                    tooltip="alignment learns what the words mean to the decoder, references then learns what earlier "
                    "pictures look like. A new adapter needs alignment first.",
                ),
                io.Int.Input("steps", default=500, min=1, max=100000, tooltip="The number of steps of each stage."),
                io.Int.Input(
                    "batch_size",
                    default=8,
                    min=1,
                    max=10000,
                    tooltip="How many samples are on the device at a time.",
                ),
                io.Int.Input(
                    "grad_accumulation_steps",
                    default=1,
                    min=1,
                    max=1024,
                    tooltip="How many batches make one step: with 4, a step learns from four times batch_size.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.001,
                    min=0.0000001,
                    max=1.0,
                    step=0.0000001,
                    tooltip="The highest learning rate; it rises at the beginning and falls to the end.",
                ),
                io.Combo.Input("optimizer", options=list(OPTIMIZERS), default=OPTIMIZERS[0], tooltip="The optimizer."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,  # another seed is another training
                    tooltip="Chooses the samples of each step, and the noise. The same seed trains the same adapter.",
                ),
                io.Combo.Input(
                    "training_dtype",
                    options=list(DTYPES),
                    default=DTYPES[0],
                    tooltip="What is computed in: auto is bf16 where the device is fast in it. Weights are fp32.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    tooltip="Compute the decoder's activations twice and keep none: slower, with less memory.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=4096,
                    step=8,
                    advanced=True,
                    tooltip="Side in pixels of square pictures; others get the same area. 0 is the decoder's own.",
                ),
                io.String.Input(
                    "name",
                    default="my adapter",
                    tooltip="Folder below output/m2chat/training, where checkpoints are kept.",
                ),
            ],
            outputs=[
                wires.Adapter.Output(display_name="adapter", tooltip="The trained M3-Adapter."),
                LossMap.Output(display_name="loss_map", tooltip="The loss of every step, for Plot Loss Graph."),
                io.Int.Output(display_name="steps", tooltip="How many steps it was trained for, in all stages."),
                io.String.Output(
                    display_name="report", tooltip="Losses and measurements at the beginning and the end."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return complaint(lambda text: check_file_name("name", text), name)

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        vision_encoder: Handle,
        decoder: Handle,
        adapter: Handle,
        dataset: DatasetFiles,
        stages: str,
        steps: int,
        batch_size: int,
        grad_accumulation_steps: int,
        learning_rate: float,
        optimizer: str,
        seed: int,
        training_dtype: str,
        gradient_checkpointing: bool,
        resolution: int,
        name: str,
    ) -> io.NodeOutput:
        """Train it, or go on where an interrupted run of the same inputs was."""
        from ..m3adapter.training.stores import fingerprint
        from .training_models import check_models

        check_file_name("name", name)
        for field, value, choices in (
            ("stages", stages, STAGES),
            ("optimizer", optimizer, OPTIMIZERS),
            ("training_dtype", training_dtype, DTYPES),
        ):
            if value not in choices:
                raise ValueError(f"{field} is {quoted(value)}: choose one of {', '.join(choices)}.")
        check_models(language_model, vision_encoder, decoder, adapter)
        if stages == "references" and adapter.part.is_untrained:
            raise ValueError(
                "stages is references, but the adapter is untrained, so nothing that it learns there would show: "
                "choose both."
            )
        if training_dtype == "auto":
            device = comfy.model_management.get_torch_device()
            training_dtype = "bf16" if comfy.model_management.should_use_bf16(device) else "fp32"
        values: dict[str, Any] = {
            "batch": batch_size * grad_accumulation_steps,
            "micro_batch": batch_size,
            "lr": learning_rate,
            "warmup": max(1, min(50, steps // 10)),
            "steps": steps,
        }
        chosen = STAGES[stages]
        recipe: dict[str, Any] = {
            "models": {"anchor": adapter.part.config.anchor},
            "data": {
                "path": str(dataset.path),
                "kind": dataset.kind,
                "split": dataset.split,
                "validation": "validation" if dataset.split == "train" and dataset.held_out else "",
                "resolution": resolution,
                "options": {"held_out": dataset.held_out, "check": dataset.check},
            },
            "run": {
                "seed": seed,
                "precision": {"bf16": "bfloat16", "fp32": "float32"}[training_dtype],
                "checkpointing": gradient_checkpointing,
                "optimizer": optimizer.lower(),
                "log_every": 1,
                "save_every": max(10, steps // 20),
                "validate_every": max(1, steps // MEASUREMENTS),
                "validation_samples": MEASURED,
            },
            **{stage: values if stage in chosen else {"steps": 0} for stage in ("stage1", "stage2")},
        }
        parts = [language_model.part.model, language_model.part.visual_projection, vision_encoder.part.model]
        parts += [decoder.part.unet, decoder.part.vae, decoder.part.text_encoder, decoder.part.text_encoder_2]
        mark = fingerprint(*parts, adapter.part, adapter.part.config, dataset.fingerprint, recipe)
        folder = Path(folder_paths.get_output_directory(), FOLDER, name, mark[:8])
        result = folder / f"adapter_{chosen[-1]}.safetensors"
        if not result.is_file():
            try:
                with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
                    _train(recipe, folder, language_model, vision_encoder, decoder, adapter, chosen)
            except UserError as error:
                raise ValueError(_in_words_of_the_node(str(error))) from error
        lines = training_curve.read(folder, chosen)
        losses = training_curve.losses(lines)
        trained = load_adapter(result, operations=comfy.ops.manual_cast, device=offload_device())
        report = f"{training_curve.describe(lines, chosen)}\n{trained.describe()}".strip()
        return io.NodeOutput(
            handle(trained, streams=True, model=trained),
            {"loss": losses},
            steps * len(chosen),
            report,
            ui=shown(report),
        )


def _train(
    values: dict[str, Any],
    folder: Path,
    language_model: Handle,
    vision_encoder: Handle,
    decoder: Handle,
    adapter: Handle,
    stages: tuple[str, ...],
) -> None:
    """Run a recipe in a folder; what was asked of frozen models is shared by all trainings of the same name.

    Raises:
        UserError: The data or a model cannot be used.
    """
    from ..m3adapter.training.m3ft_run import run_recipe
    from ..m3adapter.training.recipe import as_toml, recipe_of
    from .training_models import training_models
    from .training_samples import Samples

    folder.mkdir(parents=True, exist_ok=True)
    begin = "" if adapter.part.is_untrained else str(folder / "begin.safetensors")
    if begin and not Path(begin).is_file():
        save_adapter(begin, adapter.part)
    recipe = recipe_of({
        **values,
        "models": {**values["models"], "adapter": begin},
        "run": {**values["run"], "output": str(folder), "cache": str(folder.parent / "cache")},
    })  # fmt: skip
    (folder / "recipe.toml").write_text(as_toml(recipe), "utf-8")
    progress = _Progress(folder, stages, {stage: getattr(recipe, stage).steps for stage in stages})
    options = {**recipe.data.options, "on_progress": lambda *_: progress.stop_if_asked()}
    recipe = replace(recipe, data=replace(recipe.data, options=options))
    how: Any = {
        "dtype": "bf16" if recipe.run.precision == "bfloat16" else "fp32",
        "checkpointing": recipe.run.checkpointing,
    }
    with interruptible(), training_models(language_model, vision_encoder, decoder, adapter, **how) as models:
        progress.samples = Samples(models, recipe)
        run_recipe(recipe, models=models, on_step=progress.step)


class _Progress:
    """Shows how a training goes on its node: the bar, the loss, and its curve if a page is watching."""

    def __init__(self, folder: Path, stages: tuple[str, ...], steps: dict[str, int]) -> None:
        self.folder, self.stages, self.steps = folder, stages, steps
        self.samples: Samples | None = None
        self.bar = comfy.utils.ProgressBar(sum(steps.values()))
        self.losses = training_curve.losses(training_curve.read(folder, stages))
        self.drawn = 0.0

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the user has stopped the run."""
        if comfy.model_management.processing_interrupted():
            raise Interrupted

    def step(self, stage: str, done: int, steps: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step. Raises Interrupted if the user has stopped the run."""
        before = sum(self.steps[each] for each in self.stages[: self.stages.index(stage)])
        if "loss" in figures:
            del self.losses[before + done - 1 :]  # those after the checkpoint from which it goes on
            self.losses.append(figures["loss"])
            preview: ProgressPreview | None = None
            if time.monotonic() - self.drawn > PREVIEW_EVERY:
                self.drawn = time.monotonic()
                show_text(f"{stage} step {done} of {steps}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
                if is_watched():
                    preview = ("JPEG", training_curve.draw(self.losses), training_curve.WIDTH)
            self._show(before + done, preview)
        elif self.samples is not None and is_watched():  # it was measured just now
            sheet = self.samples.paint(self.folder / f"{stage}_{done:06}.png")
            if sheet is not None:
                self.drawn = time.monotonic() + SHEET_SHOWN - PREVIEW_EVERY
                self._show(before + done, ("JPEG", sheet, sheet.width))
        self.stop_if_asked()

    def _show(self, done: int, preview: ProgressPreview | None) -> None:
        """Set the bar, which may find that the user has stopped the run; a training is to hear of it as Interrupted."""
        try:
            self.bar.update_absolute(done, preview=preview)
        except comfy.model_management.InterruptProcessingException as error:
            comfy.model_management.interrupt_current_processing(True)  # it is taken back when it is raised
            raise Interrupted from error


def _in_words_of_the_node(message: str) -> str:
    for pattern, name in FIELDS:
        message = re.sub(pattern, name, message)
    return message


class SaveAdapter(ShowsText, io.ComfyNode):
    """Saves an adapter where Load M3-Adapter finds it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_SaveAdapter",
            display_name="Save M3-Adapter",
            category="M2Chat/training",
            description="Saves an M3-Adapter in models/m2chat, for Load M3-Adapter. It never replaces a file.",
            search_aliases=["save lora", "store adapter", "export adapter", "checkpoint"],
            inputs=[
                inputs.adapter(tooltip="The M3-Adapter to save. From Train M3-Adapter."),
                io.String.Input(
                    "prefix",
                    default="my_adapter",
                    tooltip="The name of the file, to which steps and a number are added; a / makes a folder.",
                ),
                io.Int.Input(
                    "steps",
                    optional=True,
                    force_input=True,
                    tooltip="How many steps it was trained for, which its name then says. From Train M3-Adapter.",
                ),
            ],
            outputs=[
                wires.Adapter.Output(display_name="adapter", tooltip="The same M3-Adapter, to be passed on."),
                io.String.Output(display_name="file", tooltip="Its name in the list of Load M3-Adapter."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, prefix: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return complaint(_check_prefix, prefix)

    @classmethod
    @names_node
    def execute(cls, adapter: Handle, prefix: str, steps: int | None = None) -> io.NodeOutput:
        """Write it to a new file."""
        _check_prefix(prefix)
        if not isinstance(adapter.part, M3Adapter):
            raise ValueError(
                "adapter is that of the official release, which its own file holds already: use that file."
            )
        root = Path(folder_paths.get_folder_paths("m2chat")[0])
        told = "" if steps is None else f"_{steps}_steps"
        (root / prefix).parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = root / f"{prefix}{told}_{number:05}.safetensors"
            try:
                path.touch(exist_ok=False)  # nobody else can take this name from now on
                break
            except FileExistsError:
                number += 1
        try:
            save_adapter(path, adapter.part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        name = f"m2chat/{path.relative_to(root).as_posix()}"
        text = f"Saved as {name}."
        show_text(text)
        return io.NodeOutput(adapter, name, ui=shown(text))


def _check_prefix(prefix: str) -> None:
    for part in prefix.split("/"):
        check_file_name("prefix", part)


NODES = [TrainAdapter, SaveAdapter]
