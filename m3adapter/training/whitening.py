"""Whitened text embeddings for the training of a decoder, folded into its weights afterwards.

A text encoder spends most of its variance on where a word stands; what tells a fox from an owl is a few percent of
it, and cross-attention learns it slowly. Trained on embeddings whose directions all count alike, it learns as from
words given directly. The map is linear, so that the finished weights take the embeddings as they come.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FLOOR = 0.1  # added to the deviation of every direction: what hardly varies is not blown up


@dataclass(frozen=True)
class Whitening:
    """Symmetric maps of prompt embeddings [D, D] and of pooled ones [P, P]; no offset, so that zero stays zero."""

    embeds: Tensor
    pooled: Tensor

    @classmethod
    def measure(cls, embeds: Tensor, pooled: Tensor) -> Whitening:
        """The maps for embeddings such as these, [B, N, D] and [B, P]."""
        return cls(_inverse_root(embeds.flatten(0, 1)), _inverse_root(pooled))

    def __call__(self, embeds: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings as the UNet in training takes them."""
        return embeds @ self.embeds, pooled @ self.pooled

    @torch.no_grad()
    def fold(self, unet: nn.Module) -> None:
        """Make a UNet that was trained on whitened embeddings take plain ones, in place."""
        self._apply(unet, self.embeds, self.pooled)

    @torch.no_grad()
    def unfold(self, unet: nn.Module) -> None:
        """The inverse of `fold`: make a finished UNet take whitened embeddings, to train it further."""
        self._apply(unet, torch.linalg.inv(self.embeds), torch.linalg.inv(self.pooled))

    @staticmethod
    def _apply(unet: nn.Module, embeds: Tensor, pooled: Tensor) -> None:
        for name, module in unet.named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                module.weight.copy_(module.weight @ embeds)
        first = unet.get_parameter("add_embedding.linear_1.weight")[:, : len(pooled)]  # the sizes' embedding follows
        first.copy_(first @ pooled)


def _inverse_root(rows: Tensor) -> Tensor:
    """The symmetric matrix that makes `rows` [count, D] of unit second moment in every direction, but for FLOOR."""
    variances, directions = torch.linalg.eigh((rows.T @ rows / len(rows)).double())
    scale = 1 / (variances.clamp_min(0).sqrt() + FLOOR)
    return ((directions * scale) @ directions.T).to(rows.dtype)
