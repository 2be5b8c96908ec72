"""The loss on the assistant's own words, from which a LoRA and a visual projection learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from ..language.loading import embedding
from ..language.prompt_embeddings import embedded, projected

if TYPE_CHECKING:
    from ..datasets.sample import Sample
    from ..language.language_model import LanguageModel


def word_losses(language: LanguageModel, samples: Sequence[Sample], shown: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the cross entropy [B] of each sample's answer up to and with its caption, as it should say them.

    Args:
        language: The language model.
        samples: The samples.
        shown: For each, the features [K, D_v] of the users' pictures before the slot; () leaves them unseen.
    """
    model, length = language.model, language.config.picture_length
    picture = cast(int, language.tokenizer.convert_tokens_to_ids(language.config.picture_token))
    losses = []
    for sample, features in zip(samples, shown, strict=True):
        prompt = language.prompts.for_slot(sample.conversation, sample.slot, language.context_length)
        said = sorted({*prompt.answer, *prompt.caption})
        ids = torch.tensor(prompt.ids, device=model.device)
        if language.sees == "natively":  # it finds its places by ids
            inputs = {"input_ids": ids[None]}
        else:
            seen = projected(language.visual_projection, prompt, features, length)
            inputs = {"inputs_embeds": embedded(embedding(model), [prompt], [seen], picture)[0]}
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[0]
        places = torch.tensor([place - 1 for place in said if place], device=hidden.device)
        logits = model.get_output_embeddings()(hidden[places])
        losses.append(functional.cross_entropy(logits.float(), ids[places + 1]))
    return torch.stack(losses)
