"""A conversation as a page to read: one self-contained HTML file, and the folder of a finished story."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .conversation import Conversation
from .markup import first_sentence
from .pictures import png_bytes
from .segments import Picture, Segment, Text, Turn
from .storage import INDEX, PICTURE_NAME, Saved, files, is_conversation, write_file

PAGE = "story.html"
_PANEL_NAME = re.compile(r"panel_[0-9]+\.png", re.ASCII)

# The page may load nothing and run nothing, whatever a caption or a text holds.
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
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 }
dd { margin: 0 }
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
    """The conversation as one HTML page that needs nothing else: its pictures are in it, it loads and runs nothing.

    `title` is by default the first sentence of the first user message; a message that says just the title is not shown
    again. `details` (name: value, for example the seed) stand small at the end. `language` is the page's language tag;
    the direction of text follows each paragraph's own. Equal arguments give equal pages.
    """
    title = title or next((first_sentence(turn.text, 90) for turn in conversation.turns if turn.role == "user"), "")
    title = title or "An illustrated story"
    body = "\n".join(_turn(turn) for turn in conversation.turns if not _says_just(title, turn))
    return f"""<!DOCTYPE html>
<html lang="{escape(language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1 dir="auto">{escape(title)}</h1>
{body}
</main>
{_footer(details or {})}</body>
</html>
"""


def export_story(
    conversation: Conversation,
    directory: str | Path,
    details: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Writes a story's folder and returns the path of its page, story.html.

    Beside it: conversation.json with its PNGs, which Conversation.load() opens, and panel_1.png, panel_2.png, ...: the
    assistant's pictures in order. Each file is replaced atomically, and equal arguments give equal bytes. What an
    earlier, longer story left in the folder is removed; other files stay. Raises OSError where it cannot be written.
    """
    directory = Path(directory).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    earlier = is_story(directory)
    contents = dict(files(Saved(conversation.turns, conversation.cast)))
    contents.update(_panels(conversation, contents))
    contents[PAGE] = story_html(conversation, title=title, details=details).encode("utf-8")
    contents[INDEX] = contents.pop(INDEX)  # written last: it names the others
    for name, data in contents.items():
        write_file(directory / name, data)
    if earlier:
        for path in list(directory.iterdir()):
            if path.name not in contents and (PICTURE_NAME.fullmatch(path.name) or _PANEL_NAME.fullmatch(path.name)):
                path.unlink()
    return directory / PAGE


def is_story(directory: str | Path) -> bool:
    """Whether export_story() wrote this folder."""
    directory = Path(directory)
    return (directory / PAGE).is_file() and is_conversation(directory)


def _panels(conversation: Conversation, saved: Mapping[str, bytes]) -> Iterable[tuple[str, bytes]]:
    """The assistant's pictures under their own names; `saved` has all pictures as picture_<k>.png in the same order."""
    numbers = (k for k, at in enumerate(conversation.pictures(), 1) if conversation.turns[at.turn].role == "assistant")
    for panel, number in enumerate(numbers, 1):
        yield f"panel_{panel}.png", saved[f"picture_{number}.png"]


def _says_just(title: str, turn: Turn) -> bool:
    return turn.role == "user" and len(turn.segments) == 1 and " ".join(turn.text.split()) == title


def _turn(turn: Turn) -> str:
    content = "\n".join(filter(None, (_segment(segment, turn.role) for segment in turn.segments)))
    kind = {"system": "setting", "user": "prompt", "assistant": "reply"}[turn.role]
    tag = "section" if turn.role == "assistant" else "aside"
    return f'<{tag} class="{kind}">\n{content}\n</{tag}>'


def _segment(segment: Segment, role: str) -> str:
    if isinstance(segment, Text):
        return "\n".join(f'<p dir="auto">{paragraph}</p>' for paragraph in _paragraphs(segment.text))
    caption = f'<figcaption dir="auto">{escape(segment.caption)}</figcaption>' if segment.caption else ""
    if segment.is_open:
        return f'<figure class="unpainted">{caption}</figure>'
    return f"<figure>{_image(segment, role)}{caption}</figure>"


def _image(picture: Picture, role: str) -> str:
    height, width = picture.image.shape[:2]
    data = base64.b64encode(png_bytes(picture.image)).decode("ascii")
    described = escape(picture.caption or ("A picture from the reader" if role == "user" else "A picture"))
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{described}">'


def _paragraphs(text: str) -> Iterable[str]:
    """The text's paragraphs, which blank lines separate, as HTML; line ends inside them stay."""
    for paragraph in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text):
        if paragraph.strip():
            yield "<br>\n".join(escape(line.strip()) for line in paragraph.strip().split("\n"))


def _footer(details: Mapping[str, Any]) -> str:
    if not details:
        return ""
    pairs = ((escape(str(name)), escape(str(value))) for name, value in details.items())
    rows = (f'<dt>{name}</dt><dd dir="auto">{value}</dd>\n' for name, value in pairs)
    return f"<footer>\n<dl>\n{''.join(rows)}</dl>\n</footer>\n"
