"""Adapter checkpoints: safetensors with the configuration in the header."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .adapter import M3Adapter

FORMAT = "m2chat-adapter-1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one clear sentence."""


def save_adapter(path: str | Path, adapter: M3Adapter, *, dtype: torch.dtype | None = None) -> None:
    """Write `adapter` to `path`, in `dtype` if given; a file there is replaced only by a complete one."""
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in adapter.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": FORMAT, "config": json.dumps(asdict(adapter.config))})
    part.replace(path)


def load_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M3Adapter:
    """The adapter saved at `path`, in `dtype` (default float32).

    Raises CheckpointError: no such file, not safetensors or cut short, not an M3-Adapter, weights of other shapes.
    """
    from safetensors import SafetensorError, safe_open

    from .adapter import M3Adapter

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no adapter file {path.name} in {path.parent}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(
            f"The file {path.name} is not a complete safetensors file: copy or download it again ({error})."
        ) from error
    config = _config(path, header)
    adapter = M3Adapter(config, operations=operations, device=device, dtype=dtype or torch.float32)
    expected = {name: tuple(value.shape) for name, value in adapter.state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != expected.get(name):
            raise CheckpointError(
                f"The adapter {path.name} does not fit its own configuration: {name} is "
                f"{found or 'missing'}, expected {expected.get(name) or 'nothing'}."
            )
    adapter.load_state_dict(tensors)
    return adapter.eval().requires_grad_(False)


def _config(path: Path, header: dict[str, str]) -> Any:
    from .adapter import M3AdapterConfig

    if header.get("format") != FORMAT:
        raise CheckpointError(f"The file {path.name} is not an M3-Adapter checkpoint (no {FORMAT} in its header).")
    try:
        values = json.loads(header["config"])
        known = {field.name for field in fields(M3AdapterConfig)}
        return M3AdapterConfig(**{name: int(value) for name, value in values.items() if name in known})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"The header of the adapter {path.name} is damaged: {error}.") from error
