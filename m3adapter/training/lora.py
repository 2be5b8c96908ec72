"""A LoRA on the language model (Hu et al., 2021), trained in M3FT's second stage through the package peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..arguments import UserError

if TYPE_CHECKING:
    from ..language.language_model import LanguageModel
    from .recipe import Lora

FOLDER = "language_lora"  # in the output
ALL_LINEAR = "all-linear"  # all linear layers but the last one


def layer_names(targets: str) -> list[str]:
    """Return the names of layers, which are separated by commas."""
    return [name.strip() for name in targets.split(",") if name.strip()]


class LanguageLora:
    """Low-rank changes to a language model: added when this is made, they begin as no change at all.

    Args:
        language: The language model; its own weights stay as they are.
        options: Rank, scale and place of the changes.
        seed: Of their random half.

    Raises:
        UserError: The package peft is missing, or does not know the model's layers.
    """

    def __init__(self, language: LanguageModel, options: Lora, seed: int) -> None:
        try:
            from peft import LoraConfig, get_peft_model
        except ModuleNotFoundError as error:
            raise UserError("lora.rank needs the Python package peft: install it with `pip install peft`.") from error
        names = layer_names(options.targets)
        self.config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            # Another single text would be a pattern for the whole name of a layer.
            target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
            task_type="CAUSAL_LM",
        )
        self.language = language
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                self.peft: Any = get_peft_model(language.model, self.config)
            except ValueError as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"lora.targets does not fit the language model ({reason}).") from error
        language.prefixes.limit = 0  # what it remembers of prompts would be from before a step
        language.forget()
        self.parameters = {name: p for name, p in language.model.named_parameters() if "lora_" in name}
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()

    def save(self, output: Path, *, merge: bool) -> None:
        """Write the changes, and the language model with them if wished."""
        self.peft.save_pretrained(output / FOLDER)
        if merge:
            self.language.model = self.peft.merge_and_unload()
            self.language.save_pretrained(output / "language_model")
