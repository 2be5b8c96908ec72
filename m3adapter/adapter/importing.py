"""Files of others: adapters of the official release, and the visual projection of LLaMA-Adapter.

They are pickles, and nothing in a pickle is executed here: torch's weights-only loader builds tensors and containers,
and refuses everything else. The same tensors are also read from safetensors.
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
from ..weights.tensors import fill, read_foreign, read_tensors
from .checkpoint import build_adapter
from .official import HEAD_WIDTH, OfficialAdapter, OfficialConfig

if TYPE_CHECKING:
    from ..language.visual_projection import VisualProjection
    from .m3_adapter import M3Adapter

BLOCK = "query_block."
QUERIES = ("sd_query.weight", "query_embedding.weight")  # the second is what an earlier version of the code wrote
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
ABSENT = ("image tokens", "low-level path", "gate")  # of an M3-Adapter, and no release has them


@dataclass(frozen=True)
class Report:
    """What became of the contents of a file.

    Attributes:
        taken: Names in the file that are used.
        ignored: Names in the file that are not.
        missing: What the file does not have, and its user might expect.
    """

    taken: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = {"Taken": self.taken, "Ignored": self.ignored, "Missing": self.missing}
        return "\n".join(f"{name}: {', '.join(items) or 'nothing'}" for name, items in lines.items())


def open_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[M3Adapter | OfficialAdapter, str]:
    """An adapter of either kind, recognised by the names of its tensors, and what there is to say about it.

    Raises CheckpointError, one sentence: no such file, damaged, a pickle of more than tensors, no adapter.
    """
    path = Path(path)
    how = {"operations": operations, "device": device, "dtype": dtype}
    if path.suffix.lower() == ".safetensors":
        tensors, header = read_tensors(path)
        if not any(name.startswith(BLOCK) for name in tensors):
            adapter = build_adapter(path, tensors, header, **how)
            return adapter, adapter.describe()
    official, report = import_official(path, **how)
    return official, f"{official.describe()}\n{report}"


def import_official(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[OfficialAdapter, Report]:
    """The adapter in a file of the official release's layout (epochN_queryblock.pkl), and what became of the file.

    The widths are read from the shapes; heads are 32 wide, as the release's. Raises CheckpointError as open_adapter
    does.
    """
    path = Path(path)
    tensors, others = read_foreign(path)
    sources = _sources(tensors)
    config = _official_config(path, tensors)
    state: dict[str, Tensor] = {}
    taken = []
    for name, expected in OfficialAdapter(config, device="meta").state_dict().items():
        if name == "image_tokens":  # there are none
            continue
        source, value = sources.get(name, (None, None))
        if source is None or value.shape != expected.shape:
            raise CheckpointError(
                f"The official adapter {path.name} does not fit together: {name} is "
                f"{tuple(value.shape) if source else 'missing'}, expected {tuple(expected.shape)}."
            )
        state[name] = value
        taken.append(source)
    adapter = OfficialAdapter(config, operations=operations, device=device, dtype=dtype or torch.float32)
    fill(adapter, {"image_tokens": adapter.image_tokens, **state}, device, dtype)
    used = dict.fromkeys(taken)
    ignored = [name for name in tensors if name not in used]
    return adapter.eval().requires_grad_(False), Report(tuple(used), (*ignored, *others), ABSENT)


def import_visual_projection(path: str | Path) -> tuple[VisualProjection, Report]:
    """The visual projection in a LLaMA-Adapter checkpoint (.pth or safetensors), and what became of the file.

    What fits a VisualProjection is `visual_proj` (768 -> 4096 in the release), and `visual_proj_norm` if its width is
    the same; without it the norm is a fresh one. All else (visual_query, visual_blocks, clip_proj, llama, ...) belongs
    to another architecture and is ignored. Raises CheckpointError where there is no projection.
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
    for name, fresh in state.items():
        part, _, kind = name.partition(".")
        source = f"{'visual_proj' if part == 'linear' else 'visual_proj_norm'}.{kind}"
        if source in tensors and tensors[source].shape == fresh.shape:
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
    tokens, width = queries.shape
    layers = len({name.split(".")[2] for name in tensors if name.startswith(f"{BLOCK}cross_attn_layers.")})
    sizes = {"tokens": tokens, "width": width, "language model's width": keys.shape[1], "pooled width": pooled.shape[0]}
    check_sizes(f"The official adapter {path.name}", **sizes)
    if layers > MAX_PARTS:
        raise CheckpointError(f"The official adapter {path.name} has {layers} layers, and {MAX_PARTS} are most.")
    if width % HEAD_WIDTH:
        raise CheckpointError(f"The queries in {path.name} are {width} wide, which is no multiple of {HEAD_WIDTH}.")
    return OfficialConfig(
        llm_width=keys.shape[1],
        width=width,
        pooled_width=pooled.shape[0],
        tokens=tokens,
        layers=layers,
        heads=width // HEAD_WIDTH,
    )


def _sources(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """For each name in OfficialAdapter: the name in the file, and the tensor."""
    found: dict[str, tuple[str, Tensor]] = {}
    for name, value in tensors.items():
        if name in QUERIES:
            found["queries"] = (name, value)
            continue
        if not name.startswith(BLOCK):
            continue
        part, _, kind = name.removeprefix(BLOCK).rpartition(".")
        if part in LAYERS:
            found[f"{LAYERS[part]}.{kind}"] = (name, value)
        elif part.startswith("cross_attn_layers."):
            number, _, rest = part.removeprefix("cross_attn_layers.").partition(".")
            if rest == "linear":
                found[f"linears.{number}.{kind}"] = (name, value)
            elif rest == "multihead_attn.out_proj":
                found[f"attentions.{number}.to_out.{kind}"] = (name, value)
            elif kind in ("in_proj_weight", "in_proj_bias"):  # torch keeps the three in one
                for which, third in zip("qkv", value.chunk(3), strict=False):
                    found[f"attentions.{number}.to_{which}.{kind.removeprefix('in_proj_')}"] = (name, third)
    return found
