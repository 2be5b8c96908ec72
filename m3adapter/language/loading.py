"""Opens language models of every kind that lies on the disk: nothing is downloaded, and no code of a model is run.

Files are looked over first (`language_files.py`, `gguf_files.py`), since transformers makes up what it does not find. A
model's own wishes for code, kernels and attention are not heeded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..values import shown
from ..weights.layouts import header
from ..weights.model_files import read_json
from .chat_template import ChatTemplate
from .config import LanguageModelConfig
from .gguf_files import check_gguf, read_header
from .language_model import PROJECTION_NAME, LanguageModel, VisualProjection
from .model_folders import (
    ADAPTER,
    PROCESSORS,
    check_folder,
    check_quantization,
    package_for,
    unpacked,
    weight_files,
)
from .prompts import special_tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Quantization = Literal["8bit", "4bit"]
_AGAIN = "get it again, or another variant"
_NO_GGUF = "get the model as a folder, or choose another one"


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
        raise FileNotFoundError(f"There is no language model {path.name}: a folder with config.json or a .gguf file.")
    if dtype is None and on_cpu:
        dtype = torch.float32
    elif dtype in (None, "auto"):
        dtype = torch.float16 if is_gguf else "auto"
    how: dict[str, Any] = {"dtype": dtype, "weights_only": True}
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

    Raises:
        ValueError: the files are not those of a whole model.
    """
    path = Path(path)
    if path.suffix.lower() == ".gguf":
        tensors = [(math.prod(tensor.shape), 2) for tensor in read_header(path).tensors.values()]
    else:
        tensors = list(_stored(path))
    if quantization is not None:
        # Embeddings and norms stay as they are, and the scales come on top.
        return int(sum(count for count, _ in tensors) * {"8bit": 1.1, "4bit": 0.65}[quantization])
    if dtype != "auto":
        return sum(count for count, _ in tensors) * dtype.itemsize
    return sum(count * size for count, size in tensors)


def _stored(folder: Path) -> Iterator[tuple[int, int]]:
    """Of each tensor in a folder: how many numbers it has, and how many bytes each of them takes when it is loaded."""
    config = read_json(folder / "config.json")
    method = check_quantization(folder, config)
    unpacks = method is not None and unpacked(method) is not None
    for file in weight_files(folder):
        if file.suffix == ".bin":
            yield file.stat().st_size // 2, 2
            continue
        for shape, kind in header(file).values():
            size = _BITS.get(kind, 16) // 8
            # Of 4 bits, a byte holds two.
            yield (math.prod(shape) * (2 if kind == "U8" else 1), 2) if unpacks else (math.prod(shape), size)


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
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise ValueError(f"To open {path.name} the Python package gguf is missing: install it for ComfyUI.")
    found = check_gguf(path)
    if (path.parent / ADAPTER).is_file():  # transformers would take it for the file's
        raise ValueError(f"{path.name} lies beside an adapter ({ADAPTER}): move it to a folder of its own.")
    own = LanguageModelConfig.read(path.with_suffix(""))
    name, folder, file = path.name, path.parent, {"gguf_file": path.name, "local_files_only": True}
    kind = shown(found.architecture).strip("'\"")
    with _opening(path, f"holds a {kind} model, which transformers does not open as GGUF", cure=_NO_GGUF):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **file)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **file)
    template = ChatTemplate(tokenizer, name=name)
    _check_vocabulary(name, tokenizer, found.tensors["token_embd.weight"].shape[0], template)
    how = {**how, **_chosen(config, _mapped(config)), **_unpacking("gguf")}
    with _opening(path, "is no GGUF file that transformers can open"):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, config=config, trust_remote_code=False, output_loading_info=True, **file, **how
        )
    _check_loaded(name, info)
    return LanguageModel(_whole(model), tokenizer, config=_fitting(own, model, path))


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

    stored = check_folder(folder)
    own = LanguageModelConfig.read(folder)
    config = _configuration(folder)
    name, method = folder.name, check_quantization(folder, stored)
    if method is not None:
        if "quantization_config" in how:
            raise ValueError(f"{name} is quantised as it is ({method}): choose no quantization for it.")
        how = {**how, **_unpacking(method)}
    sees = _sees(folder, config)
    how = {**how, **_chosen(config, _mapped(config, sees=sees))}
    with _opening(folder, "has a tokenizer that cannot be opened, being damaged or another model's"):
        if sees:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokenizer = getattr(processor, "tokenizer", processor)
        else:
            processor = tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    source = processor if getattr(processor, "chat_template", None) else tokenizer
    template = ChatTemplate(source, shows_pictures=sees, name=name)
    _check_vocabulary(name, tokenizer, config.get_text_config().vocab_size, template)
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with _opening(folder, "cannot be opened, for its files are damaged or of different models", method):
        model, info = kind.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False, output_loading_info=True, **how
        )
    _check_loaded(name, info)
    own = _fitting(own, model, folder)
    if sees:
        return VisionLanguageModel(model.eval(), processor, own)
    return LanguageModel(model.eval(), tokenizer, _projection(folder, model), own)


