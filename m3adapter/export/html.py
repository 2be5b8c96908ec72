"""A conversation as one self-contained HTML page, and its turns as HTML for other formats."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from ..conversation.conversation import Conversation
from ..conversation.displayed import GENERATOR, displayed, one_line, paragraphs, story_title
from ..conversation.segments import Picture, Segment, Text, Turn

# Whatever a caption or a text contains, the page cannot load or run anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbf7ee; --ink: #2c2620; --faint: #776b5d; --line: #e2d8c6; --accent: #9a4f2b
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #1b1917; --ink: #ece4d6; --faint: #a59987; --line: #3a342d; --accent: #e0a077 }
}
* { box-sizing: border-box }
html { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100% }
body {
  font: 1.2rem/1.7 "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, "Noto Serif", serif;
  max-width: 38rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 5rem) 1.25rem; overflow-wrap: break-word
}
h1 {
  font-size: clamp(1.7rem, 5vw, 2.5rem); font-weight: 600; line-height: 1.2; text-align: center; text-wrap: balance;
  margin: 0 0 3.5rem
}
h1::after { content: ""; display: block; width: 4rem; margin: 1.8rem auto 0; border-top: 2px solid var(--accent) }
p { margin: 0 0 1em; hanging-punctuation: first last }
.reply { margin: 0 0 3rem }
.prompt, .setting {
  font-size: .9rem; line-height: 1.5; color: var(--faint); border-inline-start: 2px solid var(--line);
  padding-inline-start: .9rem; margin: 0 0 1.6rem
}
.prompt p, .setting p { margin: 0 0 .4em }
figure { margin: 2rem 0; break-inside: avoid; text-align: center }
img {
  display: block; width: 100%; height: auto; max-height: 90vh; object-fit: contain; margin: 0 auto;
  border-radius: .6rem; box-shadow: 0 .1rem .3rem rgb(0 0 0 / .12), 0 .6rem 2rem rgb(0 0 0 / .14)
}
.prompt figure { margin: 0 0 .6rem; text-align: start }
.prompt img { width: auto; max-width: min(12rem, 100%); max-height: 12rem; margin: 0; box-shadow: none }
figcaption { font-size: .85rem; line-height: 1.45; font-style: italic; color: var(--faint); margin-top: .8rem }
.unpainted { border: 1px dashed var(--line); border-radius: .6rem; padding: 1.5rem }
.unpainted figcaption { margin: 0 }
footer { border-top: 1px solid var(--line); padding-top: 1.2rem; color: var(--faint); font-size: .8rem }
dl { display: grid; grid-template-columns: fit-content(12rem) minmax(0, 1fr); gap: .15rem 1rem; margin: 0 }
dt, dd { margin: 0; overflow-wrap: anywhere }
@media print {
  :root { --paper: #fff; --ink: #000; --faint: #555; --line: #ccc; --accent: #555 }
  body { max-width: none; padding: 0; font-size: 12pt }
  img { max-height: 16cm; box-shadow: none }
  p { orphans: 3; widows: 3 }
}
"""


def story_html(
    conversation: Conversation,
    *,
    title: str | None = None,
    details: Mapping[str, Any] | None = None,
    language: str = "en",
) -> str:
    """Return a conversation as one self-contained HTML page.

    The pictures are embedded, and the page loads and runs nothing. Each paragraph has the direction of its own script.
    Equal arguments give equal pages.

    Args:
        conversation: What to show.
        title: Of the page; by default the first sentence of the first user message. A message that consists of the
            title alone is not repeated.
        details: Names and values that are printed small at the end, for example the seed.
        language: The language tag of the page.
    """
    title = one_line(title or "") or story_title(conversation)

    def embedded(picture: Picture) -> str:
        return f"data:image/png;base64,{base64.b64encode(picture.png).decode('ascii')}"

    return f"""<!DOCTYPE html>
<html lang="{escape(language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="{GENERATOR}">
<meta name="dc.title" content="{escape(title)}">
<meta name="dc.language" content="{escape(language)}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body_html(conversation, title, details or {}, embedded)}</body>
</html>
"""


def body_html(
    conversation: Conversation, title: str, details: Mapping[str, Any], source: Callable[[Picture], str], end: str = ""
) -> str:
    """Return a conversation under its title as the content of a body element; turn number k has the id "turn-k".

    Args:
        conversation: What to show.
        title: The heading.
        details: Names and values that are printed small at the end.
        source: Returns the address of a picture; called for each of them in order.
        end: "/" to close empty elements as XML demands, else "".
    """
    turns = (
        _turn(index, turn, source, end) for index, turn in enumerate(conversation.turns) if not says_just(title, turn)
    )
    body = "\n".join(turns)
    return f'<main>\n<h1 dir="auto">{escape(title)}</h1>\n{body}\n</main>\n{_footer(details)}'


def says_just(title: str, turn: Turn) -> bool:
    """Return whether a turn is a message of the user that says no more than the title."""
    return turn.role == "user" and len(turn.segments) == 1 and one_line(turn.text) == title


def described(picture: Picture, role: str) -> str:
    """Return a description of a picture: its caption, or else whose it is."""
    return displayed(picture.caption) or ("A picture from the reader" if role == "user" else "A picture")


def _turn(index: int, turn: Turn, source: Callable[[Picture], str], end: str) -> str:
    content = "\n".join(filter(None, (_segment(segment, turn.role, source, end) for segment in turn.segments)))
    css_class = {"system": "setting", "user": "prompt", "assistant": "reply"}[turn.role]
    tag = "section" if turn.role == "assistant" else "aside"
    return f'<{tag} class="{css_class}" id="turn-{index}">\n{content}\n</{tag}>'


def _segment(segment: Segment, role: str, source: Callable[[Picture], str], end: str) -> str:
    if isinstance(segment, Text):
        lines = (f"<br{end}>\n".join(map(escape, paragraph)) for paragraph in paragraphs(segment.text))
        return "\n".join(f'<p dir="auto">{paragraph}</p>' for paragraph in lines)
    caption = displayed(segment.caption)
    caption = f'<figcaption dir="auto">{escape(caption)}</figcaption>' if caption else ""
    if segment.is_open:
        return f'<figure class="unpainted">{caption}</figure>'
    width, height = segment.size
    size = f'width="{width}" height="{height}"'
    image = f'<img src="{source(segment)}" {size} alt="{escape(described(segment, role))}"{end}>'
    return f"<figure>{image}{caption}</figure>"


def _footer(details: Mapping[str, Any]) -> str:
    if not details:
        return ""
    pairs = ((escape(displayed(str(name))), escape(displayed(str(value)))) for name, value in details.items())
    rows = (f'<dt>{name}</dt><dd dir="auto">{value}</dd>\n' for name, value in pairs)
    return f"<footer>\n<dl>\n{''.join(rows)}</dl>\n</footer>\n"
