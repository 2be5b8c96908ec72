"""Evaluators: each measures painted pictures in its own way, beside the samples that they were painted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from ..conversation.segments import Picture
from ..datasets.sample import Sample
from ..storybook import dataset as storybook
from ..storybook.judge import Judge
from .figures import cosine, cosines, frechet_distance, kernel_distance, likeness, within_and_across
from .networks import Embedder, Perceptual, TextEmbedder
from .starter import scores

# Of `likeness`, from which on a picture is a near-copy. Copies by an autoencoder or a strong JPEG are above 0.99;
# different pictures of one place, drawn in the same few colours, stay below 0.975.
COPY = 0.98

# A figure, or the reason why there is none, as a phrase.
Figures = dict[str, "float | str"]

_COMPARED = ("reference", "first", "target", "within", "across")
CLIP_FIGURES = ("clip_t", *(f"clip_i_{what}" for what in _COMPARED))
DINO_FIGURES = tuple(f"dino_{what}" for what in _COMPARED)

NO_REFERENCES = "no sample has reference pictures"
NO_STORIES = "no two of the stories show pictures before the one to paint"
FEW = "it needs at least two pictures"


class Evaluator(Protocol):
    """Measures pictures.

    Attributes:
        name: What it is called in reports.
        needs: What must be given for it, in words; "" if nothing.
        figures: The names of its figures.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see above
    @property
    def needs(self) -> str: ...  # noqa: D102
    @property
    def figures(self) -> tuple[str, ...]: ...  # noqa: D102

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return its figures.

        Args:
            samples: Of the data set.
            pictures: For each sample, the picture that was painted [H, W, 3] in 0..1.
        """


def first_picture(sample: Sample) -> Picture | None:
    """Return the first picture of a sample's story.

    It is the first that the conversation shows, whoever showed it, and else the first reference.
    """
    conversation = sample.conversation
    earlier = (conversation.picture(slot) for slot in conversation.pictures() if slot != sample.slot)
    return next((picture for picture in earlier if not picture.is_open), _oldest(sample))


def stories_of(samples: Sequence[Sample]) -> list[int]:
    """Return the number of each sample's story: those that share a picture, by whatever way, are of one."""
    owner: dict[str, int] = {}
    parents = list(range(len(samples)))

    def root(number: int) -> int:
        while parents[number] != number:
            number = parents[number]
        return number

    for number, sample in enumerate(samples):
        for picture in (sample.picture, *shown_before(sample)):
            parents[root(number)] = root(owner.setdefault(picture.digest, number))
    return [root(number) for number in range(len(samples))]


def shown_before(sample: Sample) -> list[Picture]:
    """Return the pictures that a sample's story shows before its own, as far as they are known."""
    first = first_picture(sample)
    pictures = [reference.picture for reference in sample.references] + ([first] if first is not None else [])
    return list({picture.digest: picture for picture in pictures}.values())


class Likeness:
    """How similar pictures are, by the cosine of a network's features.

    To the references (mean over them), to the first picture of the story, to the picture of the data, to all that the
    story showed before (`within`) and to what the other stories showed (`across`).
    """

    def __init__(self, network: Embedder, name: str) -> None:
        self.network, self.name = network, name
        self.figures: tuple[str, ...] = tuple(f"{name}_{what}" for what in _COMPARED)

    needs = "a vision model"

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return the mean cosine similarities."""
        return self.compare(samples, self.network.embed(pictures))

    def compare(self, samples: Sequence[Sample], painted: Tensor) -> Figures:
        """Return the mean cosine similarities of features [N, D]."""
        known = self.network.known
        to_references, to_first = [], []
        shown: list[Tensor] = []
        for sample, features in zip(samples, painted, strict=True):
            if sample.references:
                references = known([reference.picture for reference in sample.references])
                to_references.append(float(cosines(features[None], references).mean()))
            if (first := first_picture(sample)) is not None:
                to_first.append(float(cosine(features[None], known([first]))))
            before = shown_before(sample)
            shown.append(known(before) if before else features[None][:0])
        targets = known([sample.picture for sample in samples])
        within, across = within_and_across(painted, shown, stories_of(samples))
        found: dict[str, float | str] = {
            "reference": _mean(to_references),
            "first": _mean(to_first),
            "target": float(cosine(painted, targets).mean()),
            "within": NO_REFERENCES if within is None else within,
            "across": NO_STORIES if across is None else across,
        }
        return {f"{self.name}_{what}": value for what, value in found.items()}


class Clip(Likeness):
    """CLIP-T, the cosine of a picture and its caption; and CLIP-I, that of pictures: see `Likeness`."""

    needs = "CLIP"

    def __init__(self, network: TextEmbedder) -> None:
        super().__init__(network, "clip_i")
        self.texts = network
        self.figures = CLIP_FIGURES

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return the mean cosine similarities."""
        painted = self.network.embed(pictures)
        captions = self.texts.embed_texts([sample.caption for sample in samples])
        return {"clip_t": float(cosine(painted, captions).mean()), **self.compare(samples, painted)}


