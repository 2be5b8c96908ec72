"""Trains an M3-Adapter on a data set by the two stages of M3FT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
import folder_paths
import torch
from comfy_api.latest import io

from ..m3adapter.adapter.auto import load_adapter
from ..m3adapter.arguments import UserError
from ..m3adapter.values import shown as quoted
from . import inputs, training_curve, training_kept, wires
from .dataset_files import DatasetFiles
from .errors import complaint, names_node
from .memory import Handle, handle, offload_device
from .running import ShowsText, shown
from .save_adapter import check_file_name
from .training_run import in_words_of_the_node, train

LossMap = io.Custom("LOSS_MAP")  # the engine's: what its node Plot Loss Graph draws
FOLDER = "m2chat/training"  # below ComfyUI's output folder
STAGES = {"both": ("stage1", "stage2"), "alignment": ("stage1",), "references": ("stage2",)}
DTYPES = ("auto", "bf16", "fp32")
OPTIMIZERS = ("Muon", "AdamW")
MEASUREMENTS = 4  # of each stage
MEASURED = 16  # held-out samples


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
                io.Float.Input(
                    "denoise_from",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="After which part of the steps the decoder's own loss begins: 0 at once, 1 never. Until "
                    "then only embeddings are learned, for which the decoder need not run: words are learned sooner.",
                ),
                io.Float.Input(
                    "min_snr",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip="Gamma of the min-SNR weights of the decoder's loss, often 5; 0 weighs all times alike.",
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
        denoise_from: float = 0.0,
        min_snr: float = 0.0,
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
            **({"denoise_from": denoise_from} if denoise_from else {}),
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
        language_parts = [language_model.part.model, language_model.part.visual_projection]
        decoder_parts = [decoder.part.unet, decoder.part.vae, decoder.part.text_encoder, decoder.part.text_encoder_2]
        parts = [*language_parts, vision_encoder.part.model, *decoder_parts]
        if min_snr:  # what is at its default stays out of the digest, which names the folder
            recipe["loss"] = {"min_snr": min_snr}
        mark = fingerprint(*parts, adapter.part, adapter.part.config, dataset.fingerprint, recipe)
        folder = Path(folder_paths.get_output_directory(), FOLDER, name, mark[:8])
        result = folder / f"adapter_{chosen[-1]}.safetensors"
        note = f"It was trained before with these inputs, and is taken from {folder.name}."
        if not result.is_file():
            widgets = {
                "stages": stages, "steps": steps, "batch_size": batch_size,
                "grad_accumulation_steps": grad_accumulation_steps, "learning_rate": learning_rate,
                "optimizer": optimizer, "seed": seed, "training_dtype": training_dtype,
                "gradient_checkpointing": gradient_checkpointing, "resolution": resolution,
                "denoise_from": denoise_from, "min_snr": min_snr,
            }  # fmt: skip
            if training_kept.is_kept(folder):
                note = ""
            else:
                digests = {
                    "language_model": fingerprint(*language_parts),
                    "vision_encoder": fingerprint(vision_encoder.part.model),
                    "decoder": fingerprint(*decoder_parts),
                    "adapter": fingerprint(adapter.part, adapter.part.config),
                    "dataset": fingerprint(dataset.fingerprint, dataset.kind, dataset.split, dataset.held_out),
                }
                note = training_kept.differs(folder, widgets, digests)
                training_kept.keep(folder, widgets, digests)
            try:
                with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
                    note = train(
                        recipe, folder, language_model, vision_encoder, decoder, adapter, dataset, chosen, note
                    )
            except UserError as error:
                raise ValueError(in_words_of_the_node(str(error))) from error
        lines = training_curve.read(folder, chosen)
        losses = training_curve.losses(lines)
        trained = load_adapter(result, operations=comfy.ops.manual_cast, device=offload_device())
        report = f"{training_curve.describe(lines, chosen)}\n{trained.describe()}".strip()
        return io.NodeOutput(
            handle(trained, streams=True, model=trained),
            {"loss": losses},
            steps * len(chosen),
            report,
            ui=shown(f"{report}\n{note}"),
        )


NODES = [TrainAdapter]
