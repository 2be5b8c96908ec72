"""Imports files of other projects: adapters of the official release, and the visual projection of LLaMA-Adapter.

These are pickles, and nothing in a pickle is executed: torch's weights-only loader builds tensors and containers, and
refuses everything else. The same tensors can also be read from safetensors.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..weights.counting import CheckpointError, check_sizes
from ..weights.tensors import read_foreign
from .official import OfficialAdapter
from .official_files import Report

if TYPE_CHECKING:
    from ..language.visual_projection import VisualProjection


def import_official(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[OfficialAdapter, Report]:
    """Import an adapter of the official release (epochN_queryblock.pkl), as `OfficialAdapter.import_file`."""
    return OfficialAdapter.import_file(path, operations=operations, device=device, dtype=dtype)


def import_visual_projection(path: str | Path) -> tuple[VisualProjection, Report]:
    """Import the visual projection in a LLaMA-Adapter checkpoint (.pth or safetensors).

    It takes `visual_proj` (768 -> 4096 in the release), and `visual_proj_norm` if that has the same width; otherwise
    the norm is a new one. Everything else in the file (visual_query, visual_blocks, clip_proj, llama, ...) belongs to
    another architecture and is ignored.

    Raises:
        CheckpointError: The file is missing or damaged, holds more than tensors, or has no projection.
    """
    from ..language.visual_projection import VisualProjection

    path = Path(path)
    tensors, others = read_foreign(path)
    weight = tensors.get("visual_proj.weight")
    if weight is None or weight.dim() != 2:
        raise CheckpointError(f"The file {path.name} has no visual projection (no visual_proj.weight in it).")
    check_sizes(f"The visual projection in {path.name}", width=weight.shape[0], height=weight.shape[1])
    projection = VisualProjection(weight.shape[1], weight.shape[0])
    state = projection.state_dict()
    taken, missing = [], []
    for name, initial in state.items():
        layer, _, parameter = name.partition(".")
        source = f"{'visual_proj' if layer == 'linear' else 'visual_proj_norm'}.{parameter}"
        if source in tensors and tensors[source].shape == initial.shape:
            state[name] = tensors[source]
            taken.append(source)
        else:
            missing.append(source)
    projection.load_state_dict(state)
    ignored = [name for name in tensors if name not in taken]
    report = Report(tuple(taken), (*ignored, *others), tuple(missing))
    return projection.eval().requires_grad_(False), report
