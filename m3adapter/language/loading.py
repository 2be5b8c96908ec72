"""Opens the files of language models, offline and without running code that comes with a model.

Files are looked over first (`model_folders.py`, `gguf_files.py`), since transformers makes up weights that it does not
find. What a model's files ask for in the way of code, kernels and attention is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from ..values import shown
from .chat_template import ChatTemplate
from .config import LanguageModelConfig
from .gguf_files import check_gguf
from .model_folders import ADAPTER, PROCESSORS, check_folder
from .prompts import special_tokens
from .quantization import Quantization, check_quantization, package_for, quantization_config, unpacked
from .visual_projection import PROJECTION_NAME, VisualProjection

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

Dtype = torch.dtype | Literal["auto"]
_AGAIN = "get it again, or another variant"
_NO_GGUF = "get the model as a folder, or choose another one"


@dataclass(frozen=True)
class ModelFiles:
    """The files of a language model, looked over; the weights are not open yet.

    Attributes:
        path: The folder, or the .gguf file.
        settings: What the model's m2chat.json says.
        sees: Whether it is a vision-language model, which sees pictures itself.
        config: Transformers' configuration; None for a GGUF file, whose header is read when it is opened.
        quantized_by: The method by which the stored weights are quantised; None if they are not.
    """

    path: Path
    settings: LanguageModelConfig
    sees: bool = False
    config: PretrainedConfig | None = None
    quantized_by: str | None = None


@dataclass(frozen=True)
class OpenedModel:
    """The opened parts of a language model.

    Attributes:
        model: Transformers' model, in evaluation mode.
        tokenizer: Its tokenizer.
        processor: The processor of a vision-language model; None for other models.
        visual_projection: The projection through which the model sees; None if it has none.
        settings: What the model's m2chat.json says.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    visual_projection: VisualProjection | None
    settings: LanguageModelConfig


@dataclass(frozen=True)
class _WeightOptions:
    """How transformers loads weights: their dtype, what unpacks or quantises them, and the devices they go to."""

    dtype: Dtype
    quantization_config: Any = None
    device_map: dict[str, str | torch.device] | None = None


def examine(path: str | Path) -> ModelFiles:
    """Look over the files of a language model and tell which kind it is.

    Args:
        path: A folder in transformers' layout, or a .gguf file.

    Raises:
        FileNotFoundError: There is no model at `path`.
        ValueError: The folder does not hold a usable language model.
        OSError: A file cannot be read.
    """
    path = Path(path)
    is_gguf = path.suffix.lower() == ".gguf"
    if not (path.is_file() if is_gguf else (path / "config.json").is_file()):
        raise FileNotFoundError(
            f"There is no language model {path.name}: choose a folder with config.json, or a .gguf file."
        )
    if is_gguf:
        return ModelFiles(path, LanguageModelConfig.read(path.with_suffix("")))
    stored = check_folder(path)
    settings = LanguageModelConfig.read(path)
    config = _configuration(path)
    return ModelFiles(path, settings, _sees(path, config), config, check_quantization(path, stored))


def open_model(
    files: ModelFiles,
    *,
    dtype: Dtype | None = None,
    quantization: Quantization | None = None,
    device: str | torch.device = "cpu",
) -> OpenedModel:
    """Open the parts of a language model; the arguments are those of `load_language_model`.

    Raises:
        ValueError: The files are damaged, do not belong together, or need a Python package that is missing.
        OSError: A file cannot be read.
    """
    config, name = files.config, files.path.name
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    elif dtype is None or dtype == "auto":
        dtype = torch.float16 if config is None else "auto"
    method = "gguf" if config is None else files.quantized_by
    if quantization is not None:
        if method is not None:
            detail = "" if config is None else f" ({method})"
            raise ValueError(f"{name} is already quantised{detail}: choose no quantization for it.")
        making = quantization_config(quantization, None if dtype == "auto" else dtype)
        options = _WeightOptions(dtype, making, {"": device})
    else:
        options = _WeightOptions(dtype, None if method is None else unpacked(method))
    opened = _open_gguf(files, options) if config is None else _open_folder(files, config, options)
    if not getattr(opened.model, "is_quantized", False):
        opened.model.to(device)  # type: ignore[arg-type] # transformers wraps nn.Module.to
    if opened.visual_projection is not None:
        opened.visual_projection.to(opened.model.device, opened.model.dtype)
    return opened


