"""Pairs of pictures that show the same: found in conversations by name, by neighbourhood or by likeness.

Nobody has to label who is in which picture: stories say it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..conversation.references import Reference
from ..values import number
from .sample import Dataset, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from .report import Report

# Words that begin sentences and captions, and are nobody's name.
_OPENERS = (
    "a an the this that these those there here it its he she they we you i his her their our my your two three four "
    "five six some many several all both each every no one another other in on at by to of for from with without under "
    "over above below behind before after near inside outside between into through across along around up down out and "
    "or but so then now when while where what who why how if as is are was were be do does did can could will would "
    "may let lets show draw paint make give please yes not just close picture photo photograph image illustration "
    "drawing painting portrait view scene once"
)
OPENERS = frozenset(_OPENERS.split())
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_SENTENCE = re.compile(r"(?:^|[.!?…:]|\n)[\s\"'“”‘’(\[*-]*$")


MOST = 2  # pictures that a sample is paired with, by each way of finding them


class Pair(NamedTuple):
    """Two pictures of a data set that show the same, by the indices of their samples.

    Attributes:
        one: The picture that was there first.
        other: The picture that should agree with it.
        name: Whom both show; "" if only neighbourhood or likeness says so.
    """

    one: int
    other: int
    name: str = ""


def by_name(names: Sequence[Iterable[str]], conversations: Sequence[int]) -> Iterator[Pair]:
    """Yield pairs whose captions name the same character in one conversation: with the first such picture and the last.

    Args:
        names: The names in each sample's caption.
        conversations: The number of each sample's conversation; names of two conversations are different characters.
    """
    places: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, (found, conversation) in enumerate(zip(names, conversations, strict=True)):
        for name in dict.fromkeys(found):
            before = places[conversation, name]
            for one in dict.fromkeys([*before[:1], *before[-1:]]):
                yield Pair(one, index, name)
            before.append(index)


def by_neighbourhood(conversations: Sequence[int]) -> Iterator[Pair]:
    """Yield pairs of pictures that follow one another in one conversation."""
    last: dict[int, int] = {}
    for index, conversation in enumerate(conversations):
        if conversation in last:
            yield Pair(last[conversation], index)
        last[conversation] = index


def by_likeness(
    features: Tensor, threshold: float = 0.85, conversations: Sequence[int] | None = None
) -> Iterator[Pair]:
    """Yield pairs of pictures that a vision encoder finds alike, each with the most alike ones before it.

    Args:
        features: One vector for each sample [N, D], such as the encoder's pooled features.
        threshold: The least cosine of two that are alike, -1..1.
        conversations: The number of each sample's conversation, outside of which nothing is alike; None looks anywhere.

    Raises:
        ValueError: The features have another shape, or an argument is out of range.
    """
    import torch
    from torch.nn.functional import normalize

    number("threshold", threshold, -1, 1)
    if features.ndim != 2 or (conversations is not None and len(conversations) != len(features)):
        raise ValueError(f"features have the shape {list(features.shape)}: give one vector for each sample.")
    unit = normalize(features.float(), dim=1)
    owners = None if conversations is None else torch.tensor(conversations, device=unit.device)
    for start in range(0, len(unit), 256):
        rows = torch.arange(start, min(start + 256, len(unit)), device=unit.device)
        end = int(rows[-1]) + 1
        alike = unit[rows] @ unit[:end].T
        alike[rows[:, None] <= torch.arange(end, device=unit.device)] = -2
        if owners is not None:
            alike[owners[rows][:, None] != owners[:end]] = -2
        best = alike.topk(min(MOST, end), dim=1)
        for row, values, ones in zip(rows.tolist(), best.values.tolist(), best.indices.tolist(), strict=True):
            for value, one in zip(values, ones, strict=True):
                if value >= threshold and one < row:
                    yield Pair(one, row)


class Paired:
    """A data set whose pictures without references get those that they are paired with.

    Args:
        data: The data set, such as captioned pictures, of which nobody says which belong together.
        pairs: The pairs.
    """

    def __init__(self, data: Dataset, pairs: Iterable[Pair]) -> None:
        self.data = data
        self._ones: dict[int, list[Pair]] = defaultdict(list)
        self._alike: dict[int, set[int]] = defaultdict(set)
        for pair in pairs:
            self._ones[pair.other].append(pair)
            self._alike[pair.other].add(pair.one)
            self._alike[pair.one].add(pair.other)

    @property
    def report(self) -> Report:
        """What was read, and what was left out and why."""
        return self.data.report

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at `index`."""
        sample = self.data[index]
        pairs = self._ones.get(index)
        if sample.references or not pairs:
            return sample
        ones = list(dict.fromkeys(pair.one for pair in pairs))[:MOST]
        references = tuple(Reference(self.data[one].picture, 1.0) for one in sorted(ones))
        known = tuple(dict.fromkeys(pair.name for pair in pairs if pair.name and pair.one in ones))
        return replace(sample, references=references, known=known)

    def exchanged(self, index: int, rng: random.Random) -> Sample:
        """Return the sample at `index` with references that belong to another conversation, and are not its pairs."""
        sample = self.data.exchanged(index, rng)
        mine = {self.data[other].picture.digest for other in self._alike.get(index, ())}
        left = tuple(reference for reference in sample.references if reference.picture.digest not in mine)
        return replace(sample, references=left)

    def key(self, index: int) -> str:
        """Return the digest of the sample at `index`."""
        return self[index].key

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of the picture at `index`."""
        return self.data.size(index)


def named_in(text: str, ordinary: Container[str] = ()) -> tuple[str, ...]:
    """Return the capitalised names in a text, each once, in order: "Rosa and Tom Tulip" has Rosa and Tom Tulip.

    Args:
        text: A caption.
        ordinary: Words in lower case that are no names; a word that only begins a sentence is compared with them.
    """
    found: dict[str, None] = {}
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        word = re.sub(r"['’]s$", "", match[0])
        if run and text[end : match.start()].strip(" "):
            found[" ".join(run)] = None
            run = []
        if _is_name(text, match, word, ordinary):
            run.append(word)
        elif run:
            found[" ".join(run)] = None
            run = []
        end = match.end()
        if word != match[0] and run:  # Rosa's Kite is not a name
            found[" ".join(run)] = None
            run = []
    if run:
        found[" ".join(run)] = None
    return tuple(found)


def ordinary_words(texts: Iterable[str]) -> set[str]:
    """Return the words that texts have in lower case."""
    return {match[0] for text in texts for match in _WORD.finditer(text) if match[0].islower()}


def _is_name(text: str, match: re.Match[str], word: str, ordinary: Container[str]) -> bool:
    if not word[0].isupper() or (len(word) > 1 and word.isupper()) or word.lower() in OPENERS or len(word) < 2:
        return False
    return word.lower() not in ordinary if _SENTENCE.search(text[: match.start()]) else True
