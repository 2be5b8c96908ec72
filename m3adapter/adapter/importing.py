"""Imports files of other projects: adapters of the official release, and the visual projection of LLaMA-Adapter.

These are pickles, and nothing in a pickle is executed: torch's weights-only loader builds tensors and containers, and
refuses everything else. The same tensors can also be read from safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..weights.counting import MAX_PARTS, CheckpointError, check_sizes
from ..weights.tensors import fill, read_foreign
from .official import HEAD_WIDTH, OfficialAdapter, OfficialConfig

if TYPE_CHECKING:
    from ..language.visual_projection import VisualProjection

BLOCK = "query_block."
QUERIES = ("sd_query.weight", "query_embedding.weight")  # the second name was written by older versions of the code
# From the release's names, below query_block, to those of OfficialAdapter.
LAYERS = {
    "Qlinear": "query_in",
    "Qnorm": "query_norm",
    "Klinear": "key_in",
    "Knorm": "key_norm",
    "Vlinear": "value_in",
    "Vnorm": "value_norm",
    "ffn.ffn.0": "embed_up",
    "ffn.ffn.2": "embed_down",
    "pooled": "pool_head",
}
ABSENT = ("image tokens", "low-level path", "gate")  # parts of an M3-Adapter that the release does not have


@dataclass(frozen=True)
class Report:
    """Which contents of a file were used.

    Attributes:
        taken: Names in the file that are used.
        ignored: Names in the file that are not.
        missing: What the file lacks although a user might expect it.
    """

    taken: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line for each of the three."""
        lines = {"Taken": self.taken, "Ignored": self.ignored, "Missing": self.missing}
        return "\n".join(f"{name}: {', '.join(items) or 'nothing'}" for name, items in lines.items())


def holds_official(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of an official adapter, by their names."""
    return any(name.startswith(BLOCK) for name in tensors)


def import_official(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[OfficialAdapter, Report]:
    """Import an adapter of the official release (epochN_queryblock.pkl).

    Its widths are read from the shapes; heads are 32 wide, as the release's are.

    Args:
        path: A pickle or a .safetensors file in the release's layout.
        operations: As for OfficialAdapter.
        device: Where to put the weights.
        dtype: Type of the weights; float32 by default.

    Raises:
        CheckpointError: The file is missing or damaged, holds more than tensors, or is not such an adapter.
    """
    path = Path(path)
    tensors, others = read_foreign(path)
    sources = _sources(tensors)
    config = _official_config(path, tensors)
    state: dict[str, Tensor] = {}
    taken: dict[str, None] = {}  # in the order of the weights, each name once
    for name, expected in OfficialAdapter(config, device="meta").state_dict().items():
        if name == "image_tokens":  # there are none
            continue
        source, value = sources.get(name, (None, None))
        if source is None or value is None or value.shape != expected.shape:
            raise CheckpointError(
                f"The official adapter {path.name} does not fit together: {name} is "
                f"{'missing' if value is None else tuple(value.shape)}, expected {tuple(expected.shape)}."
            )
        state[name] = value
        taken[source] = None
    adapter = OfficialAdapter(config, operations=operations, device=device, dtype=dtype or torch.float32)
    fill(adapter, {"image_tokens": adapter.image_tokens, **state}, device, dtype)
    ignored = [name for name in tensors if name not in taken]
    return adapter.eval().requires_grad_(False), Report(tuple(taken), (*ignored, *others), ABSENT)


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


def _official_config(path: Path, tensors: Mapping[str, Tensor]) -> OfficialConfig:
    queries = next((tensors[name] for name in QUERIES if name in tensors), None)
    keys, pooled = (tensors.get(f"{BLOCK}{name}.weight") for name in ("Klinear", "pooled"))
    if queries is None or keys is None or pooled is None or {queries.dim(), keys.dim(), pooled.dim()} != {2}:
        raise CheckpointError(
            f"The file {path.name} holds no adapter of the official release (no sd_query and query_block in it)."
        )
    num_tokens, width = queries.shape
    num_layers = len({name.split(".")[2] for name in tensors if name.startswith(f"{BLOCK}cross_attn_layers.")})
    sizes = {
        "tokens": num_tokens,
        "width": width,
        "language model's width": keys.shape[1],
        "pooled width": pooled.shape[0],
    }
    check_sizes(f"The official adapter {path.name}", **sizes)
    if num_layers > MAX_PARTS:
        raise CheckpointError(f"The official adapter {path.name} has {num_layers} layers, and {MAX_PARTS} are most.")
    if width % HEAD_WIDTH:
        raise CheckpointError(f"The queries in {path.name} are {width} wide, which is no multiple of {HEAD_WIDTH}.")
    return OfficialConfig(
        llm_width=keys.shape[1],
        width=width,
        pooled_width=pooled.shape[0],
        num_tokens=num_tokens,
        num_layers=num_layers,
        num_heads=width // HEAD_WIDTH,
    )


def _sources(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Return, for each name in OfficialAdapter, the name in the file and the tensor."""
    sources: dict[str, tuple[str, Tensor]] = {}
    for name, value in tensors.items():
        if name in QUERIES:
            sources["queries"] = (name, value)
            continue
        if not name.startswith(BLOCK):
            continue
        layer, _, parameter = name.removeprefix(BLOCK).rpartition(".")
        if layer in LAYERS:
            sources[f"{LAYERS[layer]}.{parameter}"] = (name, value)
        elif layer.startswith("cross_attn_layers."):
            number, _, rest = layer.removeprefix("cross_attn_layers.").partition(".")
            if rest == "linear":
                sources[f"linears.{number}.{parameter}"] = (name, value)
            elif rest == "multihead_attn.out_proj":
                sources[f"attentions.{number}.to_out.{parameter}"] = (name, value)
            elif parameter in ("in_proj_weight", "in_proj_bias"):  # torch stores queries, keys and values as one
                for which, third in zip("qkv", value.chunk(3), strict=False):
                    sources[f"attentions.{number}.to_{which}.{parameter.removeprefix('in_proj_')}"] = (name, third)
    return sources
