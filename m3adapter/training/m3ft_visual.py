"""The visual half of M3FT's second stage: the projection by which the language model sees users' pictures.

The language model is frozen. It has learned from text alone what to do with a stand-in for a picture. The projection
learns to produce the same from real vision features: first by regression on the stand-in, then by the next-token loss
on stories that begin with a picture.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..adapter.vision_encoder import VisionEncoder
from ..language.language_model import LanguageModel
from ..language.visual_projection import VisualProjection
from .language_data import Batch, Stories
from .loop import autocast, cosine
from .tales import Tales

Portrait = Callable[[int, random.Random], Tensor]

# Of the regression: number of pictures, of those held out for measuring, and of those in a step.
PICTURES, HELD_OUT, BATCH = 4000, 400, 256


def stand_in(path: Path) -> Tensor:
    """Return what the language model was given for a clear picture of each species [species, H]."""
    from safetensors.torch import load_file

    weights = load_file(path)
    hidden, count = weights["linear.weight"].shape
    projection = VisualProjection(count, hidden)
    projection.load_state_dict(weights)
    with torch.no_grad():
        return projection(torch.eye(count))


@torch.no_grad()
def seen(encoder: VisionEncoder, portrait: Portrait, species: list[int], rng: random.Random) -> Tensor:
    """Return the features [pictures, 4, D] of a new picture of each species in a list."""
    return encoder.encode([portrait(index, rng) for index in species]).pooled


def picture_parts(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return for every token in `Batch.pictures` the number of its picture and its place in that picture.

    A picture at the end of a row may be incomplete.
    """
    row, column, _ = pictures.T
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1] + 1)
    number = first.cumsum(0) - 1
    return number, column - column[first][number]


def next_token_loss(language: LanguageModel, batch: Batch, features: Tensor) -> Tensor:
    """Return the cross entropy of the assistant's words in a batch whose picture tokens have `features` [N, D]."""
    model, projection = language.model, language.visual_projection
    assert projection is not None
    rows, columns, _ = batch.pictures.T
    embeds = model.get_input_embeddings()(batch.ids)
    embeds = embeds.index_put((rows, columns), projection(features).to(embeds.dtype))
    hidden = model.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, :-1]
    targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
    counted = weights > 0
    losses = functional.cross_entropy(model.lm_head(hidden[counted]).float(), targets[counted], reduction="none")
    return (losses * weights[counted]).sum() / weights.sum()


def fit(
    language: LanguageModel,
    encoder: VisionEncoder,
    target: Tensor | None,
    portrait: Portrait,
    tales: Tales | None = None,
    *,
    steps: int,
    next_token_steps: int,
    seed: int,
) -> None:
    """Train `language.visual_projection` in place.

    Args:
        language: The frozen language model.
        encoder: The frozen vision encoder.
        target: The stand-in's output for each species [species, H]; without it, there is no regression.
        portrait: Draws a picture of a species, given as its index, of the world that the language model knows.
        tales: The stories of that world; the storybook's by default.
        steps: Of the regression.
        next_token_steps: With the next-token loss.
        seed: Chooses pictures and stories.
    """
    projection = language.visual_projection
    assert projection is not None
    projection.requires_grad_(True)
    device = next(projection.parameters()).device
    target = None if target is None else target.to(device)
    rng = random.Random(seed)
    began = time.time()
    optimizer = torch.optim.AdamW(projection.parameters(), lr=3e-3, weight_decay=0.05)
    if target is not None and steps:
        species = [rng.randrange(len(target)) for _ in range(PICTURES)]
        features = torch.cat([seen(encoder, portrait, species[at : at + 64], rng) for at in range(0, PICTURES, 64)])
        truth = torch.tensor(species, device=device)
        kept, held_out = slice(HELD_OUT, None), slice(HELD_OUT)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 3e-3 * cosine(step, step / steps, warmup=20)
            chosen = torch.randint(HELD_OUT, PICTURES, (BATCH,), device=device)
            predicted = projection(features[chosen]).mean(1)
            loss = functional.mse_loss(predicted, target[truth[chosen]]) / target.var()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        shares = []
        for subset in (kept, held_out):
            with torch.no_grad():
                nearest = torch.cdist(projection(features[subset]).mean(1), target).argmin(1)
            shares.append((nearest == truth[subset]).float().mean().item())
        print(f"projection: species {shares[0]:.3f}, of new pictures {shares[1]:.3f}", flush=True)
    stories = Stories(language.tokenizer, 8, 384, tales)
    for step in range(next_token_steps):
        optimizer.param_groups[0]["lr"] = 5e-4 * cosine(step, step / next_token_steps, warmup=10)
        batch = stories.draw(rng).to(device)
        if not len(batch.pictures):
            continue
        number, part = picture_parts(batch.pictures)
        species = batch.pictures[part == 0, 2].tolist()
        features = seen(encoder, portrait, species, rng)[number, part]
        with autocast():
            loss = next_token_loss(language, batch, features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 24:
            print(f"next token step {step + 1} loss {loss.item():.4f} {(time.time() - began) / 60:.1f} min", flush=True)
    projection.requires_grad_(False)
