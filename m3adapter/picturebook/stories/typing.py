"""How messages are typed: without articles, in capitals or none, with slips of the fingers, or meaningless."""

from __future__ import annotations

import random
import re
import string

from ...storybook.wording.noise import gibberish
from ...storybook.wording.people import NAME_SYLLABLES

_ARTICLE = re.compile(r"\b(a|an|the|The|A|An) (?=[a-z])")
_NEEDED = re.compile(
    r"\b(a (pair|couple|few|bit|little|story|picture)|the (first|second|other|end|sky|way|same))\b", re.I
)
# What people write around a wish, and what does not change it.
_LABELS = (
    "title", "topic", "request", "task", "theme", "subject", "1)", "a)", "#1", "note", "quick one", "an easy one",
    "for tomorrow", "for my class", "for a card", "listen", "alright", "yes", "great", "one more thing", "by the way",
    "if you can", "if possible", "when you have time", "excuse me", "sorry to bother you", "my turn", "let me see",
    "do me a favour", "in short", "dear machine", "hello again", "as I said", "thinking of it", "here goes",
    "first try", "be creative", "take your time", "no hurry", "just for fun",
)  # fmt: skip
_AFTER = (": ", ": ", " - ", ", ", ". ", "! ", "... ", "\n")
_ENDINGS = (
    ", that is all", ", if you can", ", if possible", " for my class", " in colour", " as soon as you can",
    ", be creative", ", just for fun", " - take your time", ". That's it", ". Surprise me", ", nothing special",
    " (for a card)",
)  # fmt: skip
_TAILS = (" please", " :)", "!!!", "...", " thx", " 😊", "  ", " pls", "!", " ok?", "!!", " thanks", " pretty please")
_HEADS = ("hey, ", "please: ", "ok ", "so, ", "hi! ", " ", "well, ", "> ", "- ", "hi, ", "um, ", "oh, ")


def typed(rng: random.Random, text: str, *, names: tuple[str, ...] = ()) -> str:
    """Return a message as somebody may have typed it.

    Args:
        rng: The random numbers.
        text: The correct message.
        names: Names in it, most of which keep their capitals.
    """
    if not re.search(r"\w", text):  # "..." would be nothing without its dots
        return text
    if rng.random() < 0.12 and not _NEEDED.search(text):
        text = _ARTICLE.sub("", text)
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.05:
        text = rng.choice(_HEADS) + (text[:1].lower() + text[1:] if not text.startswith(names or "\n") else text)
    elif rng.random() < 0.08:
        invented = "".join(rng.choice(NAME_SYLLABLES) for _ in range(rng.randint(2, 4)))
        label = rng.choice(_LABELS) if rng.random() < 0.7 else invented
        text = label[:1].upper() + label[1:] + rng.choice(_AFTER) + text
    if rng.random() < 0.05:
        text = _slip(rng, text)
    if rng.random() < 0.3:
        text = text.rstrip(".!") or text
    if rng.random() < 0.07:
        text = text.rstrip(".") + rng.choice(_TAILS)
    elif rng.random() < 0.05:
        text = text.rstrip(".!") + rng.choice(_ENDINGS)
    draw = rng.random()
    if draw < 0.3:
        lower = text.lower()
        if rng.random() < 0.75:
            for name in names:
                lower = re.sub(rf"\b{re.escape(name.lower())}\b", name, lower)
        return lower
    if names:
        return text
    if draw < 0.36:
        return text.upper()
    return string.capwords(text) if draw < 0.4 else text


def nonsense(rng: random.Random) -> str:
    """Return a message without meaning: keys hit at random, a sign again and again, or an unknown script."""
    kind = rng.random()
    if kind < 0.3:
        return gibberish(rng)
    if kind < 0.6:
        return rng.choice(("a", "x", "ha", "lol", "!", "?", ".", "0", "la ", "e", "z")) * rng.choice(
            (1, 2, 3, 8, 40, 120)
        )
    row = rng.choice(("asdfghjkl", "qwertyuiop", "zxcvbnm", "1234567890", "sdkfjhgwe", "xqzjvkw"))
    return "".join(rng.choice(row) for _ in range(rng.randrange(4, 24)))


def _slip(rng: random.Random, text: str) -> str:
    """Drop, double or swap a letter of a small word on which the picture does not depend."""
    small = (
        "please",
        "picture",
        "story",
        "about",
        "could",
        "would",
        "draw",
        "there",
        "tell",
        "something",
        "want",
        "show",
    )
    words = text.split(" ")
    found = [index for index, word in enumerate(words) if word.lower() in small]
    if not found:
        return text
    index = rng.choice(found)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    words[index] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )
    return " ".join(words)
