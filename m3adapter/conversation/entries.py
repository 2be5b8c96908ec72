"""Turns and pictures as entries of conversation.json, and their earlier versions in that form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar

from ..values import shown
from .pictures import PictureError, read_picture
from .png_files import PngFile
from .segments import ConversationError, Picture, Segment, Text, Turn
from .versions import Version, Versions

T = TypeVar("T")
Entry = dict[str, Any]
Png = bytes | PngFile
Keep = Callable[[Png], str]  # takes a PNG and returns the name of its file


class PictureFields(TypedDict, total=False):
    """The fields of a Picture beside its image."""

    caption: str
    seed: int | None
    gate: float | None
    seen: str
    versions: Versions


Open = Callable[[Any, PictureFields], Picture]  # returns the picture in a file, with these fields


class Damaged(ValueError):
    """An entry that cannot be read; the message completes a sentence after "is damaged: "."""


def turn_entries(turns: Iterable[Turn], keep: Keep) -> list[Entry]:
    """Return the entries of turns, without their versions."""
    return [
        {"role": turn.role, "segments": [_segment_entry(segment, keep) for segment in turn.segments]} for turn in turns
    ]


def add_versions(entries: Sequence[Entry], turns: Iterable[Turn], keep: Keep) -> None:
    """Add the versions of turns and of their pictures to the entries that `turn_entries` made of them."""
    for entry, turn in zip(entries, turns, strict=True):
        if turn.versions.others:
            entry["versions"] = versions_entry(turn.versions, keep)
        for place, segment in zip(entry["segments"], turn.segments, strict=True):
            if isinstance(segment, Picture) and segment.versions.others:
                place["versions"] = versions_entry(segment.versions, keep)


def versions_entry(versions: Versions, keep: Keep) -> Entry:
    """Return the entry of the versions stored at one place."""

    def placed(version: Version) -> Any:
        names = [keep(png) for png in version.pictures]
        return _with_files(json.loads(version.content), lambda name: names[_number(name) - 1])

    return {"place": versions.place, "others": [placed(version) for version in versions.others]}


def read_turns(entries: Iterable[Entry], picture: Open, png: Callable[[Any], Png]) -> tuple[Turn, ...]:
    """Read turns from their entries.

    Args:
        entries: The entries.
        picture: Opens the picture in a file.
        png: Returns the PNG of a file, for the versions.

    Raises:
        KeyError, TypeError, AttributeError: An entry is incomplete.
        Damaged: An entry cannot be read.
        ConversationError: The turns break the rules of a conversation.
    """
    return tuple(
        Turn(
            entry["role"],
            tuple(_segment(segment, picture, png) for segment in entry["segments"]),
            read_versions(entry.get("versions"), png),
        )
        for entry in entries
    )


def read_versions(entry: Entry | None, png: Callable[[Any], Png]) -> Versions:
    """Read the versions stored at one place, none for None; raise as `read_turns` does."""
    if entry is None:
        return Versions()
    place = entry["place"]
    others = tuple(_version(other, png) for other in entry["others"])
    if type(place) is not int or not 0 <= place <= len(others):
        raise Damaged(f"the place of a version is {shown(place)}, with {len(others)} others.")
    return Versions(others, place)


def put_aside(turns: Sequence[Turn]) -> Version:
    """Return turns as one version. The versions of the first turn belong to its place and are left out."""
    first, *later = turns
    turns = (replace(first, versions=Versions()), *later)
    shelf = _Shelf()
    entries = turn_entries(turns, shelf.keep)
    add_versions(entries, turns, shelf.keep)
    return Version(_text(entries), tuple(shelf.pngs))


def put_picture_aside(picture: Picture) -> Version:
    """Return a picture, painted or not, as one version."""
    shelf = _Shelf()
    return Version(_text(_segment_entry(picture, shelf.keep)), tuple(shelf.pngs))


def turns_of(version: Version) -> tuple[Turn, ...]:
    """Return the turns of a version; raise ConversationError if they are damaged."""

    def read(content: Any, picture: Open, png: Callable[[Any], Png]) -> tuple[Turn, ...]:
        if turns := read_turns(content, picture, png):
            return turns
        raise Damaged("it is empty.")

    return _opened(version, read)


def picture_of(version: Version) -> Picture:
    """Return the picture of a version; raise ConversationError if it is damaged."""

    def read(content: Any, picture: Open, png: Callable[[Any], Png]) -> Picture:
        segment = _segment(content, picture, png)
        if not isinstance(segment, Picture):
            raise TypeError("a text in place of a picture")
        return segment

    return _opened(version, read)


def without_versions(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Return the turns without their versions."""

    def plain(segment: Segment) -> Segment:
        return segment if isinstance(segment, Text) else segment.changed(versions=Versions())

    return tuple(Turn(turn.role, tuple(map(plain, turn.segments))) for turn in turns)


