"""Reads and writes the tensors of checkpoints, safetensors or pickles, without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .counting import CheckpointError


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a safetensors file, and the metadata in its header.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"There is no adapter file {path.name} in {path.parent.name}.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"The file {path.name} is not a complete safetensors file: copy or download it again ({error})."
        ) from error


def read_foreign(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the tensors of a pickle or safetensors file.

    In a checkpoint of LLaMA-Adapter they are below `model`. Nothing in a pickle is executed.

    Returns:
        The tensors by dotted name, and the names of everything else in the file.

    Raises:
        CheckpointError: The file is missing or damaged, or a pickle of more than tensors, numbers, texts and
            containers.
    """
    if path.suffix.lower() == ".safetensors":
        return read_tensors(path)[0], ()
    if not path.is_file():
        raise CheckpointError(f"There is no adapter file {path.name} in {path.parent.name}.")
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(contents, Mapping):
            inner = contents.get("model")
            _flatten(inner if isinstance(inner, Mapping) else contents, "", tensors, others)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can be any instruction to the loader, and fail in any way
        raise CheckpointError(
            f"The file {path.name} is damaged or holds more than tensors, and nothing in it was executed: get it "
            "again from a source that you trust."
        ) from error
    return tensors, tuple(others)


def _flatten(values: Mapping[Any, Any], prefix: str, tensors: dict[str, Tensor], others: list[str]) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _flatten(value, f"{name}.", tensors, others)
        elif isinstance(value, Tensor):
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"{name} is larger than what is stored of it")
            tensors[name] = value
        else:
            others.append(name)


def fill(
    module: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Load all weights of a module, on `device` and in `dtype` (float32 by default).

    They are converted first: ComfyUI's operations have no weights before on some machines, and keep the type and
    device of those they are given.
    """
    module.load_state_dict({name: value.to(device, dtype or torch.float32) for name, value in tensors.items()})


def save_half(state: dict[str, Tensor], path: Path) -> None:
    """Write weights in float16 to `path`, which is replaced only by a complete file."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    save_file({name: v.half().contiguous() if v.is_floating_point() else v for name, v in state.items()}, part)
    part.replace(path)
