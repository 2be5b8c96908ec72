"""The configuration of an IP-Adapter, which follows from the shapes in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENCODERS = {1024: "CLIP ViT-H", 1280: "CLIP ViT-bigG"}  # by the width of their image embeddings
DEEP_ENCODERS = {1280: "CLIP ViT-H", 1664: "CLIP ViT-bigG"}  # by the width of their hidden states


@dataclass(frozen=True)
class IPAdapterConfig:
    """Kind and sizes of an IP-Adapter.

    Attributes:
        kind: "base" takes an image embedding [W], "plus" the penultimate hidden states [N, W].
        image_width: Width W of what it takes.
        num_tokens: Number of tokens that it makes from a picture.
        embed_width: Width of the tokens, which is that of the decoder's prompt embeddings.
        layer_widths: Width of each cross-attention that it feeds, in diffusers' order: down, up, middle.
    """

    kind: Literal["base", "plus"]
    image_width: int
    num_tokens: int
    embed_width: int
    layer_widths: tuple[int, ...]

    def describe(self) -> str:
        """Return one sentence that describes the IP-Adapter."""
        return (
            f"IP-Adapter of the kind {self.kind}, {self.num_tokens} tokens {self.embed_width} wide for "
            f"{len(self.layer_widths)} layers; it needs {self.encoder()}."
        )

    def encoder(self) -> str:
        """Return a phrase that names the vision encoder it needs."""
        known = (ENCODERS if self.kind == "base" else DEEP_ENCODERS).get(self.image_width)
        features = f"{'image embeddings' if self.kind == 'base' else 'hidden states'} {self.image_width} wide"
        return f"{known} ({features})" if known else features

    def check_image_width(self, width: int) -> None:
        """Raise ValueError for a vision encoder whose features have another width."""
        if width != self.image_width:
            raise ValueError(
                f"The vision encoder is the wrong one for this IP-Adapter: it gives features {width} wide, but this "
                f"one, of the kind {self.kind}, needs {self.encoder()}."
            )
