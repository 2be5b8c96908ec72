"""What conditions are compared with: the decoder's own embeddings of captions, and a picture's own embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .whitening import Whitening

if TYPE_CHECKING:
    from ..adapter.vision_encoder import VisionEncoder
    from ..conversation.segments import Picture
    from ..datasets.sample import Sample
    from .frozen import Frozen

POOLED_WEIGHT = 0.3  # of the pooled embeddings' error
MEASURED = 512  # captions, and pictures, that are measured
TELLING = 0.05  # how much more alike a picture and its caption must be than others, to share a space


class TextTarget:
    """The decoder's own embeddings of captions, and the distance of a condition from them.

    Distances are measured between whitened embeddings: most of the plain variance is about the position of words, and
    an error that is small beside it can still turn a fox into an owl.
    """

    def __init__(self, frozen: Frozen, captions: Sequence[str]) -> None:
        """Measure the whitening on captions."""
        self.frozen = frozen
        self.whitening = Whitening.measure(*frozen.embeddings_of(captions[:MEASURED]))

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, N, D] and pooled ones [B, P] of captions."""
        return self.frozen.embeddings_of(captions)

    def told(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Return what only the references tell, as differences of embeddings [B, N, D] and of pooled ones [B, P].

        They are zero for samples of which nobody knows what their references tell, or that they tell anything.
        """
        rows = [row for row, sample in enumerate(samples) if sample.told]
        # If there are none, the first sample is compared with itself.
        chosen = [samples[row] for row in rows or [0]]
        captions = [sample.meaning for sample in chosen]
        whole = [sample.whole_caption if rows else sample.meaning for sample in chosen]
        found = []
        for part in self([*captions, *whole]):
            before, after = part.chunk(2)
            differences = before.new_zeros(len(samples), *before.shape[1:])
            differences[rows or [0]] = after - before
            found.append(differences)
        return found[0], found[1]

    def distances(self, actual: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean squared error [B] of whitened embeddings and pooled ones."""
        embeds, pooled = self.whitening(actual[0].float() - target[0], actual[1].float() - target[1])
        return embeds.pow(2).flatten(1).mean(1) + POOLED_WEIGHT * pooled.pow(2).mean(1)


class PictureText:
    """Embeddings of pictures in the space of the decoder's pooled text embeddings.

    A CLIP vision model with a projection gives them if the decoder's second text encoder is its other half. Whether it
    is, is measured: pictures must be more like their own captions than like others. Means are taken away from both, for
    all pictures of a CLIP are more alike than any picture and its caption.

    Args:
        encoder: The vision encoder.
        projection: Of its pooled state [P, D].
        mean: Mean embedding of pictures [P].
        text_mean: Mean embedding of captions [P].
    """

    def __init__(self, encoder: VisionEncoder, projection: Tensor, mean: Tensor, text_mean: Tensor) -> None:
        self.encoder, self.projection, self.mean, self.text_mean = encoder, projection, mean, text_mean

    @classmethod
    def measure(cls, folder: Path, frozen: Frozen, samples: Sequence[Sample]) -> PictureText | None:
        """Return them for the encoder in a folder; None if its embeddings are not in the decoder's space."""
        projection = read_projection(folder)
        decoder, encoder = frozen.models.decoder, frozen.models.vision
        if projection is None or projection.shape[0] != decoder.pooled_width or len(samples) < 4:
            return None
        projection = projection.to(frozen.models.device)
        found = cls(encoder, projection, torch.zeros(()), torch.zeros(()))
        frozen.models.at_work("vision")
        pictures = torch.stack([found.raw(sample.picture) for sample in samples])
        _, texts = frozen.embeddings_of([sample.caption for sample in samples])
        texts = functional.normalize(texts, dim=-1)
        found.mean, found.text_mean = pictures.mean(0), texts.mean(0)
        alike = (
            functional.normalize(pictures - found.mean, dim=-1)
            @ functional.normalize(texts - found.text_mean, dim=-1).T
        )
        own = alike.diagonal().mean()
        others = (alike.sum() - alike.diagonal().sum()) / (alike.numel() - len(alike))
        return found if own - others > TELLING else None

    @torch.no_grad()
    def raw(self, picture: Picture) -> Tensor:
        """Return the normalised embedding [P] of a picture."""
        state = self.encoder.embed([picture.pixels])[0].float()
        return functional.normalize(self.projection.float() @ state, dim=-1)

    def distances(self, pooled: Tensor, pictures: Tensor) -> Tensor:
        """Return how far pooled embeddings [B, P] are from those of pictures [B, P], by the cosine, 0..2."""
        texts = functional.normalize(pooled.float(), dim=-1) - self.text_mean
        return 1 - functional.cosine_similarity(texts, pictures - self.mean, dim=-1)


def read_projection(folder: Path) -> Tensor | None:
    """Return the projection [P, D] of a CLIP vision model in a folder, None if its files hold none."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if "visual_projection.weight" in file.keys():  # noqa: SIM118 - it is no dictionary
                return file.get_tensor("visual_projection.weight").float()
    return None
