"""Reads the header of a GGUF file: the kind of model it holds, and whether the file is complete.

Reading the header takes milliseconds; transformers and gguf read the weights later. Specification:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..values import shown
from ..weights.model_files import check_whole
from .chat_template import untemplated

# The format of `struct` for each type of value; 8 are strings, 9 arrays.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST = 1_000_000  # entries or tensors; the largest models have some thousands
_LONGEST = 2**16  # bytes of a name
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)

# Architectures that do not write text, and what they are.
_ENCODER = "a text encoder"
_KINDS = {
    **dict.fromkeys(("t5", "t5encoder", "umt5", "clip_text", "byt5"), _ENCODER),
    **dict.fromkeys(
        ("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
         "gemma-embedding", "llama-embed"),
        "an embedding model",
    ),
    "clip": "the vision part of a model (mmproj)",
    "wavtokenizer-dec": "a sound decoder",
    **dict.fromkeys(
        ("flux", "flux2", "sd1", "sd2", "sdxl", "sd3", "aura", "auraflow", "ltxv", "cosmos", "hyvid", "hunyuan_video",
         "wan", "lumina2", "qwen_image", "hidream", "chroma", "z_image", "pig"),
        "a diffusion model",
    ),
}  # fmt: skip
_TYPES = {
    "adapter": "a LoRA adapter",
    "mmproj": "the vision part of a model (mmproj)",
    "imatrix": "an importance matrix",
    "vocab": "a vocabulary without a model",
}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's shape (in torch's order), the number of its GGUF type, and its offset from the end of the header."""

    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        values: Metadata by name; of an array, only its length.
        tensors: Tensors by name.
        start: Offset of the tensors' data, in bytes.
    """

    values: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    start: int

    @property
    def architecture(self) -> str:
        """The architecture, as llama.cpp names it; "" if the file does not say."""
        return self.text("general.architecture")

    def text(self, name: str) -> str:
        """Return a value that is a text; "" if there is none."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def whole(self, name: str) -> int:
        """Return a value that is a whole number; 0 if there is none."""
        value = self.values.get(name)
        return value if isinstance(value, int) else 0


