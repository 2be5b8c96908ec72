"""A gate that adapts without training: it closes if a new caption is about a different subject from the reference.

The rule, given the caption of a reference and the caption of the picture to be painted:

1. The subjects of a caption are its words up to the first preposition, comma or full stop, split at "and", without
   articles.
2. Each subject, preceded by "a", is encoded by the decoder's own text encoder (pooled). The mean encoding of ANYTHING
   is subtracted, because what all short phrases have in common does not identify a subject.
3. The likeness is the highest cosine between a subject of one caption and a subject of the other.
4. The gate is `gate` if the likeness is at least SAME, `lowest` if it is at most OTHER, and interpolated in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

Encode = Callable[[Sequence[str]], Tensor]

SAME, OTHER = 0.85, 0.55
ANYTHING = (
    "man", "woman", "girl", "boy", "baby", "old man", "dog", "cat", "bird", "horse", "bear", "mouse", "fish", "dragon",
    "robot", "king", "witch", "knight", "monster", "ship", "car", "house", "castle", "tree", "flower", "mountain",
)  # fmt: skip
_PREPOSITIONS = (
    "about|above|across|after|against|along|among|around|as|at|before|behind|below|beneath|beside|between|by|during|for|"
    "from|in|inside|into|near|of|off|on|onto|outside|over|past|through|to|toward|towards|under|underneath|up|upon|"
    "while|who|whose|which|that|with|within|without"
)
_ARTICLE = re.compile(r"^(?:an?|the|this|his|her|its|their|our|my|your)\s+(?=\w)", re.I)
_OPENING = re.compile(
    r"^\W*(?:an?|the)?\s*(?:picture|photo(?:graph)?|drawing|painting|illustration|image)\s+of\s+", re.I
)
_END = re.compile(rf"[,.;:!?\n]|\b(?:{_PREPOSITIONS})\b", re.I)


@dataclass(frozen=True)
class Verdict:
    """The result of the rule.

    Attributes:
        gate: The strength to use.
        likeness: The highest cosine between subjects, -1..1.
        subjects: The two most similar subjects: of the reference, and of the new caption.
    """

    gate: float
    likeness: float
    subjects: tuple[str, str]

    def __str__(self) -> str:
        """Return a phrase that names both subjects and their likeness."""
        old, new = self.subjects
        return f"{new!r} and the reference's {old!r} have a similarity of {self.likeness:.2f}"


def subjects(caption: str) -> list[str]:
    """Return whom or what a caption is about, in its own words, in lower case.

    The subject of a caption that begins with a place ("on the beach, a fox") is what follows.

    Raises:
        ValueError: The caption is empty.
    """
    text = _OPENING.sub("", caption.strip())
    if not re.search(r"\w", text):
        raise ValueError("A caption is empty: say what the picture shows.")
    for part in re.split(r"[,.;:!?\n]", text):
        phrase = _END.split(part)[0]
        nouns = [_plain(noun) for noun in re.split(r"\band\b|&", phrase, flags=re.I)]
        if nouns := [noun for noun in nouns if re.search(r"\w", noun)]:
            return nouns
    return [_plain(text)]


def _plain(phrase: str) -> str:
    return _ARTICLE.sub("", " ".join(phrase.split())).lower()


def compared(*captions: str) -> list[str]:
    """Return the texts that the rule encodes to compare captions."""
    return [
        f"a {phrase}" for phrase in (*ANYTHING, *(subject for caption in captions for subject in subjects(caption)))
    ]


def adapted_gate(
    encode: Encode,
    reference: str,
    caption: str,
    *,
    gate: float,
    lowest: float = 0.0,
    same: float = SAME,
    other: float = OTHER,
) -> Verdict:
    """Return the gate for a picture of `caption` that attends to a picture of the caption `reference`.

    Args:
        encode: Returns pooled embeddings [N, P] of N texts, by the decoder's text encoder.
        reference: Caption of the reference.
        caption: Caption of the picture to be painted.
        gate: Strength for the same subject.
        lowest: Strength for another subject.
        same: Likeness at and above which a subject counts as the same.
        other: Likeness at and below which a subject counts as a different one.

    Raises:
        ValueError: A caption is empty, or the thresholds are in the wrong order.
    """
    if not other < same:
        raise ValueError(f"other is {other:g} and same is {same:g}: same must be above other.")
    old, new = subjects(reference), subjects(caption)
    pooled = encode(compared(reference, caption)).float()
    directions = functional.normalize(pooled - pooled[: len(ANYTHING)].mean(0), dim=-1)
    first, second = directions[len(ANYTHING) :].split((len(old), len(new)))
    likeness = first @ second.T
    row, column = divmod(int(likeness.argmax()), len(new))
    best = min(1.0, float(likeness[row, column]))
    fraction = min(1.0, max(0.0, (best - other) / (same - other)))
    return Verdict(lowest + (gate - lowest) * fraction, best, (old[row], new[column]))
