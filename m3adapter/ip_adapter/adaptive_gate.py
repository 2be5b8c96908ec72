"""A gate that adapts to its task without training: it closes where a new caption is about somebody else.

The rule, for the caption of a reference and the caption of the picture to be painted:

1. The subjects of a caption are its words up to the first preposition, comma or full stop, parted at "and", without
   articles.
2. Each subject, behind "a", is encoded by the decoder's own text encoder (pooled), less the mean of the encodings of
   ANYTHING: what all short phrases have in common says nothing about who is meant.
3. The likeness is the highest cosine between a subject of the one and a subject of the other.
4. The gate is `gate` where the likeness is at least SAME, `lowest` where it is at most OTHER, and in between it lies in
   proportion.
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
    """What the rule says.

    Attributes:
        gate: The strength to use.
        likeness: The highest cosine between subjects, -1..1.
        subjects: The two subjects that are most alike: of the reference, and of the new caption.
    """

    gate: float
    likeness: float
    subjects: tuple[str, str]

    def __str__(self) -> str:
        old, new = self.subjects
        return f"{new!r} is like {old!r} of the reference by {self.likeness:.2f}"


def subjects(caption: str) -> list[str]:
    """Whom or what a caption is about, in its own words, lower case.

    A caption that begins with a place ("on the beach, a fox") is about what follows. Raises ValueError for an empty
    one.
    """
    text = _OPENING.sub("", caption.strip())
    if not re.search(r"\w", text):
        raise ValueError("A caption is empty: say what the picture shows.")
    for part in re.split(r"[,.;:!?\n]", text):
        phrase = _END.split(part)[0]
        found = [_plain(each) for each in re.split(r"\band\b|&", phrase, flags=re.I)]
        if found := [each for each in found if re.search(r"\w", each)]:
            return found
    return [_plain(text)]


def _plain(phrase: str) -> str:
    return _ARTICLE.sub("", " ".join(phrase.split())).lower()


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
    """The gate for a picture of `caption` that looks at a picture of the caption `reference`.

    Args:
        encode: Pooled embeddings [N, P] of N texts, by the decoder's text encoder.
        reference, caption: The two captions.
        gate: For the same subject.
        lowest: For another one.
        same, other: The likeness from which on a subject counts as the same, and up to which as another one.

    Raises ValueError, one sentence: an empty caption, or thresholds in the wrong order.
    """
    if not other < same:
        raise ValueError(f"other is {other:g} and same is {same:g}: a subject that is the same is more alike.")
    old, new = subjects(reference), subjects(caption)
    known = encode([f"a {phrase}" for phrase in (*ANYTHING, *old, *new)]).float()
    known = functional.normalize(known - known[: len(ANYTHING)].mean(0), dim=-1)
    first, second = known[len(ANYTHING) :].split((len(old), len(new)))
    likeness = first @ second.T
    row, column = divmod(int(likeness.argmax()), len(new))
    best = min(1.0, float(likeness[row, column]))
    part = min(1.0, max(0.0, (best - other) / (same - other)))
    return Verdict(lowest + (gate - lowest) * part, best, (old[row], new[column]))
