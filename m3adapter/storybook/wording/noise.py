"""Imperfections of typed messages: case, missing full stops, typing errors, and text without words."""

from __future__ import annotations

import random

from ..world import LOOKS, PLACES, PROPS, SPECIES
from .requests import COUNTS

_COUNTED = (
    "pictures", "panels", "images", "parts", "scenes", "frames", "steps", "sketches", "paintings", "pages", "chapters",
    "photos", "illustrations", "drawings",
)  # fmt: skip
_KEEP = frozenset((*SPECIES, *PLACES, *PROPS, *LOOKS, *_COUNTED, *(word for pair in COUNTS.values() for word in pair)))
_TAILS = (" please", " :)", "!!!", " ...", " thx", " 😊", "  ", " pls", " ❤️", "!", " ok?", " (for kids)")
_HEADS = ("hey, ", "please: ", "ok ", "so, ", "hi! ", " ", "well, ", "> ", "- ", '"')
# Letters of some of the world's scripts, and emoji: (first, last) code points.
_SCRIPTS = (
    (0x41, 0x7A), (0x410, 0x44F), (0x3B1, 0x3C9), (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939), (0x3042, 0x3093),
    (0x4E00, 0x5E00), (0xAC00, 0xAE00), (0x1F600, 0x1F640), (0x30, 0x39), (0xC0, 0x17F),
)  # fmt: skip


def noisy(rng: random.Random, text: str, *, amount: float = 1.0) -> str:
    """Change a message as users may have typed it; names of things that can be drawn remain readable.

    Args:
        rng: The random numbers.
        text: The correct message.
        amount: How careless the user is: 0 changes nothing, 1 is usual in training stories.
    """
    if rng.random() < 0.06 * amount:
        text = rng.choice(_HEADS) + (text[:1].lower() + text[1:])
    if rng.random() < 0.18 * amount:
        text = text.rstrip(".!") or text
    if rng.random() < 0.08 * amount:
        text += rng.choice(_TAILS)
    if rng.random() < 0.07 * amount:
        text = _slip(rng, text)
    draw = rng.random() / max(amount, 1e-9)
    if draw < 0.18:
        return text.lower()
    if draw < 0.225:
        return text.upper()
    if draw < 0.245:
        return text.title()
    return text


def gibberish(rng: random.Random) -> str:
    """Return meaningless text in some script."""
    low, high = rng.choice(_SCRIPTS)
    words = ["".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 5))]
    return " ".join(words)


def _slip(rng: random.Random, text: str) -> str:
    """Drop, double or swap a letter of a long word on which the picture does not depend."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) > 3 and word.strip(".,!?:").lower() not in _KEEP]
    if not long:
        return text
    index = rng.choice(long)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        word = word[:at] + word[at + 1 :]
    elif kind == 1:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[index] = word
    return " ".join(words)
