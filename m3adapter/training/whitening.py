"""Whitened text embeddings for the training of a decoder, folded into its weights afterwards.

Most of the variance of a text encoder's embeddings is about the position of a word; the difference between a fox and an
owl is a few percent of it, which cross-attention learns slowly. It learns much faster from embeddings that vary equally
in all directions. The map is linear, so the finished weights can take the embeddings as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FLOOR = 0.1  # added to the deviation of every direction, so that those with little variance are not amplified


@dataclass(frozen=True)
class Whitening:
    """Symmetric maps of prompt embeddings [D, D] and of pooled ones [P, P]; they have no offset and keep zero."""

    embeds: Tensor
    pooled: Tensor

    @classmethod
    def measure(cls, embeds: Tensor, pooled: Tensor) -> Whitening:
        """Return the maps for embeddings such as these, [B, N, D] and [B, P]."""
        return cls(_inverse_root(embeds.flatten(0, 1)), _inverse_root(pooled))

    def __call__(self, embeds: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Whiten embeddings for a UNet in training."""
        return embeds @ self.embeds, pooled @ self.pooled

    @torch.no_grad()
    def fold(self, unet: nn.Module) -> None:
        """Change a UNet that was trained on whitened embeddings, in place, so that it takes plain ones."""
        self._apply(unet, self.embeds, self.pooled)

    @torch.no_grad()
    def unfold(self, unet: nn.Module) -> None:
        """Undo `fold`: let a finished UNet take whitened embeddings, so that it can be trained further."""
        self._apply(unet, torch.linalg.inv(self.embeds), torch.linalg.inv(self.pooled))

    @staticmethod
    def _apply(unet: nn.Module, embeds: Tensor, pooled: Tensor) -> None:
        for name, module in unet.named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                weight = module.get_parameter("weight")
                weight.copy_(weight @ embeds)
        first = unet.get_parameter("add_embedding.linear_1.weight")[:, : len(pooled)]  # before that of the sizes
        first.copy_(first @ pooled)


def _inverse_root(rows: Tensor) -> Tensor:
    """Return the symmetric matrix that gives `rows` [count, D] a unit second moment in every direction, up to FLOOR."""
    variances, directions = torch.linalg.eigh((rows.T @ rows / len(rows)).double())
    scale = 1 / (variances.clamp_min(0).sqrt() + FLOOR)
    return ((directions * scale) @ directions.T).to(rows.dtype)
