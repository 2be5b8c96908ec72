"""Opens a language model of either kind: the function that chooses the class, as transformers' Auto classes do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .language_model import LanguageModel
from .loading import examine
from .vision_language_model import VisionLanguageModel

if TYPE_CHECKING:
    import torch

    from .loading import Dtype
    from .quantization import Quantization


def load_language_model(
    path: str | Path,
    *,
    dtype: Dtype | None = None,
    quantization: Quantization | None = None,
    device: str | torch.device = "cpu",
) -> LanguageModel:
    """Open a language model, as a VisionLanguageModel if it sees pictures itself, else as a LanguageModel.

    Nothing is downloaded, and code that comes with a model is not run.

    Args:
        path: A folder in transformers' layout, with or without this pack's m2chat.json and
            visual_projection.safetensors; or a .gguf file.
        dtype: Dtype of the weights. "auto" keeps them as stored (float16 for a GGUF file); None does the same, except
            on the CPU, where half precision is slow and float32 is used.
        quantization: Quantise the weights to 8 or 4 bits with bitsandbytes, or to 8 bits with torchao. Quantised
            weights cannot be moved to another device afterwards.
        device: Device to put the weights on.

    Raises:
        FileNotFoundError: There is no model at `path`.
        ValueError: The files are not those of a usable language model, or a Python package is missing.
        OSError: A file cannot be read.
    """
    files = examine(path)
    model_class = VisionLanguageModel if files.sees else LanguageModel
    return model_class.from_files(files, dtype=dtype, quantization=quantization, device=device)
