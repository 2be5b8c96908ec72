"""Captions as people type them: in other words, without articles, in capitals, with a name alone for who is known."""

from __future__ import annotations

import random
import re

from .dataset import Sample
from .words import caption
from .world import Split

NAME_ALONE = 0.6  # part of the names of known characters that stand alone: "Milo" for "Milo the fox"
UNNAMED = 0.2  # part of the captions that do not use the names that characters have


def retyped(rng: random.Random, sample: Sample, split: Split = "train") -> Sample:
    """Return a sample whose caption says the same in other words; what it means is as it was."""
    names = () if rng.random() < UNNAMED else sample.names
    text = caption(sample.scene, sample.said, rng, split=split, names=names)
    for name, who, actor in zip(names, sample.who, sample.scene.characters, strict=False):
        if name and who in sample.met and rng.random() < NAME_ALONE:
            text = re.sub(rf"\b{re.escape(name)} the {actor.species}\b", name, text)
    if {*sample.who} <= sample.met and rng.random() < 0.4:
        text = re.sub(rf"\ban? (?={_kinds(sample)}\b)", "the ", text)
    return sample.recaptioned(cased(rng, text))


def cased(rng: random.Random, text: str) -> str:
    """Return a text as typed: as it is, or begun with a capital, or all small or large."""
    draw = rng.random()
    if draw < 0.3:
        return text[:1].upper() + text[1:]
    if draw < 0.4:
        return text.lower()
    return text.upper() if draw < 0.44 else text


def _kinds(sample: Sample) -> str:
    return f"(?:{'|'.join(sorted({actor.species for actor in sample.scene.characters}))})"
