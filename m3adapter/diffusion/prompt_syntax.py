"""Escapes captions for ComfyUI's CLIP Text Encode, whose prompts give brackets and some words a special meaning."""

from __future__ import annotations

import re

# Only at the beginning of a word, where the engine looks for it.
_EMBEDDING = re.compile(r"(?<!\S)(embedding)(:)")
# Special tokens of tokenizers: <|endoftext|>, </s>, <extra_id_0>, <start_of_turn>.
_SPECIAL = re.compile(r"<([|/]?)(?=\w+\|?>)")


def escaped(caption: str) -> str:
    """Return a caption as a prompt that reads exactly as its words, each with weight 1.

    Round brackets get a backslash. A word that would name an embedding or a special token is split by a space between
    characters that are separate tokens anyway.
    """
    plain = _EMBEDDING.sub(r"\1 \2", _SPECIAL.sub(r"<\1 ", caption))
    return plain.replace("(", "\\(").replace(")", "\\)")


def unescaped(prompt: str) -> str:
    r"""Return a prompt with the escaped brackets `\(` and `\)` as plain ones; anything else stays as it is."""
    return prompt.replace("\\(", "(").replace("\\)", ")")
