"""How much memory a language model takes: its weights, by the headers of its files, and its work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights.layouts import header
from ..weights.model_files import read_json
from .gguf_files import read_header
from .model_folders import weight_files
from .quantization import Quantization, check_quantization, unpacked

if TYPE_CHECKING:
    from .loading import Dtype

TOKENS = 4096  # of a long conversation with its reply

# Bits per number of each safetensors dtype other than those of 16 bits.
_BITS = {"F64": 64, "F32": 32, "I64": 64, "I32": 32, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8}


def weight_bytes(path: str | Path, dtype: Dtype = "auto", quantization: Quantization | None = None) -> int:
    """Estimate how many bytes a model's weights will take, by the sizes of its tensors.

    Args:
        path: As for load_language_model.
        dtype: The dtype they will be loaded with; "auto" keeps them as stored (float16 for a GGUF file).
        quantization: The quantization they will be loaded with.

    Raises:
        ValueError: The files are not those of a whole model.
    """
    path = Path(path)
    if path.suffix.lower() == ".gguf":
        tensors = [(math.prod(tensor.shape), 2) for tensor in read_header(path).tensors.values()]
    else:
        tensors = list(_stored(path))
    numbers = sum(count for count, _ in tensors)
    if quantization is not None:
        # Embeddings and norms stay as they are, and the scales come on top.
        return int(numbers * {"8bit": 1.1, "4bit": 0.65}[quantization])
    if dtype != "auto":
        return numbers * dtype.itemsize
    return sum(count * size for count, size in tensors)


def work_bytes(config: Any, itemsize: int, context_length: int) -> int:
    """Return how many bytes reading a long conversation takes beside the weights: keys, values and one layer's states.

    Args:
        config: The model's configuration, as transformers has it.
        itemsize: Bytes per number of what the model computes.
        context_length: The most tokens that it reads.
    """
    text = config.get_text_config()

    def number(name: str, otherwise: int) -> int:
        value = getattr(text, name, None)  # some models have none of a name, or one for each layer
        return int(max(value) if isinstance(value, list | tuple) and value else value or otherwise)

    heads, hidden = number("num_attention_heads", 1), number("hidden_size", 1)
    kept = (
        2 * number("num_hidden_layers", 1) * number("num_key_value_heads", heads) * number("head_dim", hidden // heads)
    )
    passing = 4 * hidden + 3 * number("intermediate_size", 4 * hidden)
    return min(context_length, TOKENS) * (kept + passing) * itemsize


def _stored(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield, for each tensor in a folder, how many numbers it has and how many bytes each takes once loaded."""
    config = read_json(folder / "config.json")
    method = check_quantization(folder, config)
    unpacks = method is not None and unpacked(method) is not None
    for file in weight_files(folder):
        if file.suffix == ".bin":
            yield file.stat().st_size // 2, 2
            continue
        for shape, dtype in header(file).values():
            if unpacks:
                # A byte holds two numbers of 4 bits.
                yield math.prod(shape) * (2 if dtype == "U8" else 1), 2
            else:
                yield math.prod(shape), _BITS.get(dtype, 16) // 8
