"""Files of the official release's adapter: read and written by the release's names, without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..weights.counting import MAX_PARTS, CheckpointError, check_sizes
from ..weights.tensors import read_foreign
from .config import OfficialConfig

HEAD_WIDTH = 32
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


class OfficialFile(NamedTuple):
    """Contents of a file in the release's layout.

    Attributes:
        config: The sizes, read from the shapes; heads are 32 wide, as the release's are.
        sources: For each name in OfficialAdapter, the name in the file and the tensor.
        names: Names of all tensors in the file.
        others: Names of everything else in the file.
    """

    config: OfficialConfig
    sources: dict[str, tuple[str, Tensor]]
    names: tuple[str, ...]
    others: tuple[str, ...]


def read_official(path: Path) -> OfficialFile:
    """Read a pickle or a .safetensors file in the release's layout.

    Raises:
        CheckpointError: The file is missing or damaged, holds more than tensors, or is not such an adapter.
    """
    tensors, others = read_foreign(path)
    return OfficialFile(_official_config(path, tensors), _sources(tensors), tuple(tensors), others)


def write_official(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write the weights of an OfficialAdapter by the release's names to a .safetensors file.

    A file at `path` is replaced only by a complete one.
    """
    from safetensors.torch import save_file

    names = {new: old for old, new in LAYERS.items()}
    stored = {QUERIES[0]: state["queries"]}
    for name, value in state.items():
        layer, _, parameter = name.rpartition(".")
        if layer in names:
            stored[f"{BLOCK}{names[layer]}.{parameter}"] = value
        elif layer.startswith("linears."):
            number = layer.removeprefix("linears.")
            stored[f"{BLOCK}cross_attn_layers.{number}.linear.{parameter}"] = value
        elif layer.endswith(".to_out"):
            stored[f"{BLOCK}{_attention(layer)}.out_proj.{parameter}"] = value
        elif layer.endswith(".to_q"):  # torch stores queries, keys and values as one
            parts = [state[f"{layer[:-1]}{which}.{parameter}"] for which in "qkv"]
            stored[f"{BLOCK}{_attention(layer)}.in_proj_{parameter}"] = torch.cat(parts)
    part = path.with_suffix(".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in stored.items()}, part)
    part.replace(path)


def _attention(layer: str) -> str:
    """Return the release's name of the attention that a layer such as attentions.0.to_q belongs to."""
    return f"cross_attn_layers.{layer.split('.')[1]}.multihead_attn"


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
        raise CheckpointError(f"The official adapter {path.name} has {num_layers} layers, more than {MAX_PARTS}.")
    if width % HEAD_WIDTH:
        raise CheckpointError(f"The queries in {path.name} are {width} wide, which is not a multiple of {HEAD_WIDTH}.")
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
