"""Adapter checkpoints: safetensors with the configuration in the header, read and written without building a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..weights.counting import CheckpointError, check_count
from ..weights.tensors import read_tensors
from .config import HEAD_WIDTH, M3AdapterConfig

FORMAT = "m2chat-adapter-1"
FILE_NAME = "adapter.safetensors"  # in a folder
# The linear layer of the gate: its name in M3Adapter, and in a file.
_GATE, _GATE_IN_FILE = "gate_projection.", "gate."


def write_checkpoint(
    path: str | Path, config: M3AdapterConfig, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> None:
    """Write the configuration and weights of an adapter.

    Args:
        path: A .safetensors file, which is replaced only by a complete one, or a folder.
        config: The configuration.
        tensors: The weights, by their names in M3Adapter.
        dtype: Type to write them in; by default their own.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        path.mkdir(parents=True, exist_ok=True)
        path = path / FILE_NAME
    stored = {
        _renamed(name, _GATE, _GATE_IN_FILE): value.detach().to("cpu", dtype).contiguous()
        for name, value in tensors.items()
    }
    part = path.with_suffix(".part")
    save_file(stored, part, metadata={"format": FORMAT, "config": json.dumps(config.to_dict())})
    part.replace(path)


def read_checkpoint(path: str | Path) -> tuple[M3AdapterConfig, dict[str, Tensor]]:
    """Read the configuration and weights of an adapter.

    Args:
        path: A .safetensors file, or a folder that holds one as adapter.safetensors.

    Returns:
        The configuration, and the weights by their names in M3Adapter.

    Raises:
        CheckpointError: The file is missing, damaged, or not an M3-Adapter's.
    """
    path = Path(path)
    return parse_checkpoint(path, *read_tensors(path / FILE_NAME if path.is_dir() else path))


def parse_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> tuple[M3AdapterConfig, dict[str, Tensor]]:
    """Return what `read_checkpoint` does, from the tensors and header of a file that was read from `path`."""
    config = _config(path, header, tensors)
    check_count(f"The adapter {path.name}", tensors, "blocks.", config.num_blocks)
    check_count(f"The adapter {path.name}", tensors, "vision_in.", config.vision_levels)
    return config, {_renamed(name, _GATE_IN_FILE, _GATE): value for name, value in tensors.items()}


def check_shapes(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless tensors have the names and shapes of the expected ones."""
    for name in sorted(expected.keys() | tensors.keys()):
        shape = tuple(tensors[name].shape) if name in tensors else None
        expected_shape = tuple(expected[name].shape) if name in expected else None
        if shape != expected_shape:
            raise CheckpointError(
                f"The adapter {path.name} does not fit its own configuration: "
                f"{_renamed(name, _GATE, _GATE_IN_FILE)} is {shape or 'missing'}, "
                f"expected {expected_shape or 'nothing'}."
            )


def recognise(tensors: Mapping[str, Tensor], num_heads: int | None = None) -> M3AdapterConfig | None:
    """Return the configuration that follows from the names and shapes of an adapter's tensors.

    Args:
        tensors: The weights.
        num_heads: Number of attention heads, which leaves no trace in the shapes; by default each is 64 wide.

    Returns:
        None if the tensors are not an adapter's.
    """
    try:
        (num_tokens, width), (num_image_tokens, llm_width) = tensors["queries"].shape, tensors["image_tokens"].shape
        return M3AdapterConfig(
            llm_width=llm_width,
            vision_width=tensors["vision_in.0.weight"].shape[1],
            embed_width=tensors["embed_head.down.weight"].shape[0],
            pooled_width=tensors["pool_head.down.weight"].shape[0],
            vision_levels=tensors["vision_level"].shape[0],
            num_tokens=num_tokens,
            width=width,
            num_blocks=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
            num_heads=num_heads or max(1, width // HEAD_WIDTH),
            num_image_tokens=num_image_tokens,
            references=tensors["vision_reference"].shape[0],
            anchor="alpha" in tensors,
        )
    except (AttributeError, IndexError, KeyError, ValueError):
        return None


def _config(path: Path, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> M3AdapterConfig:
    if "config" not in header and header.get("format") in (None, "pt", FORMAT):
        heads = header.get("heads", "")
        if config := recognise(tensors, int(heads) if re.fullmatch("[0-9]{1,6}", heads) else None):
            return config
    if header.get("format") != FORMAT:
        raise CheckpointError(f"The file {path.name} is not an M3-Adapter checkpoint (no {FORMAT} in its header).")
    try:
        values = json.loads(header["config"])
        if not isinstance(values, dict):
            raise TypeError("its configuration is not an object")
        return M3AdapterConfig.from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(f"The header of the adapter {path.name} is damaged: {reason}.") from error


def _renamed(name: str, old: str, new: str) -> str:
    return new + name.removeprefix(old) if name.startswith(old) else name
