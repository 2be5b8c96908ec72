"""Prompts of any length: encoded in chunks as ComfyUI does it, and brought to one length where a batch needs that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

MOST_TOKENS = 2**14  # of embeddings that were brought to one length


def is_long(pipeline: Any, text: str) -> bool:
    """Whether one of the pipeline's tokenizers makes more of a text than its encoder reads at once."""
    return any(len(_chunks(*pair, text)) > 1 for pair in _encoders(pipeline))


def encode_long(pipeline: Any, text: str) -> tuple[Tensor, Tensor]:
    """Prompt embeddings [1, chunks * N, D] and pooled embedding [1, P] of a text of any length.

    Every chunk has a prompt's beginning and end around it, as if it were one by itself. The pooled embedding is the
    first one's.
    """
    encoders = list(_encoders(pipeline))
    split = [_chunks(*pair, text) for pair in encoders]
    count = max(map(len, split))
    found: list[Tensor] = []
    for (tokenizer, encoder), chunks in zip(encoders, split, strict=True):
        chunks += [[]] * (count - len(chunks))  # two tokenizers may not agree on how long a text is
        ids = torch.tensor([_framed(tokenizer, encoder, chunk) for chunk in chunks], device=encoder.device)
        out = encoder(ids, output_hidden_states=True)
        found.append(out.hidden_states[-2].flatten(0, 1)[None])
        pooled = out[0][:1]  # the last encoder's, which has a projection
    return torch.cat(found, dim=-1), pooled


def of_one_length(embeds: Sequence[Tensor]) -> list[Tensor]:
    """Embeddings [B, N, D] of several N, each repeated up to the least common multiple.

    Attention finds in tokens that are there several times what it finds in them once, so a picture stays the same.
    Raises ValueError where the multiple is out of proportion.
    """
    length = math.lcm(*(each.shape[1] for each in embeds))
    if not 0 < length <= MOST_TOKENS:
        counts = " and ".join(str(each.shape[1]) for each in embeds)
        raise ValueError(f"Conditions of {counts} tokens do not go together: encode both with the same text encoder.")
    return [each if each.shape[1] == length else each.repeat(1, length // each.shape[1], 1) for each in embeds]


def _encoders(pipeline: Any) -> Iterator[tuple[Any, Any]]:
    """Tokenizers and text encoders; a refiner has the second ones alone."""
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        if tokenizer is not None and encoder is not None:
            yield tokenizer, encoder


def _chunks(tokenizer: Any, encoder: Any, text: str) -> list[list[int]]:
    """The ids of a text, as many at a time as there is room for between the marks of beginning and end."""
    ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    room = encoder.config.max_position_embeddings - 2
    return [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]


def _framed(tokenizer: Any, encoder: Any, ids: list[int]) -> list[int]:
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (encoder.config.max_position_embeddings - len(framed))