def _open_gguf(files: ModelFiles, options: _WeightOptions) -> OpenedModel:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import is_gguf_available

    path, folder, name = files.path, files.path.parent, files.path.name
    if not is_gguf_available():
        raise ValueError(f"To open {name} the Python package gguf is missing: install it for ComfyUI.")
    header = check_gguf(path)
    if (folder / ADAPTER).is_file():  # transformers would take it for the file's
        raise ValueError(f"{name} lies beside an adapter ({ADAPTER}): move it to a folder of its own.")
    architecture = shown(header.architecture).strip("'\"")
    with _opening(path, f"holds a {architecture} model, which transformers does not open as GGUF", cure=_NO_GGUF):
        config = AutoConfig.from_pretrained(folder, gguf_file=name, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, gguf_file=name, local_files_only=True, trust_remote_code=False
        )
    template = ChatTemplate(tokenizer, name=name)
    _check_vocabulary(name, tokenizer, header.tensors["token_embd.weight"].shape[0], template)
    trouble = "is not a GGUF file that transformers can open"
    model = _load_weights(files, AutoModelForCausalLM, config, options, trouble=trouble)
    return OpenedModel(_whole(model), tokenizer, None, _projection(path.with_suffix(""), model), files.settings)


def _whole(model: PreTrainedModel) -> PreTrainedModel:
    """Mark a model from a GGUF file as unquantised: its weights are unpacked, and it could not be saved otherwise."""
    model.is_quantized = False  # type: ignore[assignment] # an attribute that transformers sets
    if hasattr(model, "hf_quantizer"):
        del model.hf_quantizer
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _open_folder(files: ModelFiles, config: PretrainedConfig, options: _WeightOptions) -> OpenedModel:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    folder, name = files.path, files.path.name
    processor = None
    with _opening(folder, "has a tokenizer that is damaged or belongs to another model"):
        if files.sees:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokenizer = getattr(processor, "tokenizer", processor)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    source = processor if getattr(processor, "chat_template", None) else tokenizer
    template = ChatTemplate(source, shows_pictures=files.sees, name=name)
    _check_vocabulary(name, tokenizer, config.get_text_config().vocab_size, template)
    auto_class = AutoModelForImageTextToText if files.sees else AutoModelForCausalLM
    trouble = "cannot be opened, because its files are damaged or belong to different models"
    model = _load_weights(files, auto_class, config, options, trouble=trouble)
    return OpenedModel(model, tokenizer, processor, None if files.sees else _projection(folder, model), files.settings)


