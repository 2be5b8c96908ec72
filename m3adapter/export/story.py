"""The folder of a finished story: the story in one or more formats to read, and the conversation as data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..conversation.conversation import Conversation
from ..conversation.displayed import GENERATOR, one_line
from ..conversation.entries import without_versions
from ..conversation.pictures import png_bytes
from ..conversation.png_files import kept_in_memory
from ..conversation.segments import Picture
from ..conversation.storage import INDEX, PICTURE_NAME, Saved, files, is_conversation, json_bytes, write_file
from ..weights.model_files import read_json
from .epub import story_epub
from .html import story_html
from .markdown import story_markdown
from .pages.pdf import check_packages, pdf_bytes

# The file that opens each format.
FORMATS = {
    "html": "story.html",
    "markdown": "story.md",
    "pdf": "story.pdf",
    "epub": "story.epub",
    "pages": "page_1.png",
}
_OURS = re.compile(r"(panel|page)_[0-9]+\.png", re.ASCII)


class Exported(NamedTuple):
    """A finished export.

    Attributes:
        path: The file to open.
        notes: What the reader should know about it, a sentence each.
    """

    path: Path
    notes: tuple[str, ...]


def check_formats(formats: Sequence[str]) -> None:
    """Check that formats can be written.

    Raises:
        ValueError: There is no format, one is not in FORMATS, or a package that it needs is not installed.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"The format is {', '.join(unknown) or 'missing'}: choose from {', '.join(FORMATS)}.")
    if "pdf" in formats:
        check_packages()


def export_story(
    conversation: Conversation,
    directory: str | Path,
    details: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
    formats: Sequence[str] = ("html",),
    layout: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write the folder of a story.

    Beside the formats, the folder gets conversation.json with its PNGs, which `Conversation.load` opens, and the
    assistant's pictures in order as panel_1.png, panel_2.png, ... Each file is replaced atomically, and equal arguments
    give equal bytes. Files of an earlier export that this one does not write are removed; conversation.json lists them.
    Other files in the folder are kept.

    Args:
        conversation: The story; at least one turn.
        directory: The folder, which is created if necessary.
        details: Names and values that are printed small at the end of a text, for example the seed.
        title: By default the first sentence of the first message.
        formats: Names in FORMATS.
        layout: Arguments of `pages.layout.lay_out` for "pdf" and "pages".
        metadata: Text chunks for the PNGs of panels and pages, which then get their caption, seed and gate as well;
            None writes no text chunks.

    Returns:
        The file that opens the first format, and notes for the reader.

    Raises:
        ValueError: A format or the layout is not possible; see `check_formats` and `lay_out`.
        OSError: The folder cannot be written.
    """
    check_formats(formats)
    from .pages.drawing import draw
    from .pages.layout import lay_out

    directory = Path(directory).expanduser()
    contents = dict(files(Saved(without_versions(conversation.turns), conversation.cast)))
    contents.update(_panels(conversation, metadata))
    notes: tuple[str, ...] = ()
    writers: dict[str, Callable[..., str | bytes]] = {
        "html": story_html,
        "markdown": story_markdown,
        "epub": story_epub,
    }
    for name in formats:
        if name in writers:
            content = writers[name](conversation, title=title, details=details)
            contents[FORMATS[name]] = content.encode("utf-8") if isinstance(content, str) else content
            continue
        book, typesetter = lay_out(conversation, title=title, **(layout or {}))
        notes = book.notes
        if name == "pdf":
            contents[FORMATS[name]] = pdf_bytes(book)
        else:
            chunks = None if metadata is None else {"Title": book.title, "Software": GENERATOR, **metadata}
            pages = enumerate(draw(book, typesetter), 1)
            contents.update((f"page_{number}.png", png_bytes(page, chunks)) for number, page in pages)
    index = json.loads(contents.pop(INDEX))
    index["files"] = sorted(contents)  # all that a later export may remove
    contents[INDEX] = json_bytes(index)  # written last: it names the others
    _write(directory, contents)
    return Exported(directory / FORMATS[formats[0]], notes)


def is_story(directory: str | Path) -> bool:
    """Return whether `export_story` wrote this folder."""
    directory = Path(directory)
    return any((directory / name).is_file() for name in FORMATS.values()) and is_conversation(directory)


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    earlier = _listed(directory)
    kept_in_memory(directory.resolve(), contents)
    for name, data in contents.items():
        write_file(directory / name, data)
    for name in earlier - contents.keys():
        if not (directory / name).is_dir():
            (directory / name).unlink(missing_ok=True)


def _listed(directory: Path) -> set[str]:
    """Return the files that the list of an earlier export names; an export of an old version has no list."""
    if not is_conversation(directory):
        return set()
    names = read_json(directory / INDEX).get("files")
    return {name for name in names if _is_ours(name)} if isinstance(names, list) else set()


def _is_ours(name: Any) -> bool:
    known = isinstance(name, str) and (_OURS.fullmatch(name) or PICTURE_NAME.fullmatch(name))
    return bool(known) or name in FORMATS.values()


def _panels(conversation: Conversation, metadata: Mapping[str, str] | None) -> Iterator[tuple[str, bytes]]:
    """Yield the names and PNGs of the assistant's pictures."""
    slots = [slot for slot in conversation.pictures() if conversation.turns[slot.turn].role == "assistant"]
    for number, slot in enumerate(slots, 1):
        picture = conversation.picture(slot)
        chunks = None if metadata is None else _text_chunks(picture, metadata)
        yield f"panel_{number}.png", png_bytes(picture.pixels, chunks)


def _text_chunks(picture: Picture, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the text chunks of a panel: the PNG specification's keywords, ComfyUI's, and how it was painted."""
    painted = {"caption": picture.caption, "seed": picture.seed, "gate": picture.gate}
    chunks = {"Description": one_line(picture.caption), "Software": GENERATOR, "m2chat": json.dumps(painted)}
    return {**chunks, **metadata}