class _Shelf:
    """Collects PNGs, and names them."""

    def __init__(self) -> None:
        self.pngs: list[Png] = []

    def keep(self, png: Png) -> str:
        self.pngs.append(png)
        return f"picture_{len(self.pngs)}.png"


def _segment_entry(segment: Segment, keep: Keep) -> Entry:
    if isinstance(segment, Text):
        return {"type": "text", "text": segment.text}
    file = None if segment.is_open else keep(segment.stored)
    seen = {"seen": segment.seen} if segment.seen else {}
    painted = {"file": file, "seed": segment.seed, "gate": segment.gate}
    return {"type": "picture", "caption": segment.caption, **painted, **seen}


def _segment(entry: Entry, picture: Open, png: Callable[[Any], Png]) -> Segment:
    segment_type = entry["type"]
    if segment_type == "text":
        return Text(entry["text"])
    if segment_type != "picture":
        raise Damaged(f"{shown(segment_type)} is not a type of segment.")
    fields: PictureFields = {
        "caption": entry["caption"],
        "seed": entry.get("seed"),
        "gate": entry.get("gate"),
        "seen": entry.get("seen", ""),
        "versions": read_versions(entry.get("versions"), png),
    }
    return Picture(**fields) if entry["file"] is None else picture(entry["file"], fields)


def _version(entry: Any, png: Callable[[Any], Png]) -> Version:
    """Read a version with its files, without decoding them."""
    shelf = _Shelf()
    content = _with_files(entry, lambda name: shelf.keep(png(name)))
    try:
        return Version(_text(content), tuple(shelf.pngs))
    except ValueError as error:  # Python reads NaN and Infinity, which JSON does not allow
        raise Damaged("a version in it has a number that JSON does not allow.") from error


def _with_files(value: Any, name_of: Callable[[Any], str]) -> Any:
    """Return a copy of an entry, of any depth, with other names for its files."""
    if isinstance(value, dict):
        return {
            key: name_of(inner) if key == "file" and inner is not None else _with_files(inner, name_of)
            for key, inner in value.items()
        }
    return [_with_files(inner, name_of) for inner in value] if isinstance(value, list) else value


def _opened(version: Version, read: Callable[[Any, Open, Callable[[Any], Png]], T]) -> T:
    def png(name: Any) -> Png:
        return version.pictures[_number(name) - 1]

    def picture(name: Any, fields: PictureFields) -> Picture:
        data = png(name)
        if isinstance(data, PngFile):
            return Picture(image=data, **fields)  # type: ignore[arg-type]
        opened = Picture(image=read_picture(data, formats=("PNG",)), **fields)
        opened.keep(data)  # it is written as the bytes it was read from
        return opened

    try:
        return read(json.loads(version.content), picture, png)
    except ConversationError:
        raise
    except (PictureError, Damaged) as error:
        raise ConversationError(f"This version is damaged: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ConversationError("This version is damaged: a turn or a picture in it is incomplete.") from error


def _number(name: str) -> int:
    return int(name.removeprefix("picture_").removesuffix(".png"))


def _text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
