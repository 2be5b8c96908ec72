"""Puts into messages other words for the same."""

from __future__ import annotations

import random
import re

from ...storybook.wording.choose import Split, allowed
from ..message_words import OTHER_WORDS

_WORDS = re.compile(r"\b(" + "|".join(sorted(map(re.escape, OTHER_WORDS), key=len, reverse=True)) + r")\b")
_ARTICLE = re.compile(r"\b([Aa])n? (?=([A-Za-z]))")


def reworded(rng: random.Random, text: str, split: Split, amount: float = 0.13) -> str:
    """Return a message with some of its words replaced by others for the same."""

    def replaced(found: re.Match[str]) -> str:
        if rng.random() >= amount:
            return found[0]
        return rng.choice(allowed(OTHER_WORDS[found[0]], split))

    changed = _WORDS.sub(replaced, text)
    return _with_articles(changed) if changed != text else text


def _with_articles(text: str) -> str:
    return _ARTICLE.sub(lambda found: f"{found[1]}{'n' if found[2] in 'aeiouAEIOU' else ''} ", text)
