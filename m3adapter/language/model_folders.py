"""Checks a language model's folder before transformers opens it, which makes up weights that are missing.

Only small files and the headers of large ones are read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..values import is_whole, label, shown
from ..weights.counting import check_config
from ..weights.layouts import header
from ..weights.model_files import check_whole, read_json
from .quantization import check_quantization

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
PIPELINE = "model_index.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
MOST_LAYERS = 10_000

# The files that transformers reads beside the weights: JSON, and others.
_JSON = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "chat_template.json", "video_preprocessor_config.json", *PROCESSORS,
)  # fmt: skip
_OTHERS = ("merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json",
                 "vocab.txt", "tekken.json")  # fmt: skip

# Families (as config.json names them) in ComfyUI's folder of text encoders, most of which do not write text.
_ENCODERS = re.compile(r"(u?m?t5|byt5|clip|siglip|.*bert|chinese_clip|xlm-)", re.IGNORECASE)


def unsuited(folder: Path) -> str | None:
    """Return what a folder with config.json is, such as "a text encoder", if it is not a model that writes text.

    None is returned for other models, and for folders that cannot be read.
    """
    try:
        config = read_json(folder / CONFIG)
    except (ValueError, OSError):
        config = {}
    return _noun(folder, config)


def _noun(folder: Path, config: Mapping[str, Any]) -> str | None:
    if (folder / ADAPTER).is_file():
        return "an adapter (LoRA), which works only when merged into the model that it was made for"
    if (folder / PIPELINE).is_file() or "_class_name" in config or "_diffusers_version" in config:
        return "a diffusers model, which paints"
    family = config.get("model_type")
    if isinstance(family, str) and _ENCODERS.match(family) and not _decodes(family, config):
        return f"a {family} model, which does not write text"
    return None


def _decodes(family: str, config: Mapping[str, Any]) -> bool:
    """Return whether a model of an encoder's family writes text after all, from left to right."""
    return family.endswith("-decoder") or config.get("is_decoder") is True


def check_folder(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder, which must hold a complete language model.

    Raises:
        ValueError: A file is missing, cut off or only a pointer to one; or it is another kind of model, or one that
            needs code of its own. The message is one sentence.
    """
    noun = _noun(folder, {})
    if not noun:
        check_config(folder / CONFIG)
    config = {} if noun else read_json(folder / CONFIG)
    if noun := noun or _noun(folder, config):
        raise ValueError(f"{folder.name} is {noun}: choose a language model.")
    _check_kind(folder, config)
    _check_small_files(folder)
    files = weight_files(folder)
    quantization = check_quantization(folder, config)
    names = [name for file in files for name in _names(file)]
    if names and quantization is None:
        _check_layers(folder, config, names)
    return config


def _check_small_files(folder: Path) -> None:
    for name in _JSON:
        if (folder / name).is_file():
            read_json(folder / name)
    for name in _OTHERS:
        if (folder / name).is_file():
            check_whole(folder / name)
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ValueError(f"{folder.name} has no tokenizer (tokenizer.json is missing): get the complete folder.")


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ValueError unless transformers knows the model's architecture; code in the folder is never run."""
    import transformers

    family = config.get("model_type")
    if not isinstance(family, str):
        raise ValueError(f"{folder.name}/{CONFIG} does not say what kind of model it is (model_type): get it again.")
    if family in transformers.CONFIG_MAPPING:
        return
    if config.get("auto_map"):
        raise ValueError(
            f"{folder.name} needs code that comes with the model, which is never run: "
            "choose a model that transformers supports by itself."
        )
    raise ValueError(
        f"transformers {transformers.__version__} does not know the kind of model in {folder.name} ({shown(family)}): "
        "update it, or choose another model."
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the files from which transformers reads a folder's weights, sorted by name.

    Raises:
        ValueError: There are none, or one of them is missing or cut off; the message is one sentence.
    """
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    elif (folder / INDEX).is_file():
        files = _shards(folder / INDEX)
    elif (folder / PICKLE).is_file():
        files = [folder / PICKLE]
    elif (folder / PICKLE_INDEX).is_file():
        files = _shards(folder / PICKLE_INDEX)
    else:
        raise ValueError(
            f"{folder.name} has no weights under a name that transformers reads: get {SINGLE}, or {INDEX} with "
            "the files that it lists."
        )
    for file in files:
        check_whole(file)
        if file.suffix == ".bin":
            _check_pickle(file)
    return files


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise ValueError(f"{label(index)} lists no weights: get the file again.")
    names = sorted(set(listed.values()))
    for name in names:
        if _leads_out(name):
            raise ValueError(f"{label(index)} names a file outside its folder: get the model from another source.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder.name} lacks {len(missing)} of its {len(names)} files of weights: "
            f"get {missing[0]}{' and the others' if len(missing) > 1 else ''}."
        )
    return [folder / name for name in names]


def _leads_out(name: str) -> bool:
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths)


def _check_pickle(file: Path) -> None:
    """Raise ValueError unless a file is a complete archive of torch's, or of its older format."""
    with file.open("rb") as stream:
        start = stream.read(2)
    if start == b"PK" and not zipfile.is_zipfile(file):
        raise ValueError(f"{label(file)} is cut off: get the file again.")
    if start[:1] not in (b"P", b"\x80"):
        raise ValueError(
            f"{label(file)} is cut off or not a file of weights: get it again, or the model as safetensors."
        )


def _names(file: Path) -> Iterable[str]:
    return header(file) if file.suffix == ".safetensors" else ()


def _check_layers(folder: Path, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ValueError if all weights of a layer are missing that config.json counts."""
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else config
    count = inner.get("num_hidden_layers", config.get("num_hidden_layers"))
    if count is None:
        return
    if not is_whole(count, 1, MOST_LAYERS):
        raise ValueError(
            f"{folder.name}/{CONFIG} has {shown(count)} as num_hidden_layers: get the file again, or correct it."
        )
    stacks: dict[str, set[int]] = {}
    for name in names:
        if match := re.match(r"(.*?)\b(layers|h|blocks)\.(\d{1,5})\.", name):
            stacks.setdefault(f"{match[1]}{match[2]}", set()).add(int(match[3]))
    # The vision tower has layers too; the language model is the stack that has nearly as many as are counted. What this
    # check misses, such as names of another form, is found when the model is loaded.
    text_stacks = [layers for stack, layers in stacks.items() if not re.search(r"vi(sion|sual)|audio|encoder", stack)]
    layers = max(text_stacks, key=len, default=set())
    missing = [number for number in range(count) if number not in layers]
    if missing and len(layers) * 2 >= count:
        raise ValueError(f"{folder.name} lacks layer {missing[0]} of {count}: get its files of weights again.")
