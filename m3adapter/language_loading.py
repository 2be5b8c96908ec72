"""Opens language models of every kind that lies on the disk: nothing is downloaded, and no code of a model is run."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from .language_config import LanguageModelConfig
from .language_model import PROJECTION_NAME, LanguageModel, VisualProjection
from .values import shown

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Quantization = Literal["8bit", "4bit"]


def load_language_model(
    path: str | Path,
    *,
    dtype: torch.dtype | Literal["auto"] | None = None,
    quantization: Quantization | None = None,
    device: str | torch.device = "cpu",
) -> LanguageModel:
    """A language model from the disk.

    Args:
        path: A folder in transformers' layout, of a causal language model or a vision-language model, with this pack's
            m2chat.json and visual_projection.safetensors or without; or a .gguf file.
        dtype: Of the weights; "auto" means as stored (of a GGUF file float16), and None the same, but float32 on the
            CPU, where half precision is slow.
        quantization: Weights of 8 or 4 bits, through bitsandbytes; of 8 bits also through torchao. They cannot be moved
            afterwards.
        device: Where to put it.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the files are not those of a language model that can be used, or a package is missing.
        OSError: the files cannot be read.
    """
    path = Path(path)
    on_cpu = torch.device(device).type == "cpu"
    is_gguf = path.suffix.lower() == ".gguf"
    if not (path.is_file() if is_gguf else (path / "config.json").is_file()):
        raise FileNotFoundError(f"There is no language model {path}: a folder with config.json or a .gguf file.")
    if dtype is None and on_cpu:
        dtype = torch.float32
    elif dtype in (None, "auto"):
        dtype = torch.float16 if is_gguf else "auto"
    how: dict[str, Any] = {"dtype": dtype}
    if quantization is not None:
        if is_gguf:
            raise ValueError(f"{path.name} is quantised as it is: choose no quantization for it.")
        how["quantization_config"] = quantization_config(quantization, None if dtype == "auto" else dtype)
        how["device_map"] = {"": device}
    model = _open_gguf(path, how) if is_gguf else _open_folder(path, how)
    if model.movable:
        model.model.to(device)
        if model.visual_projection is not None:
            model.visual_projection.to(device)
    return model


def weight_bytes(
    path: str | Path, dtype: torch.dtype | Literal["auto"] = "auto", quantization: Quantization | None = None
) -> int:
    """About how many bytes the weights of a model on the disk will take, by the sizes of its tensors.

    Args:
        path: As for load_language_model.
        dtype: As it will be loaded; "auto" is as stored (of a GGUF file float16).
        quantization: As it will be loaded.
    """
    path = Path(path)
    if path.suffix.lower() == ".gguf":
        from gguf import GGUFReader

        try:
            tensors = [(int(tensor.n_elements), 2) for tensor in GGUFReader(path).tensors]
        except _GGUF_ERRORS as error:
            raise ValueError(f"{path.name} is no GGUF file that can be read ({_line(error)}).") from error
    else:
        tensors = list(_stored(path))
    if quantization is not None:
        # Embeddings and norms stay as they are, and the scales come on top.
        return int(sum(count for count, _ in tensors) * {"8bit": 1.1, "4bit": 0.65}[quantization])
    if dtype != "auto":
        return sum(count for count, _ in tensors) * dtype.itemsize
    return sum(count * size for count, size in tensors)


def _stored(folder: Path) -> Iterator[tuple[int, int]]:
    """Of each tensor in a folder: how many numbers it has, and how many bytes each of them takes."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    else:
        files = set(folder.glob("*.safetensors")) or set(folder.glob("*.bin"))
    for file in files:
        if file.suffix == ".bin":
            yield file.stat().st_size // 2, 2
            continue
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                part = weights.get_slice(name)
                yield math.prod(part.get_shape()), _BITS.get(part.get_dtype(), 16) // 8


_BITS = {"F64": 64, "F32": 32, "I64": 64, "I32": 32, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8}


def quantization_config(quantization: Quantization, dtype: torch.dtype | None = None) -> Any:
    """Transformers' configuration for weights of 8 or 4 bits, by whichever package is installed that makes them.

    Raises:
        ValueError: none is, or `quantization` is something else.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig
    from transformers.utils import is_bitsandbytes_available, is_torchao_available

    if quantization not in ("8bit", "4bit"):
        raise ValueError(f"quantization is {shown(quantization)}: give 8bit, 4bit or nothing.")
    if is_bitsandbytes_available():
        if quantization == "8bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype or torch.bfloat16
        )
    if quantization == "4bit":  # torchao's weights of 4 bits need more packages, and others on each device
        raise ValueError(
            "Weights of 4 bits need the Python package bitsandbytes: install it for ComfyUI, or choose 8 bits or none."
        )
    if is_torchao_available():
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    raise ValueError(
        "Weights of 8 bits need the Python package bitsandbytes or torchao: install one of them for ComfyUI, "
        "or choose no quantization."
    )


def _open_gguf(path: Path, how: dict[str, Any]) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise ValueError(f"To open {path.name} the Python package gguf is missing: install it for ComfyUI.")
    found = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **found)
        model = AutoModelForCausalLM.from_pretrained(path.parent, **found, **how)
    except _GGUF_ERRORS as error:
        raise ValueError(f"{path.name} is no GGUF file that transformers can open ({_line(error)}).") from error
    return LanguageModel(_whole(model), tokenizer, config=LanguageModelConfig.read(path.with_suffix("")))


# What gguf and transformers raise for files that are none, or of an architecture that they do not know.
_GGUF_ERRORS = (KeyError, IndexError, ValueError, NotImplementedError, struct.error)


def _whole(model: PreTrainedModel) -> PreTrainedModel:
    """A model from a GGUF file. Its weights are whole again, but it denies that, and so could not be saved."""
    model.is_quantized = False
    if hasattr(model, "hf_quantizer"):
        del model.hf_quantizer
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.eval()


def _open_folder(folder: Path, how: dict[str, Any]) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    from .vision_language_model import VisionLanguageModel

    local: dict[str, Any] = {"local_files_only": True}
    config = LanguageModelConfig.read(folder)
    if _sees(folder, _configuration(folder)):
        try:
            processor = AutoProcessor.from_pretrained(folder, **local)
        except ImportError as error:
            raise ValueError(
                f"To show pictures to {folder.name} a Python package is missing: install it for ComfyUI "
                f"({_line(error)})."
            ) from error
        model = AutoModelForImageTextToText.from_pretrained(folder, **local, **how)
        return VisionLanguageModel(model.eval(), processor, config)
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    model = AutoModelForCausalLM.from_pretrained(folder, **local, **how)
    return LanguageModel(model.eval(), tokenizer, _projection(folder, model), config)


def _configuration(folder: Path) -> PretrainedConfig:
    """The folder's configuration, if it is a language model's."""
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"transformers {transformers.__version__} does not know the kind of model in {folder.name}: "
            "update it, or choose another model."
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ValueError(f"{folder.name} holds a {config.model_type} model, which writes no text: choose another one.")
    return config


def _sees(folder: Path, config: PretrainedConfig) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    shows = any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))
    return shows and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def _projection(folder: Path, model: PreTrainedModel) -> VisualProjection | None:
    from safetensors.torch import load_file

    if not (folder / PROJECTION_NAME).is_file():
        return None
    weights = load_file(folder / PROJECTION_NAME)
    hidden, vision = weights["linear.weight"].shape
    projection = VisualProjection(vision, hidden)
    projection.load_state_dict(weights)
    return projection.to(model.device, model.dtype).eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
