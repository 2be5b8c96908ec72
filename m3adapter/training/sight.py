"""Sight for a language model that has none: a visual projection, learned in M3FT's second stage.

Nothing of the model changes, not even its table of embeddings: the projection learns which embeddings of the vision
encoder's features make likely what the assistant says of a picture, and good for the decoder what the model then knows
of a slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..adapter.vision_encoder import POOLED
from ..arguments import UserError, mendable
from ..language.language_model import LanguageModel
from ..language.loading import embedding
from ..language.visual_projection import PROJECTION_NAME, VisualProjection
from .loop import accelerator

if TYPE_CHECKING:
    from ..datasets.sample import Dataset, Sample
    from .models_at_work import Models
    from .recipe import Recipe

MEASURED = 4096  # rows of the table of embeddings on which a projection begins


def shows(sample: Sample) -> bool:
    """Return whether a user shows the language model a picture before the slot."""
    return bool(sample.conversation.user_slots(before=sample.slot))


def wanted(recipe: Recipe) -> bool:
    """Return whether a recipe learns a projection."""
    return recipe.stage2.projection and recipe.stage2.steps > 0


def check_shown(samples: Dataset) -> None:
    """Print how many samples show the language model a picture.

    Raises:
        UserError: None does.
    """
    count = sum(shows(samples[index]) for index in range(len(samples)))
    if not count:
        raise UserError(
            "stage2.projection is true, and no user shows a picture before one of the assistant's, "
            "so there is nothing to learn it from: set it to false."
        )
    if accelerator().is_main_process:
        print(f"pictures of users: {count} of {len(samples)} samples show some", flush=True)


def check_blind(language: LanguageModel) -> None:
    """Raise UserError unless a language model can be given sight, and needs to be."""
    if language.sees != "not at all":
        way = "itself" if language.sees == "natively" else f"through its {PROJECTION_NAME}"
        raise UserError(
            f"stage2.projection is true, and models.language sees users' pictures already, {way}: set it to false."
        )
    if language.config.picture_length != POOLED:
        raise UserError(
            f"stage2.projection is true, and m2chat.json of models.language has {language.config.picture_length} as "
            f"picture_length: set it to {POOLED}, which is how many features of a picture there are."
        )


def give_sight(models: Models, seed: int) -> VisualProjection:
    """Let the language model of a training see, through a new projection that is to be trained.

    Its embeddings begin as scattered as those of words, with the same mean.

    Raises:
        UserError: The tokenizer cannot be given a token for pictures.
    """
    language = models.language
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        projection = VisualProjection(models.vision.hidden_size, language.hidden_size)
    models.at_work("language")
    table = embedding(language.model)
    with torch.no_grad():
        count = len(table.weight)
        words = table(torch.arange(0, count, -(-count // MEASURED), device=table.weight.device)).float()
        projection.norm.weight.copy_(words.std(0))
        projection.norm.bias.copy_(words.mean(0))
    with mendable():
        models.language = LanguageModel(language.model, language.tokenizer, projection, language.config)
    return projection.to(models.device)
