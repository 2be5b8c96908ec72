"""Pairs of pictures that show the same: found in conversations by name, by neighbourhood or by likeness.

Nobody has to label who is in which picture: stories say it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

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
