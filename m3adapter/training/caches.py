"""Embeddings of captions and latents of scenes, each computed once and kept on the decoder's device.

Both are computed in groups of one size, the last of which is filled up, so that what is computed for a sample does not
depend on what else a step needs: a training has the same losses with the caches and without them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import kept
from .decoder_pictures import Pipeline, embed, encode_pictures
from .worlds import World, open_world

GROUP = 32  # captions, or pictures, that are computed together
RENDERS = 4  # different renders of a scene
NAME_BYTES = 16


class Table:
    """Rows of several tensors by name; keeps as many as fit.

    Args:
        megabytes: The most memory that they take; 0 keeps none.
    """

    def __init__(self, megabytes: float) -> None:
        self.room = int(megabytes * 2**20)
        self.rows: dict[Hashable, int] = {}
        self.tensors: list[Tensor] = []

    def add(self, names: Sequence[Hashable], *values: Tensor) -> None:
        """Keep rows [names, ...] of each tensor, as long as there is room."""
        each = sum(value[0].numel() * value.element_size() for value in values)
        count = max(min(len(names), self.room // each - len(self.rows)), 0)
        if not count:
            return
        start, end = len(self.rows), len(self.rows) + count
        if not self.tensors or end > len(self.tensors[0]):
            size = min(max(2 * end, 1024), max(self.room // each, end))
            grown = [value.new_empty(size, *value.shape[1:]) for value in values]
            for new, old in zip(grown, self.tensors, strict=False):
                new[:start] = old[:start]
            self.tensors = grown
        for table, value in zip(self.tensors, values, strict=True):
            table[start:end] = value[:count]
        self.rows.update(zip(names[:count], range(start, end), strict=True))

    def take(self, names: Sequence[Hashable], fresh: dict[Hashable, int], *values: Tensor) -> list[Tensor]:
        """Return the rows of `names`, those in `fresh` from `values`, which were made for this call."""
        if not fresh:
            places = torch.tensor([self.rows[name] for name in names])
            return [table[places.to(table.device)] for table in self.tensors]
        found = [value.new_empty(len(names), *value.shape[1:]) for value in values]
        for source, rows in ((self.tensors, self.rows), (values, fresh)):
            chosen = [(place, rows[name]) for place, name in enumerate(names) if (name in fresh) == (rows is fresh)]
            if chosen:
                to, of = (torch.tensor(part, device=found[0].device) for part in zip(*chosen, strict=True))
                for into, tensor in zip(found, source, strict=True):
                    into[to] = tensor[of]
        return found


class CaptionEmbeddings:
    """The decoder's own embeddings of captions.

    Args:
        pipeline: The decoder.
        megabytes: The most memory of those that are kept; 0 keeps none.
    """

    def __init__(self, pipeline: Pipeline, megabytes: float) -> None:
        self.pipeline, self.table = pipeline, Table(megabytes)

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, N, D] and pooled ones [B, P] of captions."""
        missing = [caption for caption in dict.fromkeys(captions) if caption not in self.table.rows]
        made: list[Tensor] = []
        if missing:
            groups = [embed(self.pipeline, filled(missing[at : at + GROUP])) for at in range(0, len(missing), GROUP)]
            made = [torch.cat(parts)[: len(missing)] for parts in zip(*groups, strict=True)]
        embeds, pooled = self.table.take(captions, {caption: row for row, caption in enumerate(missing)}, *made)
        if missing:
            self.table.add(missing, *made)
        return embeds, pooled


class SceneLatents:
    """Scaled latents of renders of scenes; each scene has RENDERS.

    Args:
        pipeline: The decoder.
        megabytes: The most memory of those that are kept; 0 keeps none.
        path: A file that keeps them between runs.
        world: What is drawn; the storybook by default.
    """

    def __init__(
        self, pipeline: Pipeline, megabytes: float, path: Path | None = None, world: World | None = None
    ) -> None:
        self.pipeline, self.table, self.path = pipeline, Table(megabytes), path if megabytes else None
        self.world = world or open_world("storybook")
        self.key = kept.digest(kept.world_digest(self.world.name), pipeline.vae) if self.path else ""
        self.saved = 0
        if self.path is not None and (found := kept.read(self.path, self.key)) is not None:
            names = [bytes(row) for row in found["names"].tolist()]
            self.table.add(names, found["latents"].to(pipeline.vae.device))
            self.saved = len(self.table.rows)

    def __call__(self, scenes: Sequence[Any], rng: random.Random) -> Tensor:
        """Return the latents [B, C, h, w] of one of the renders of each scene, in bfloat16 on the decoder's device."""
        wanted = [(scene, rng.randrange(RENDERS)) for scene in scenes]
        names = [hashlib.blake2b(repr(pair).encode(), digest_size=NAME_BYTES).digest() for pair in wanted]
        missing = {name: pair[0] for name, pair in zip(names, wanted, strict=True) if name not in self.table.rows}
        made: list[Tensor] = []
        if missing:
            fresh = list(missing.items())
            parts = [self._encode(filled(fresh[at : at + GROUP])) for at in range(0, len(fresh), GROUP)]
            made = [torch.cat(parts)[: len(fresh)]]
        (latents,) = self.table.take(names, {name: row for row, name in enumerate(missing)}, *made)
        if missing:
            self.table.add(list(missing), *made)
        return latents

    def _encode(self, named: Sequence[tuple[bytes, Any]]) -> Tensor:
        from .autoencoder import to_tensor

        renders = [self.world.draw(scene, int.from_bytes(name[:4], "big") >> 1)[0] for name, scene in named]
        return encode_pictures(self.pipeline, to_tensor(renders), GROUP)

    def save(self) -> None:
        """Keep the latents for the next run, if there are more than before."""
        count = len(self.table.rows)
        if self.path is None or count == self.saved:
            return
        names = torch.tensor([list(name) for name in self.table.rows], dtype=torch.uint8)  # type: ignore[call-overload]
        kept.write(self.path, self.key, {"names": names, "latents": self.table.tensors[0][:count]})
        self.saved = count


def near(tensor: Tensor, device: torch.device | str, megabytes: float) -> Tensor:
    """Return a tensor on the device if it takes at most so much of its memory, and otherwise where it is."""
    return tensor.to(device) if tensor.numel() * tensor.element_size() <= megabytes * 2**20 else tensor


def filled(items: Sequence[Any]) -> list[Any]:
    """Return a group of GROUP items that begins with these and goes on with the last one."""
    return [*items, *[items[-1]] * (GROUP - len(items))]
