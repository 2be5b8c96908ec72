"""A conversation as an e-book: EPUB 3.3, a ZIP archive of XHTML."""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from ..conversation.conversation import Conversation
from ..conversation.displayed import GENERATOR, displayed, one_line, story_title
from ..conversation.markup import first_sentence
from ..conversation.pictures import png_bytes, to_pil
from ..conversation.segments import Picture
from .html import body_html

if TYPE_CHECKING:
    from PIL.Image import Image

_COVER = 1200  # pixels on the longer side: smaller covers look poor on a shelf
_FIXED_TIME = "2000-01-01T00:00:00Z"  # equal stories are equal files, whenever they are written
_XHTML = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
 lang="{language}" xml:lang="{language}">
<head>
<title>{title}</title>
<link rel="stylesheet" type="text/css" href="style.css"/>
</head>
<body>
{body}
</body>
</html>
"""
_CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
_PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="{language}">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:language>{language}</dc:language>
<meta property="dcterms:modified">{modified}</meta>
<meta name="generator" content="{generator}"/>
<meta property="schema:accessMode">textual</meta>
<meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="style" href="style.css" media-type="text/css"/>
{manifest}
</manifest>
<spine>
{spine}
</spine>
</package>
"""
_STYLE = """body { margin: 5%; line-height: 1.5; font-family: serif; overflow-wrap: break-word }
h1 { text-align: center; line-height: 1.25; margin: 1em 0 2em }
p { margin: 0 0 .8em }
section { margin: 0 0 2em }
aside { font-size: .9em; margin: 0 0 1.5em; padding-left: .8em; border-left: 2px solid #b0a48f }
figure { margin: 1.2em 0; text-align: center; page-break-inside: avoid; break-inside: avoid }
img { width: 100%; max-width: 36em; height: auto; border-radius: .5em }
aside img { max-width: 10em }
figcaption { font-size: .85em; font-style: italic; margin-top: .5em }
footer { font-size: .8em; margin-top: 3em }
dt, dd { display: inline; margin: 0 }
dt::after { content: ": " }
dd::after { content: "\\A"; white-space: pre }
.cover { margin: 0; text-align: center }
.cover img { max-height: 98vh; width: auto; max-width: 100%; border-radius: 0 }
"""


def story_epub(
    conversation: Conversation,
    *,
    title: str | None = None,
    details: Mapping[str, Any] | None = None,
    language: str = "en",
) -> bytes:
    """Return a conversation as the bytes of an EPUB; equal arguments give equal bytes.

    The identifier of the book is computed from its content.

    Args:
        conversation: What to write.
        title: Of the book; by default the first sentence of the first message.
        details: Names and values that are printed small at the end, for example the seed.
        language: The language tag of the book.
    """
    title = one_line(title or "") or story_title(conversation)
    pictures = [conversation.picture(slot) for slot in conversation.pictures()]
    names = (f"picture_{number}.png" for number, _ in enumerate(pictures, 1))
    page = {"language": escape(language), "title": escape(title)}
    body = body_html(conversation, title, details or {}, lambda _: next(names), end="/")
    entries = "\n".join(
        f'<li><a href="story.xhtml#{id}">{escape(label)}</a></li>' for id, label in _parts(conversation)
    )
    entries = entries or f'<li><a href="story.xhtml">{page["title"]}</a></li>'
    contents = f'<nav epub:type="toc">\n<h1>{page["title"]}</h1>\n<ol>\n{entries}\n</ol>\n</nav>'
    files: dict[str, str | bytes] = {
        "EPUB/nav.xhtml": _XHTML.format(**page, body=contents),
        "EPUB/style.css": _STYLE,
        "EPUB/story.xhtml": _XHTML.format(**page, body=body.rstrip("\n")),
    }
    files.update((f"EPUB/picture_{number}.png", picture.png) for number, picture in enumerate(pictures, 1))
    documents = ["story"]
    if pictures:
        files["EPUB/cover.png"] = png_bytes(_cover(to_pil(pictures[0].pixels)))
        figure = f'<figure class="cover"><img src="cover.png" alt="{page["title"]}"/></figure>'
        files["EPUB/cover.xhtml"] = _XHTML.format(**page, body=figure)
        documents.insert(0, "cover")
    manifest = [f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in documents]
    for name in sorted(name.removeprefix("EPUB/") for name in files if name.endswith(".png")):
        cover_image = ' properties="cover-image"' if name == "cover.png" else ""
        manifest.append(f'<item id="{name.replace(".", "-")}" href="{name}" media-type="image/png"{cover_image}/>')
    files["EPUB/package.opf"] = _PACKAGE.format(
        **page,
        identifier=_identifier(files),
        modified=_FIXED_TIME,
        generator=GENERATOR,
        manifest="\n".join(manifest),
        spine="\n".join(f'<itemref idref="{name}"/>' for name in documents),
    )
    return _archive({"META-INF/container.xml": _CONTAINER, **files})


def _parts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield the id and the first sentence of each of the assistant's turns, for the table of contents."""
    for index, turn in enumerate(conversation.turns):
        if turn.role == "assistant":
            captions = (segment.caption for segment in turn.segments if isinstance(segment, Picture))
            yield f"turn-{index}", first_sentence(displayed(turn.text) or displayed(next(captions, "")), 60) or "…"


def _cover(image: Image) -> Image:
    from PIL.Image import Resampling

    scale = _COVER / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Resampling.LANCZOS)


def _identifier(files: Mapping[str, str | bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0".encode() + (content.encode() if isinstance(content, str) else content))
    return uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest()).urn


def _archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP archive that begins with the media type, as the container format of EPUB demands."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"mimetype": "application/epub+zip", **files}.items():
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.create_system = 3
            compressed = not (name == "mimetype" or name.endswith(".png"))
            entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            archive.writestr(entry, content)
    return buffer.getvalue()