def _configuration(folder: Path) -> PretrainedConfig:
    """The folder's configuration, if it is a language model's."""
    from transformers import AutoConfig

    with _opening(folder, "has a config.json that transformers cannot read"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if _mapped(config) is None and _mapped(config, sees=True) is None:
        raise ValueError(f"{folder.name} holds a {config.model_type} model, which writes no text: choose another one.")
    if _mapped(config) is None and not _sees(folder, config):
        raise ValueError(
            f"{folder.name} holds a vision-language model without its processor: get {PROCESSORS[1]} again."
        )
    return config


def _mapped(config: PretrainedConfig, *, sees: bool = False) -> type[PreTrainedModel] | None:
    """Transformers' class that writes text by a configuration (and `sees`), or None."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    kinds = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if sees else MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in kinds:
        return None
    found = kinds[type(config)]
    return found[0] if isinstance(found, (tuple, list)) else found


def _sees(folder: Path, config: PretrainedConfig) -> bool:
    return any((folder / name).is_file() for name in PROCESSORS) and _mapped(config, sees=True) is not None


def _chosen(config: PretrainedConfig, kind: type[PreTrainedModel] | None) -> dict[str, Any]:
    """How a model computes: torch's attention, or the plain one where it has no other, whatever its files wish for.

    A wish may name a kernel on the internet. It is taken out of every part of the configuration; parts then choose
    for themselves between the same two.
    """
    config._attn_implementation = None
    if hasattr(config, "_experts_implementation"):
        config._experts_implementation = None
    for part in config.sub_configs:
        if (inner := getattr(config, part, None)) is not None:
            _chosen(inner, None)
    return {"attn_implementation": {"": "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"}}


def _unpacking(method: str) -> dict[str, Any]:
    config = unpacked(method)
    return {} if config is None else {"quantization_config": config}


@contextmanager
def _opening(path: Path, trouble: str, method: str | None = None, cure: str = _AGAIN) -> Iterator[None]:
    """Raises ValueError, one sentence, for whatever makes transformers fail on the files of a model."""
    try:
        yield
    except (_OUT_OF_MEMORY, MemoryError):
        raise
    except ImportError as error:
        package = f" {package_for(method)}" if method else ""
        raise ValueError(
            f"To open {path.name} the Python package{package or ' of a part'} is missing: "
            f"install it for ComfyUI ({_line(error, path)})."
        ) from error
    # Damaged files can make it fail in any way.
    except Exception as error:
        how = f"is quantised by {method}, and that does not run here" if method else trouble
        raise ValueError(f"{path.name} {how} ({_line(error, path)}): {cure}.") from error


_OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def _check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, rows: int, template: ChatTemplate) -> None:
    """Raises ValueError where texts would have tokens that the model does not know.

    Special tokens that no conversation contains may be more: some models share their tokenizer with those that see.
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
    """Raises ValueError where transformers made weights up, which it does for those that it did not find."""
    for key, trouble in (("missing_keys", "lacks"), ("mismatched_keys", "has another shape than said of")):
        found = sorted(str(item[0] if isinstance(item, tuple) else item) for item in info.get(key) or ())
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise ValueError(f"{name} is not whole, it {trouble} {found[0]}{more}: get its files of weights again.")


def _fitting(own: LanguageModelConfig, model: PreTrainedModel, path: Path) -> LanguageModelConfig:
    """The model's m2chat.json, if it fits the model."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if isinstance(count, int) and not -(count + 1) <= own.feature_layer <= count:
        raise ValueError(
            f"m2chat.json of {path.name} has {own.feature_layer} as feature_layer, and the model {count} layers: "
            f"give a number from {-(count + 1)} to {count}."
        )
    return own


def _projection(folder: Path, model: PreTrainedModel) -> VisualProjection | None:
    from safetensors.torch import load_file

    path = folder / PROJECTION_NAME
    if not path.is_file():
        return None
    shapes = {name: shape for name, (shape, _) in header(path).items()}
    weight = shapes.get("linear.weight", ())
    if len(weight) != 2 or weight[0] != model.get_input_embeddings().weight.shape[1]:
        raise ValueError(f"{PROJECTION_NAME} in {folder.name} is not made for this model: get the folder again.")
    projection = VisualProjection(weight[1], weight[0])
    if {name: tuple(value.shape) for name, value in projection.state_dict().items()} != shapes:
        raise ValueError(f"{PROJECTION_NAME} in {folder.name} lacks weights or has others: get the folder again.")
    projection.load_state_dict(load_file(path))
    return projection.to(model.device, model.dtype).eval()


def _line(error: Exception, path: Path) -> str:
    """What a library says: its first sentence, without the place where the model lies."""
    said = " ".join(str(error).replace(f"{path.parent}/", "").replace(f"{path.parent}\\", "").split())
    return (said.split(". ")[0][:200].rstrip(".:") or type(error).__name__).replace("? ", ", ").replace("! ", ", ")
