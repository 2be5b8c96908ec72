"""Prompts of any length: encoded in chunks as ComfyUI does it, and brought to one length where a batch needs that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_TOKENS = 2**14  # of embeddings that are brought to one length, and so of a prompt in chunks


def encode_prompts(pipeline: Any, prompts: Sequence[str], negative: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encode prompts with the text encoders of a diffusers pipeline.

    Args:
        pipeline: An SDXL pipeline, of a base model or a refiner.
        prompts: B prompts of any length.
        negative: The negative prompt of all of them.

    Returns:
        As `Condition` takes them: prompt embeddings [B, N, D], pooled embeddings [B, P], and the negative prompt's
        [B, M, D] and [B, P].

    Raises:
        ValueError: A prompt is out of proportion (`is_too_long`).
    """
    too_long = [is_long(pipeline, text) for text in (*prompts, negative)]
    embeds, negative_embeds, pooled, negative_pooled = pipeline.encode_prompt(
        ["" if long else prompt for prompt, long in zip(prompts, too_long, strict=False)],
        device=pipeline.text_encoder_2.device,
        do_classifier_free_guidance=True,
        negative_prompt=None if too_long[-1] else negative.strip() or None,
    )
    if any(too_long[:-1]):
        rows = [
            encode_long(pipeline, prompt) if long else (embeds[row : row + 1], pooled[row : row + 1])
            for row, (prompt, long) in enumerate(zip(prompts, too_long, strict=False))
        ]
        embeds = torch.cat(of_one_length([row_embeds.to(embeds) for row_embeds, _ in rows]))
        pooled = torch.cat([row_pooled.to(pooled) for _, row_pooled in rows])
    if too_long[-1]:
        row_embeds, row_pooled = encode_long(pipeline, negative)
        negative_embeds = row_embeds.to(negative_embeds).expand(len(prompts), -1, -1)
        negative_pooled = row_pooled.to(negative_pooled).expand(len(prompts), -1)
    return embeds, pooled, negative_embeds, negative_pooled


def is_long(pipeline: Any, text: str) -> bool:
    """Return whether a text is longer than the context of one of the pipeline's text encoders."""
    return any(len(_chunks(*pair, text)) > 1 for pair in _encoders(pipeline))


def is_too_long(pipeline: Any, text: str) -> bool:
    """Return whether a text has more tokens than `encode_long` takes."""
    return any(
        len(_chunks(tokenizer, encoder, text)) * encoder.config.max_position_embeddings > MAX_TOKENS
        for tokenizer, encoder in _encoders(pipeline)
    )


def encode_long(pipeline: Any, text: str) -> tuple[Tensor, Tensor]:
    """Encode a text of any length in reason.

    Each chunk is framed by start and end tokens as if it were a prompt of its own.

    Returns:
        Prompt embeddings [1, chunks * N, D], and the pooled embedding [1, P] of the first chunk.

    Raises:
        ValueError: The text is out of proportion: it would take minutes, and no picture shows so much.
    """
    if is_too_long(pipeline, text):
        raise ValueError(
            f"A caption of {len(text.split())} words is too long, it has more than the {MAX_TOKENS} tokens that the "
            "decoder takes: shorten it."
        )
    encoders = list(_encoders(pipeline))
    chunks_of = [_chunks(*pair, text) for pair in encoders]
    count = max(map(len, chunks_of))
    embeds: list[Tensor] = []
    for (tokenizer, encoder), chunks in zip(encoders, chunks_of, strict=True):
        padded = chunks + [[]] * (count - len(chunks))  # two tokenizers may disagree on how long a text is
        ids = torch.tensor([_framed(tokenizer, encoder, chunk) for chunk in padded], device=encoder.device)
        output = encoder(ids, output_hidden_states=True)
        embeds.append(output.hidden_states[-2].flatten(0, 1)[None])
        pooled = output[0][:1]  # of the last encoder, which has a projection
    return torch.cat(embeds, dim=-1), pooled


def of_one_length(embeds: Sequence[Tensor]) -> list[Tensor]:
    """Repeat embeddings [B, N, D] of different N up to the least common multiple of their lengths.

    Cross-attention gives the same result for tokens that are repeated, so pictures do not change.

    Raises:
        ValueError: The common length would be out of proportion.
    """
    length = math.lcm(*(tensor.shape[1] for tensor in embeds))
    if not 0 < length <= MAX_TOKENS:
        counts = " and ".join(str(tensor.shape[1]) for tensor in embeds)
        raise ValueError(f"Conditions of {counts} tokens do not go together: encode both with the same text encoder.")
    return [
        tensor if tensor.shape[1] == length else tensor.repeat(1, length // tensor.shape[1], 1) for tensor in embeds
    ]


def _encoders(pipeline: Any) -> Iterator[tuple[Any, Any]]:
    """Iterate over pairs of tokenizer and text encoder; a refiner has only the second pair."""
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        if tokenizer is not None and encoder is not None:
            yield tokenizer, encoder


def _chunks(tokenizer: Any, encoder: Any, text: str) -> list[list[int]]:
    """Return the token ids of a text, split into chunks that leave room for the start and end tokens."""
    ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    room = encoder.config.max_position_embeddings - 2
    return [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]


def _framed(tokenizer: Any, encoder: Any, ids: list[int]) -> list[int]:
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (encoder.config.max_position_embeddings - len(framed))
