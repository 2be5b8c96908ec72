"""The spellings by which language models mark their thoughts, as distinct from any other text.

<think>…</think>   <thinking>   <thought>   <reasoning>   <|thinking|>   <seed:think>   ◁think▷   [THINK]…[/THINK]
<|START_THINKING|>…<|END_THINKING|>   <|begin_of_thought|>…<|end_of_thought|>   <|channel>thought …<channel|>
<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…      (gpt-oss, "harmony")
analysis…assistantfinal…                                      (the same, without its special tokens)
Here is my thought process: … Here is my response: …          (Granite)
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 100  # characters between the brackets of a mark

# The class of each word; marks of one class close one another.
_CLASSES = {
    **dict.fromkeys(("think", "thinking", "thought", "thoughts", "longcat_think"), "think"),
    **dict.fromkeys(("reasoning", "reason", "cot", "chain_of_thought"), "reasoning"),
    **dict.fromkeys(("reflection", "scratchpad", "analysis", "planning", "inner_monologue", "inner_thoughts"), ""),
}
THOUGHTS = {word: class_ or word for word, class_ in _CLASSES.items()}
_EDGES = {
    **{f"{edge}{of}{word}": (effect, class_)
       for edge, effect in (("begin", "open"), ("start", "open"), ("end", "close"))
       for of in ("_of_", "_") for word, class_ in THOUGHTS.items()},
    "inner_prefix": ("open", "inner"),
    "inner_suffix": ("close", "inner"),
}  # fmt: skip
# Words of tags around an answer that may follow a thought. With bars or edges they are special tokens.
ANSWERS = ("answer", "response", "output", "solution", "final", "final_answer", "final_response")
_WRAPPINGS = {f"{edge}{of}{word}" for edge in ("begin", "start", "end") for of in ("_of_", "_") for word in ANSWERS}
# gpt-oss' marks, and Solar's, which are of the same kind.
_HARMONY = {
    "start": "start", "begin": "start", "channel": "channel", "constrain": "constrain", "message": "message",
    "content": "message", "end": "end", "return": "end", "call": "end", "flush": "end",
}  # fmt: skip
_PREFIXES = ("seed:", "mm:", "antml:", "ant:")
_TAG_WORDS = (*THOUGHTS, *ANSWERS)
_BARRED_WORDS = (*_EDGES, *_WRAPPINGS, *_HARMONY, *_TAG_WORDS)

# Phrases that begin a thought at the beginning of a reply, and phrases that end it.
PHRASES = tuple(f"here{verb} my {what} process:" for verb in (" is", "'s", "’s") for what in ("thought", "thinking"))
_PHRASE_ENDS = tuple(f"here{verb} my {what}:" for verb in (" is", "'s", "’s") for what in ("response", "answer"))
CHANNELS = ("analysis", "commentary")
_CHANNEL_ENDS = ("assistantfinal", "assistantanalysis", "assistantcommentary")
# What ends a thought of each mode, and the possible beginnings of that.
_ENDS = {
    "phrase": rf"\**(?:{'|'.join(map(re.escape, _PHRASE_ENDS))})(?:\*\*|(?=[^*]))",
    "bare": "|".join(_CHANNEL_ENDS),
}
_ENDS_BEGUN = {"phrase": tuple(f"{end}**" for end in _PHRASE_ENDS), "bare": _CHANNEL_ENDS}


class Mark(NamedTuple):
    """The effect of a mark.

    Attributes:
        kind: "open" or "close" for a thought; "wrap" or "unwrap" for an answer; "wrapping" for an answer's special
            token or an empty thought; or "start", "channel", "constrain", "message" or "end" in harmony's format.
        name: The class of the thought, or the word of the answer's tag; "" for others.
    """

    kind: str
    name: str = ""


_MARK = r"<[^<>\n]{1,100}>|\[/?think(?:ing)?\]|◁/?[a-z]{5,8}▷"
MARK = re.compile(_MARK, re.IGNORECASE)
MARK_IN = {mode: re.compile(f"{_MARK}|(?P<end>{end})", re.IGNORECASE) for mode, end in _ENDS.items()}
_BEGUN = re.compile(r"(?:<[^<>\n]{0,100}|\[/?[a-z]{0,8}|◁/?[a-z]{0,8})\Z", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"[\w-]+\s*=")
_INNER = re.compile(r"(?P<left>[|｜]?)\s{0,2}(?P<slash>/?)[|｜]?\s{0,2}(?P<word>[\w:▁]*)(?P<rest>.*)\Z", re.DOTALL)


def read(mark: str) -> Mark | None:
    """Return the effect of a match of MARK; None if it is not a mark."""
    if mark[0] == "[":
        # "[thinking]" may be a stage direction; models that mark thoughts with brackets write capitals.
        stage = "ing" in mark.lower() and not mark[2:7].isupper()
        return None if stage else Mark("close" if mark[1] == "/" else "open", "think")
    inner = _INNER.match(mark[1:-1].lower())
    if inner is None:
        return None
    word, rest = _bare(inner["word"]), inner["rest"].strip()
    left, right = bool(inner["left"]), rest.endswith(("|", "｜"))
    if word in THOUGHTS and rest == "/" and not left:  # <think/>, an empty thought
        return Mark("wrapping")
    rest = rest.rstrip("|｜/ ")
    if word == "channel" and left != right:  # Gemma's, <|channel> and <channel|>
        return Mark("channel") if left else Mark("close", "channel")
    if word in THOUGHTS and (not rest or (not left and _ATTRIBUTE.match(rest))):
        return Mark("close" if inner["slash"] else "open", THOUGHTS[word])
    if rest or (mark[0] == "<" and not (left and right)):
        return Mark("unwrap" if inner["slash"] else "wrap", word) if word in ANSWERS and not rest else None
    if word in _EDGES:
        return Mark(*_EDGES[word])
    if word in _WRAPPINGS or word in ANSWERS:
        return Mark("wrapping")
    return Mark(_HARMONY[word]) if word in _HARMONY else None


def held(text: str, mode: str = "") -> int:
    """Return how many characters at the end of `text` may begin a mark, or the end of a thought of `mode`."""
    begun = _BEGUN.search(text)
    if begun and _may_become(begun.group()):
        return len(begun.group())
    tail = text[-30:].lower()
    ends = _ENDS_BEGUN.get(mode, ())
    for length in range(len(tail), 0, -1):
        if any(end.startswith(tail[-length:].lstrip("*")) for end in ends):
            return length
    return 0


def _may_become(begun: str) -> bool:
    if begun[0] == "[":
        return "thinking]".startswith(begun[1:].lstrip("/").lower())
    inner = _INNER.match(begun[1:].lower())
    if inner is None:
        return False
    word, rest = inner["word"], inner["rest"]
    bare = _bare(word)
    if rest:
        return bare in THOUGHTS or (bare in _BARRED_WORDS and not rest.strip("|｜/ "))
    words = _BARRED_WORDS if inner["left"] or "channel".startswith(bare) else _TAG_WORDS
    return any(known.startswith(bare) for known in words) or any(prefix.startswith(word) for prefix in _PREFIXES)


def _bare(word: str) -> str:
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return word


def is_mark(token: str) -> bool:
    """Return whether a special token is one of these marks, which a model must be able to write."""
    return MARK.fullmatch(token) is not None and read(token) is not None


def marked(text: str) -> bool:
    """Return whether a text, such as a chat template, contains a mark of a thought."""
    marks = (read(mark.group()) for mark in MARK.finditer(text))
    return any(mark is not None and mark.kind in ("open", "close", "channel") for mark in marks)
