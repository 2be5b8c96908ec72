"""A byte-level tokenizer for which "Rabbit", "RABBIT", "rabbit" and " rabbit" are the same token, with marks before it.

A mark says that the next letter is a capital, that the next word is in capitals, or that no blank stands before the
next word. They are inserted before the text is split, and removed when tokens are decoded, by the tokenizer itself, so
that the files of a model need nothing else.

A tokenizer without marks can at least be quietened: "RABBIT" is then read as "Rabbit".
"""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CAPITAL, SHOUT, JOINED = "\ue000", "\ue001", "\ue002"


def mark(core: Tokenizer) -> None:
    """Let a byte-level tokenizer mark capitals and words without a blank before them.

    Decoding returns the text, but for words in capitals, of which only the first letter remains one.
    """
    from tokenizers import Regex, decoders, normalizers

    rest = r"(?=[A-Z]+(?![A-Za-z]))"  # of a word in capitals, after its first letter
    start = r"(?<![\p{L} ])(?<!\p{L}['’])"  # of a word without a blank before it
    # A replacement never matches nothing: tokenizers would count its characters wrongly.
    marks = [
        (f" (?=[A-Z]{rest})", f"{SHOUT} "),
        *[(f"{start}{letter}{rest}", f"{SHOUT}{JOINED} {letter}") for letter in ascii_uppercase],
        (f"(?<![{SHOUT}{JOINED}]) (?=[A-Z])", f"{CAPITAL} "),
        *[(f"({start}|(?<=[a-z])){letter}", f"{CAPITAL}{JOINED} {letter.lower()}") for letter in ascii_uppercase],
        *[(f"{start}{letter}", f"{JOINED} {letter}") for letter in ascii_lowercase],
    ]
    core.normalizer = normalizers.Sequence(
        [
            *[normalizers.Replace(sign, "") for sign in (CAPITAL, SHOUT, JOINED)],
            *[normalizers.Replace(Regex(pattern), text) for pattern, text in marks],
            *[normalizers.Replace(letter, letter.lower()) for letter in ascii_uppercase],
        ]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace(SHOUT, CAPITAL),
            *[decoders.Replace(f"{CAPITAL}{JOINED} {letter.lower()}", letter) for letter in ascii_uppercase],
            *[decoders.Replace(f"{CAPITAL} {letter.lower()}", f" {letter}") for letter in ascii_uppercase],
            decoders.Replace(f"{JOINED} ", ""),
            *[decoders.Replace(sign, "") for sign in (CAPITAL, JOINED)],
        ]
    )


def quieten(core: Tokenizer) -> None:
    """Let a tokenizer without marks read capitals inside words as small letters; it writes as before."""
    from tokenizers import Regex, normalizers

    inside = (normalizers.Replace(Regex(f"(?<=[A-Za-z]){letter}"), letter.lower()) for letter in ascii_uppercase)
    core.normalizer = normalizers.Sequence(list(inside))