class Distances:
    """FID and KID of the painted pictures and those of the data, by a network's features."""

    name, needs = "distances", "a vision model"
    figures = ("fid", "kid")

    def __init__(self, network: Embedder) -> None:
        self.network = network

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return both distances."""
        if len(samples) < 2:
            return dict.fromkeys(self.figures, FEW)
        real, painted = self.network.known([sample.picture for sample in samples]), self.network.embed(pictures)
        return {"fid": frechet_distance(real, painted), "kid": kernel_distance(real, painted)}


class Perception:
    """LPIPS to the references (mean over them), to the first picture of the story, and to the picture of the data."""

    name, needs = "lpips", "the weights of LPIPS's backbone"
    figures = ("lpips_reference", "lpips_first", "lpips_target")

    def __init__(self, network: Perceptual) -> None:
        self.network = network

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return the mean distances; 0 is a copy."""
        references: list[float] = []
        first: list[float] = []
        target: list[float] = []
        for sample, picture in zip(samples, pictures, strict=True):
            for values, others in (
                (references, [reference.picture for reference in sample.references]),
                (first, [one] if (one := first_picture(sample)) is not None else []),
                (target, [sample.picture]),
            ):
                if others:
                    found = [self.network.distance(picture, other.pixels) for other in others]
                    values.append(sum(found) / len(found))
        return dict(zip(self.figures, map(_mean, (references, first, target)), strict=True))


class Copies:
    """The part of the pictures that are near-copies of a reference: `figures.likeness` of at least 0.98."""

    name, needs = "copies", ""
    figures = ("copy_paste",)

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return the copy-paste rate of the samples that have references."""
        copied = [
            float(any(likeness(picture, reference.picture.pixels) >= COPY for reference in sample.references))
            for sample, picture in zip(samples, pictures, strict=True)
            if sample.references
        ]
        return {"copy_paste": _mean(copied)}


class Judged:
    """The storybook's judge: the parts of the pictures with the right species, scene and prop, and of the looks kept.

    Args:
        judge: Classifies pictures.
        scenes: What the samples of the storybook show, by their source.
    """

    name, needs = "judge", "the storybook's own stories"
    figures = ("species", "scene", "prop", "appearance_kept")

    def __init__(self, judge: Judge, scenes: Mapping[str, storybook.Sample]) -> None:
        self.judge, self.scenes = judge, scenes

    def measure(self, samples: Sequence[Sample], pictures: Sequence[Tensor]) -> Figures:
        """Return the fractions."""
        from ..storybook.render import SIZE

        if any(tuple(picture.shape[:2]) != (SIZE, SIZE) for picture in pictures):
            return dict.fromkeys(self.figures, f"the judge looks at pictures of {SIZE} x {SIZE} pixels only")
        chosen = [self.scenes[sample.source] for sample in samples]
        return dict(scores(chosen, self.judge.judge(list(pictures))))


def _oldest(sample: Sample) -> Picture | None:
    return sample.references[0].picture if sample.references else None


def _mean(values: Iterable[float]) -> float | str:
    listed = list(values)
    return sum(listed) / len(listed) if listed else NO_REFERENCES
