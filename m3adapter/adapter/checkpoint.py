"""Adapter checkpoints: safetensors with the configuration in the header."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..weights.counting import CheckpointError, check_count
from ..weights.tensors import fill, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from .m3_adapter import M3Adapter, M3AdapterConfig

FORMAT = "m2chat-adapter-1"
HEAD_WIDTH = 64  # of an adapter whose configuration is not stored
# How far the learned gate opens in an adapter that does not say: what was measured on the starter when none said it.
OPEN_GATE = 0.11


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
    path = Path(path)
    return build_adapter(path, *read_tensors(path), operations=operations, device=device, dtype=dtype)


def build_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, str],
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> M3Adapter:
    """The adapter of these tensors and this header, which were read from `path`; as load_adapter."""
    from .m3_adapter import M3Adapter

    config = _config(path, header, tensors)
    check_count(f"The adapter {path.name}", tensors, "blocks.", config.blocks)
    check_count(f"The adapter {path.name}", tensors, "vision_in.", config.vision_levels)
    expected = {name: tuple(value.shape) for name, value in M3Adapter(config, device="meta").state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != expected.get(name):
            raise CheckpointError(
                f"The adapter {path.name} does not fit its own configuration: {name} is "
                f"{found or 'missing'}, expected {expected.get(name) or 'nothing'}."
            )
    adapter = M3Adapter(config, operations=operations, device=device, dtype=dtype or torch.float32)
    fill(adapter, tensors, device, dtype)
    return adapter.eval().requires_grad_(False)


def recognise(tensors: Mapping[str, Tensor], heads: int | None = None) -> M3AdapterConfig | None:
    """The configuration that the keys and shapes of an adapter's tensors tell; None where they are no adapter's.

    The number of heads leaves no trace in the shapes: without `heads`, each is taken to be 64 wide.
    """
    from .m3_adapter import M3AdapterConfig

    try:
        (tokens, width), (image_tokens, llm_width) = tensors["queries"].shape, tensors["image_tokens"].shape
        return M3AdapterConfig(
            llm_width=llm_width,
            vision_width=tensors["vision_in.0.weight"].shape[1],
            embed_width=tensors["embed_head.down.weight"].shape[0],
            pooled_width=tensors["pool_head.down.weight"].shape[0],
            vision_levels=tensors["vision_level"].shape[0],
            tokens=tokens,
            width=width,
            blocks=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
            heads=heads or max(1, width // HEAD_WIDTH),
            image_tokens=image_tokens,
            references=tensors["vision_reference"].shape[0],
            anchor="alpha" in tensors,
        )
    except (AttributeError, IndexError, KeyError, ValueError):
        return None


def _config(path: Path, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> M3AdapterConfig:
    from .m3_adapter import M3AdapterConfig

    if "config" not in header and header.get("format") in (None, "pt", FORMAT):
        heads = header.get("heads", "")
        if config := recognise(tensors, int(heads) if re.fullmatch("[0-9]{1,6}", heads) else None):
            return config
    if header.get("format") != FORMAT:
        raise CheckpointError(f"The file {path.name} is not an M3-Adapter checkpoint (no {FORMAT} in its header).")
    try:
        values = json.loads(header["config"])
        known = {field.name for field in fields(M3AdapterConfig)} & values.keys()
        return M3AdapterConfig(**{"open_gate": OPEN_GATE, **{name: values[name] for name in known}})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(f"The header of the adapter {path.name} is damaged: {reason}.") from error
