"""Captions for ComfyUI's CLIP Text Encode, in whose prompts brackets weigh words and some words are commands."""

from __future__ import annotations

import re

# At the beginning of a word only: the engine looks for it there.
_EMBEDDING = re.compile(r"(?<!\S)(embedding)(:)")
# How tokenizers spell what is no word: <|endoftext|>, </s>, <extra_id_0>, <start_of_turn>.
_SPECIAL = re.compile(r"<([|/]?)(?=\w+\|?>)")


def escaped(caption: str) -> str:
    """A caption as a prompt that reads exactly its words, each with the weight 1.

    Round brackets get a backslash. A word that would name an embedding or a special token gets a space inside, between
    characters that are tokens of their own anyway.
    """
    plain = _EMBEDDING.sub(r"\1 \2", _SPECIAL.sub(r"<\1 ", caption))
    return plain.replace("(", "\\(").replace(")", "\\)")


def unescaped(prompt: str) -> str:
    """A prompt as words: `\\(` and `\\)` are brackets. What is no escape stays."""
    return prompt.replace("\\(", "(").replace("\\)", ")")
