"""Adapters by file: opens an M³-Adapter or the official release's adapter, whichever the file holds."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..weights.tensors import read_tensors
from .importing import import_official
from .m3_adapter import M3Adapter
from .official import OfficialAdapter
from .official_files import holds_official


def load_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M3Adapter:
    """Open an M³-Adapter, as `M3Adapter.from_pretrained`."""
    return M3Adapter.from_pretrained(path, operations=operations, device=device, dtype=dtype)


def save_adapter(path: str | Path, adapter: M3Adapter, *, dtype: torch.dtype | None = None) -> None:
    """Write an M³-Adapter, as `M3Adapter.save_pretrained`."""
    adapter.save_pretrained(path, dtype=dtype)


def open_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[M3Adapter | OfficialAdapter, str]:
    """Open an adapter of either kind, recognised by the names of its tensors.

    Args:
        path: A .safetensors file or, of the official release, a pickle of tensors.
        operations: As for the classes.
        device: Where to put the weights.
        dtype: Type of the weights; float32 by default.

    Returns:
        The adapter, and a description of it; for an official one, also what was taken from the file.

    Raises:
        CheckpointError: The file is missing or damaged, holds more than tensors, or is not an adapter.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        tensors, header = read_tensors(path)
        if not holds_official(tensors):
            adapter = M3Adapter.from_tensors(path, tensors, header, operations=operations, device=device, dtype=dtype)
            return adapter, adapter.describe()
    official, report = import_official(path, operations=operations, device=device, dtype=dtype)
    return official, f"{official.describe()}\n{report}"
