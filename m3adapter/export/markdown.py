"""A conversation as Markdown (CommonMark) with its pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..conversation.conversation import Conversation
from ..conversation.displayed import one_line, paragraphs, story_title
from ..conversation.segments import Text, Turn
from .html import described, says_just

# What has a meaning anywhere in a line, in CommonMark or in the extensions of GitHub and others.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ANYWHERE = re.compile(r"[\\`*_\[\]|~$@^{}]|:(?=//|\w)|(?<=[wW]{3})\.")
# What has a meaning at the beginning of a line: headings, rules, lists.
_AT_START = re.compile(r"^(?:(\d{1,9})([.)])|([#+\-=:]))")


def story_markdown(
    conversation: Conversation, *, title: str | None = None, details: Mapping[str, Any] | None = None
) -> str:
    """Return a conversation as Markdown in which no text of the conversation is taken for Markdown or HTML.

    Its pictures are called picture_1.png, ... in order, as `storage.files` names them.

    Args:
        conversation: What to write.
        title: The heading; by default the first sentence of the first user message.
        details: Names and values that are listed at the end.
    """
    title = one_line(title or "") or story_title(conversation)
    names = (f"picture_{number}.png" for number, _ in enumerate(conversation.pictures(), 1))
    blocks = [f"# {escaped(title)}"]
    for turn in conversation.turns:
        if not says_just(title, turn):
            said = _blocks(turn, names)
            blocks += said if turn.role == "assistant" else [_quoted("\n\n".join(said))]
    if details:
        blocks += ["---", "\n".join(f"- {escaped(one_line(f'{name}: {value}'))}" for name, value in details.items())]
    return "\n\n".join(blocks) + "\n"


def escaped(line: str) -> str:
    """Escape a line of text so that Markdown shows it as it is."""
    line = _ANYWHERE.sub(r"\\\g<0>", line.translate(_ENTITIES))
    return _AT_START.sub(lambda match: f"{match[1]}\\{match[2]}" if match[1] else f"\\{match[3]}", line)


def _blocks(turn: Turn, names: Iterator[str]) -> list[str]:
    blocks = []
    for segment in turn.segments:
        if isinstance(segment, Text):
            blocks += ["\\\n".join(map(escaped, paragraph)) for paragraph in paragraphs(segment.text)]
            continue
        caption = escaped(one_line(segment.caption))
        if not segment.is_open:
            blocks.append(f"![{escaped(one_line(described(segment, turn.role)))}]({next(names)})")
        if caption:
            blocks.append(f"*{caption}*")
    return blocks


def _quoted(block: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in block.split("\n"))