def _load_weights(
    files: ModelFiles, auto_class: Any, config: PretrainedConfig, options: _WeightOptions, *, trouble: str
) -> PreTrainedModel:
    """Return transformers' model with all its weights, in evaluation mode; `trouble` describes a failure."""
    is_gguf, path = files.config is None, files.path
    attention = _attention(config, _model_class(config, sees=files.sees))
    with _opening(path, trouble, files.quantized_by):
        model, info = auto_class.from_pretrained(
            path.parent if is_gguf else path,
            config=config,
            gguf_file=path.name if is_gguf else None,
            dtype=options.dtype,
            quantization_config=options.quantization_config,
            device_map=options.device_map,
            attn_implementation={"": attention},
            weights_only=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    _check_loaded(path.name, info)
    _check_feature_layer(files, model)
    return model.eval()


def embedding(model: PreTrainedModel) -> nn.Embedding:
    """Return the model's table of token embeddings, whose weight is [tokens, H]."""
    return cast(nn.Embedding, model.get_input_embeddings())


def _projection(folder: Path, model: PreTrainedModel) -> VisualProjection | None:
    """Return the folder's visual projection, which must have the model's width; None if there is none."""
    if not (folder / PROJECTION_NAME).is_file():
        return None
    projection = VisualProjection.from_pretrained(folder)
    if projection.linear.out_features != embedding(model).weight.shape[1]:
        raise ValueError(f"{PROJECTION_NAME} in {folder.name} is not made for this model: get the folder again.")
    return projection


def _configuration(folder: Path) -> PretrainedConfig:
    """Return the folder's configuration; raise ValueError unless it is a language model's."""
    from transformers import AutoConfig

    with _opening(folder, "has a config.json that transformers cannot read"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if _model_class(config) is None and _model_class(config, sees=True) is None:
        raise ValueError(
            f"{folder.name} holds a {config.model_type} model, which does not write text: choose another one."
        )
    if _model_class(config) is None and not _sees(folder, config):
        raise ValueError(
            f"{folder.name} holds a vision-language model without its processor: get {PROCESSORS[1]} again."
        )
    return config


def _model_class(config: PretrainedConfig, *, sees: bool = False) -> type[PreTrainedModel] | None:
    """Return transformers' class for a configuration that writes text (and sees, if `sees`); None if it has none."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    mapping = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if sees else MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in mapping:
        return None
    model_class = mapping[type(config)]
    return model_class[0] if isinstance(model_class, (tuple, list)) else model_class


def _sees(folder: Path, config: PretrainedConfig) -> bool:
    has_processor = any((folder / name).is_file() for name in PROCESSORS)
    return has_processor and _model_class(config, sees=True) is not None


def _attention(config: PretrainedConfig, model_class: type[PreTrainedModel] | None) -> str:
    """Return the attention that a model computes with: torch's where the model has it, else the plain one.

    What the model's files ask for may be a kernel on the internet, so it is removed from every part of the
    configuration. The parts then choose for themselves between the same two.
    """
    config._attn_implementation = None
    if hasattr(config, "_experts_implementation"):
        config._experts_implementation = None
    for part in config.sub_configs:
        if (inner := getattr(config, part, None)) is not None:
            _attention(inner, None)
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


@contextmanager
def _opening(path: Path, trouble: str, method: str | None = None, cure: str = _AGAIN) -> Iterator[None]:
    """Turn whatever makes transformers fail on the files of a model into a ValueError of one sentence."""
    try:
        yield
    except (_OUT_OF_MEMORY, MemoryError):
        raise
    except ImportError as error:
        package = f" {package_for(method)}" if method else " of a part"
        raise ValueError(
            f"To open {path.name} the Python package{package} is missing: "
            f"install it for ComfyUI ({_first_sentence(error, path)})."
        ) from error
    # Damaged files can make it fail in any way.
    except Exception as error:
        reason = f"is quantised by {method}, and that does not run here" if method else trouble
        raise ValueError(f"{path.name} {reason} ({_first_sentence(error, path)}): {cure}.") from error


_OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def _check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, rows: int, template: ChatTemplate) -> None:
    """Raise ValueError if texts could have tokens that the model does not know.

    Special tokens that no conversation contains may lie beyond: some models share their tokenizer with vision-language
    models.
    """
    special = special_tokens(tokenizer)
    words = (number for number in tokenizer.get_vocab().values() if number not in special)
    marks = tokenizer(template.render([("user", ["Hello"])]) + template.ending(), add_special_tokens=False)
    highest = max((*words, *marks["input_ids"]), default=0)
    if highest >= rows:
        raise ValueError(
            f"The tokenizer of {name} has {highest + 1} tokens, and the model knows {rows}: "
            "they are of different models, so get both from the same source."
        )


def _check_loaded(name: str, info: dict[str, Any]) -> None:
    """Raise ValueError if transformers made weights up, as it does for those that it does not find."""
    for key, trouble in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape than expected for")):
        names = sorted(str(item[0] if isinstance(item, tuple) else item) for item in info.get(key) or ())
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{name} {trouble} {names[0]}{more}: get its files of weights again.")


def _check_feature_layer(files: ModelFiles, model: PreTrainedModel) -> None:
    """Raise ValueError if m2chat.json names a layer that the model does not have."""
    count, layer = getattr(model.config.get_text_config(), "num_hidden_layers", None), files.settings.feature_layer
    if isinstance(count, int) and not -(count + 1) <= layer <= count:
        raise ValueError(
            f"m2chat.json of {files.path.name} has {layer} as feature_layer, and the model {count} layers: "
            f"give a number from {-(count + 1)} to {count}."
        )


def _first_sentence(error: Exception, path: Path) -> str:
    """Return the first sentence of a library's message, without the place where the model lies."""
    message = " ".join(str(error).replace(f"{path.parent}/", "").replace(f"{path.parent}\\", "").split())
    return (message.split(". ")[0][:200].rstrip(".:") or type(error).__name__).replace("? ", ", ").replace("! ", ", ")
