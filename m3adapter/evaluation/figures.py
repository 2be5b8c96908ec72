"""The arithmetic of figures: from features of pictures and texts to numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

SUBSET = 1000  # pictures of a subset for KID, as it was published
SUBSETS = 100
SEEN = 64  # pixels a side at which pictures are compared for copies


def mean(values: Iterable[bool]) -> float:
    """Return the fraction of true values to four digits."""
    listed = list(values)
    return round(sum(listed) / max(1, len(listed)), 4)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarity of rows [N, D] and [N, D] as [N]."""
    return functional.cosine_similarity(a.double(), b.double(), dim=-1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarity of all rows [N, D] with all rows [M, D] as [N, M]."""
    return functional.normalize(a.double(), dim=-1) @ functional.normalize(b.double(), dim=-1).T


def frechet_distance(real: Tensor, painted: Tensor) -> float:
    """Return the Fréchet distance of features [N, D] and [M, D], at least 2 of each: FID, if Inception gave them.

    It is torchmetrics' own; only the network is another one, whose features these are.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(painted.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Tensor, painted: Tensor, seed: int = 0) -> float:
    """Return the kernel distance of features [N, D] and [M, D], at least 2 of each: KID, if Inception gave them.

    It is torchmetrics' own. As published it is the mean over 100 subsets of 1000; fewer pictures are one subset.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    count = min(len(real), len(painted))
    subsets, size = (SUBSETS, SUBSET) if count > SUBSET else (1, count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features are kept: they are small
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real.double(), real=True)
    metric.update(painted.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, _ = metric.compute()
    return float(mean)


class _Given(torch.nn.Module):
    """In the place of a network: the features are given already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def within_and_across(
    painted: Tensor, shown: Sequence[Tensor], stories: Sequence[int]
) -> tuple[float | None, float | None]:
    """Return how similar pictures are to those that their own stories showed, and to those of other stories.

    Args:
        painted: Features of pictures [N, D].
        shown: For each, the features of the pictures that its story showed before [M, D]; M may be 0.
        stories: For each, the number of its story.

    Returns:
        The two mean cosine similarities; None where there is nothing to compare.
    """
    owners = [story for story, features in zip(stories, shown, strict=True) for _ in range(len(features))]
    if not owners:
        return None, None
    found = cosines(painted, torch.cat([features for features in shown if len(features)]))
    own = torch.tensor([[owner == story for owner in owners] for story in stories])
    return tuple(float(found[mask].mean()) if mask.any() else None for mask in (own, ~own))  # type: ignore[return-value]


def mm_relevance(reply: Tensor, truth: Tensor) -> float:
    """Return MM-Relevance, as MMDialog defines it, of a reply to what was really said.

    Both are sequences of texts and pictures in the order in which they stand, as CLIP's embeddings. They are aligned
    from left to right: element 1 with element 1, of whatever kind each is, as far as the shorter one reaches. The sum
    of the dot products of the normalised embeddings, divided by the length of the reply, is a precision; by the length
    of the truth, a recall; MM-Relevance is their F1, which is 2 T / (M + N) for a sum T of whatever sign (Feng et al.,
    2022, and `compute_mmrel.py` of their repository).

    Args:
        reply: Embeddings [M, D].
        truth: Embeddings [N, D].
    """
    if not len(reply) or not len(truth):
        return 0.0
    count = min(len(reply), len(truth))
    total = float(cosine(reply[:count], truth[:count]).sum())
    return 2 * total / (len(reply) + len(truth))


def likeness(a: Tensor, b: Tensor) -> float:
    """Return how much two pictures [H, W, 3] look alike as wholes, -1..1, where 1 is a copy.

    It is Pearson's correlation of their values, both scaled to 64 x 64 pixels, or that with one of them mirrored if
    it is higher: brightness, contrast, size and compression do not matter.
    """
    left, right = (_small(picture) for picture in (a, b))
    return max(_correlation(left, right), _correlation(left, right.flip(-1)))


def _small(picture: Tensor) -> Tensor:
    batch = picture.permute(2, 0, 1)[None].double()
    return functional.interpolate(batch, (SEEN, SEEN), mode="bilinear", antialias=True, align_corners=False)[0]


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = (values.flatten() - values.mean() for values in (a, b))
    lengths = a.norm() * b.norm()
    if float(lengths) < 1e-9:  # a picture of one colour is like no other, but like another one of it
        return float(a.norm() < 1e-9 and b.norm() < 1e-9)
    return float(a @ b / lengths)
