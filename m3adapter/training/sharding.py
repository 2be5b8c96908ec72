"""The frozen weights of a language model divided among processes (FSDP), where a LoRA is trained on it.

`accelerate launch` says whether: its configuration asks for fully sharded data parallelism (Zhao et al., 2023), version
2. Each layer's weights are then gathered when the layer works. The LoRA is small: it is whole in every process, like
the adapter, and so are optimizer, average and checkpoint. Embeddings and head stay whole too, as they are also asked
by themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..arguments import UserError
from .loop import accelerator

if TYPE_CHECKING:
    from ..language.language_model import LanguageModel
    from .lora import LanguageLora
    from .recipe import Recipe


def asked_for() -> bool:
    """Return whether the launch asks for FSDP.

    Accelerate itself heeds its configuration on accelerators only, torch on CPUs as well.
    """
    return accelerator().num_processes > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def check_sharding(recipe: Recipe) -> None:
    """Raise UserError if a launch asks for what this training cannot do."""
    for name, asked in (("DeepSpeed", "ACCELERATE_USE_DEEPSPEED"), ("Megatron-LM", "ACCELERATE_USE_MEGATRON_LM")):
        if os.environ.get(asked, "").lower() == "true":
            raise UserError(f"accelerate's configuration asks for {name}: choose FSDP version 2, or plain processes.")
    if not asked_for():
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError("accelerate's configuration asks for FSDP version 1: set fsdp_version to 2.")
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true":
        raise UserError("accelerate's configuration asks to offload parameters: set fsdp_offload_params to false.")
    if not (recipe.lora.rank and recipe.stage2.steps):
        raise UserError(
            "accelerate's configuration asks for FSDP, which divides a language model that has a LoRA: set "
            "lora.rank, or choose plain processes."
        )
    stage, processes = recipe.stage2, accelerator().num_processes
    own = -(-stage.batch // processes)
    parts = -(-own // stage.micro_batch) if stage.micro_batch else 1
    for field, wrong, cure in (
        ("models.quantization", bool(recipe.models.quantization), "leave it empty"),
        ("run.offload", recipe.run.offload, "set it to false"),
        ("run.pictures", bool(recipe.run.pictures), "set it to 0"),
        ("stage2.projection", recipe.stage2.projection, "set it to false"),
        ("lora.merge", recipe.lora.merge, "set it to false, and merge afterwards"),
        ("stage2.batch", bool(stage.batch % (processes * parts)), f"give a multiple of {processes * parts}"),
    ):
        if wrong:
            raise UserError(f"{field} does not go with FSDP, for which all processes work alike: {cure}.")


def shard(language: LanguageModel, lora: LanguageLora) -> None:
    """Divide the frozen weights of a language model's layers among the processes, each layer moved to its device first.

    Raises:
        UserError: Its layers cannot be told.
    """
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model: Any = language.model
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [layer for layer in model.modules() if type(layer).__name__ in names]
    if not layers:
        raise UserError(
            "models.language does not say which its layers are, so FSDP cannot divide it: choose plain processes."
        )
    asked = FullyShardedDataParallelPlugin()
    whole = set(lora.parameters.values())
    mesh = init_device_mesh(accelerator().device.type, (accelerator().num_processes,))
    for layer in layers:
        # What is computed in is the recipe's to say, and not that of FSDP's own policy of mixed precision.
        fully_shard(
            layer,
            mesh=mesh,
            reshard_after_forward=bool(asked.reshard_after_forward),
            ignored_params=whole & set(layer.parameters()),
        )
    model.to(accelerator().device)  # what is not divided