def read_header(path: Path, *, brief: bool = False) -> GgufHeader:
    """Read the header of a GGUF file; if `brief`, only the part before its vocabulary.

    Raises:
        ValueError: It is not a GGUF file, or its header is cut off; the message is one sentence.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty: get the file again.")
    check_whole(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).header(brief)
        except (struct.error, IndexError, UnicodeDecodeError, _NoGguf) as error:
            raise ValueError(
                f"{path.name} is not a GGUF file that can be read, or it is cut off: get the file again."
            ) from error


class _NoGguf(Exception):  # noqa: N818 - says what the bytes are not
    """Bytes that do not belong in a GGUF file."""


class _Reader:
    """Reads the bytes of a GGUF file in order."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def header(self, brief: bool) -> GgufHeader:
        if self.data[:4] != b"GGUF":
            raise _NoGguf
        self.place = 4
        version = self.number("I")
        if version not in (2, 3):  # the first was never widely used; others are of the other byte order
            raise _NoGguf
        tensor_count, count = self.count(), self.count()
        values: dict[str, Any] = {}
        for _ in range(count):
            name = self.string(_LONGEST)
            if brief and name.startswith("tokenizer."):
                return GgufHeader(values, {}, 0)
            values[name] = self.value(self.number("I"))
        tensors = dict(self.tensor() for _ in range(0 if brief else tensor_count))
        step = values.get("general.alignment")
        step = step if isinstance(step, int) and 0 < step <= 2**20 else 32
        return GgufHeader(values, tensors, -(-self.place // step) * step)

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return value

    def count(self) -> int:
        value = self.number("Q")
        if value > _MOST:
            raise _NoGguf
        return value

    def skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self.data):
            raise _NoGguf

    def string(self, longest: int | None = None) -> str:
        size = self.number("Q")
        if size > len(self.data) - self.place or (longest is not None and size > longest):
            raise _NoGguf
        text = self.data[self.place : self.place + size].decode("utf-8", "replace")
        self.place += size
        return text

    def value(self, value_type: int) -> Any:
        if value_type == _STRING:
            return self.string()
        if value_type != _ARRAY:
            if value_type not in _SCALARS:
                raise _NoGguf
            return self.number(_SCALARS[value_type])
        inner, length = self.number("I"), self.number("Q")
        if inner == _STRING:
            if length > (len(self.data) - self.place) // 8:
                raise _NoGguf
            for _ in range(length):
                self.skip(self.number("Q"))
        elif inner in _SCALARS:
            self.skip(length * struct.calcsize(f"<{_SCALARS[inner]}"))
        else:  # arrays of arrays, which no model has
            raise _NoGguf
        return length

    def tensor(self) -> tuple[str, GgufTensor]:
        name = self.string(_LONGEST)
        dimensions = self.number("I")
        if dimensions > 8:
            raise _NoGguf
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return name, GgufTensor(shape[::-1], self.number("I"), self.number("Q"))


def unsuited(path: Path) -> str | None:
    """Return what a GGUF file is, such as "a text encoder", if it is not a model that writes text.

    None is returned for other models, and for files that cannot be read.
    """
    if "mmproj" in path.name.lower():
        return _TYPES["mmproj"]
    try:
        header = read_header(path, brief=True)
    except (ValueError, OSError):
        return None
    return _noun(header)


def is_later_part(path: Path) -> bool:
    """Return whether a file is the second or a later part of a split model."""
    named = _PART.search(path.name)
    return named is not None and int(named[1]) > 1


def _noun(header: GgufHeader) -> str | None:
    architecture = header.architecture
    if header.whole(f"{architecture}.pooling_type"):  # 0 means none
        return "an embedding model"
    return _TYPES.get(header.text("general.type")) or _KINDS.get(architecture)


def check_gguf(path: Path) -> GgufHeader:
    """Return the header of a GGUF file, which must hold a complete language model for conversations.

    Raises:
        ValueError: It is another kind of model or a part of one, is cut off, or has no vocabulary or chat template; the
            message is one sentence.
    """
    header = read_header(path)
    if noun := _TYPES["mmproj"] if "mmproj" in path.name.lower() else _noun(header):
        raise ValueError(f"{path.name} is {noun}: choose a language model.")
    _check_unsplit(path, header)
    _check_size(path, header)
    _check_layers(path, header)
    if not header.values.get("tokenizer.ggml.tokens"):
        raise ValueError(f"{path.name} comes without its vocabulary: get another GGUF file of the model.")
    if not header.text("tokenizer.chat_template").strip():
        raise ValueError(untemplated(path.name))
    return header


def _check_unsplit(path: Path, header: GgufHeader) -> None:
    named = _PART.search(path.name)
    count = header.whole("split.count") or int(named[2] if named else 1)
    if count > 1:
        number = header.whole("split.no") + 1 if "split.no" in header.values else int(named[1] if named else 1)
        raise ValueError(
            f"{path.name} is part {number} of {count} of a split model, and only single files are opened: "
            "merge the parts with `llama-gguf-split --merge`, or get the model as one file."
        )


def _check_size(path: Path, header: GgufHeader) -> None:
    """Raise ValueError unless every tensor lies inside the file and has a type that can be unpacked."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    end = 0
    for name, tensor in header.tensors.items():
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path.name} holds weights of a type that the Python package gguf does not know ({shown(name)}): "
                "update the package, or choose another quantization of the model."
            ) from error
        end = max(end, tensor.offset + math.prod(tensor.shape) // block * size)
    if header.start + end > path.stat().st_size:
        raise ValueError(f"{path.name} is cut off, its last weights are missing: get the file again.")


def _check_layers(path: Path, header: GgufHeader) -> None:
    """Raise ValueError unless the file has the embeddings and all layers that its header counts."""
    count = header.whole(f"{header.architecture}.block_count")
    present = {int(match[1]) for name in header.tensors if (match := re.match(r"blk\.(\d{1,6})\.", name))}
    missing = [f"blk.{number}" for number in range(min(count, _MOST)) if number not in present]
    # LFM2 names its last norm as one after the embeddings.
    for names in (("token_embd.weight",), ("output_norm.weight", "token_embd_norm.weight")):
        missing += [] if any(name in header.tensors for name in names) else names[:1]
    if missing:
        raise ValueError(f"{path.name} lacks {missing[0]} of the model: get the file again.")
