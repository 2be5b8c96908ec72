"""The embeddings of prompts: of their words, of the users' pictures among them, and of the image tokens behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .prompts import Prompt
from .visual_projection import VisualProjection


def embedded(
    table: nn.Embedding,
    prompts: Sequence[Prompt],
    seen: Sequence[Tensor | None],
    picture_id: int,
    image_tokens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return right-padded embeddings [B, L, H] and their mask [B, L].

    Args:
        table: The model's embeddings of ids.
        prompts: The prompts.
        seen: For each, the embeddings of its pictures as `projected` returns them.
        picture_id: The id whose places they take. If the table has no such id, pictures that stay unseen are zeros.
        image_tokens: Embeddings [K, H] that follow each prompt.
    """
    device, extra = table.weight.device, 0 if image_tokens is None else len(image_tokens)
    lengths = [len(prompt.ids) + extra for prompt in prompts]
    ids = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt.ids)] = torch.tensor(prompt.ids)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    known = ids < len(table.weight)  # not the token of a picture, for a model that was not made with one
    embeds = table(ids.where(known, 0).to(device))
    if not known.all():
        embeds = embeds.masked_fill(~known[..., None].to(device), 0.0)
    if any(item is not None for item in seen):
        places = ids.eq(picture_id)
        for number, item in enumerate(seen):
            if item is None:
                places[number] = False
        values = torch.cat([item for item in seen if item is not None]).to(embeds.dtype)
        embeds = embeds.index_put(tuple(places.to(device).nonzero().T), values)
    if image_tokens is not None:
        starts = torch.tensor(lengths) - extra
        columns = (starts[:, None] + torch.arange(extra)).to(device)
        rows = torch.arange(len(prompts), device=device)[:, None].expand_as(columns)
        embeds = embeds.index_put((rows, columns), image_tokens.to(embeds).expand(len(prompts), -1, -1))
    return embeds, mask.to(device, torch.long)


def projected(
    projection: VisualProjection | None, prompt: Prompt, features: Sequence[Tensor], length: int
) -> Tensor | None:
    """Return the embeddings [pictures * K, H] of the users' pictures in a prompt; None if they stay unseen.

    Args:
        projection: The model's projection, if it has one.
        prompt: The prompt.
        features: Features [K, D_v] of each picture of users in the conversation, in order; () leaves them unseen.
        length: The number K of tokens that a picture takes.

    Raises:
        ValueError: The number or shape of the features is not what the prompt needs.
    """
    if not prompt.pictures or not features or projection is None:
        return None
    if len(features) <= prompt.pictures[-1]:
        raise ValueError(
            f"The conversation has {prompt.pictures[-1] + 1} user pictures, but features of {len(features)} "
            "were given: give those of every picture."
        )
    chosen = [features[number] for number in prompt.pictures]
    if any(item.dim() != 2 or item.shape[0] != length for item in chosen):
        raise ValueError(f"A picture's features must be [{length}, D_v], not {[tuple(item.shape) for item in chosen]}.")
    weight = next(projection.parameters())
    if chosen[0].shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"The language model learned to see with a vision encoder of width {weight.shape[-1]}, but this one "
            f"has width {chosen[0].shape[-1]}: use the matching one."
        )
    embeddings: Tensor = projection(torch.cat(chosen).to(weight))
    return embeddings
