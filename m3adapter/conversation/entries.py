"""Turns and pictures as entries of conversation.json, and versions of them that are put aside in that form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..values import shown
from .pictures import PictureError, read_picture
from .segments import ConversationError, Picture, Segment, Text, Turn
from .versions import Version, Versions

Entry = dict[str, Any]
Keep = Callable[[bytes], str]  # takes a PNG, and gives the name of its file
Open = Callable[[Any, Entry], Picture]  # the picture of a file, with its caption, seed and gate


class Damaged(ValueError):
    """What an entry cannot be; the message is what follows "is damaged: " in a sentence."""


def turn_entries(turns: Iterable[Turn], keep: Keep) -> list[Entry]:
    """The turns as they stand, without their versions."""
    return [{"role": turn.role, "segments": [_segment_entry(each, keep) for each in turn.segments]} for turn in turns]


def add_versions(entries: Sequence[Entry], turns: Iterable[Turn], keep: Keep) -> None:
    """Adds the versions of turns and of their pictures to what `turn_entries` made of them, where there are any."""
    for entry, turn in zip(entries, turns, strict=True):
        if turn.versions.others:
            entry["versions"] = versions_entry(turn.versions, keep)
        for place, segment in zip(entry["segments"], turn.segments, strict=True):
            if isinstance(segment, Picture) and segment.versions.others:
                place["versions"] = versions_entry(segment.versions, keep)


def versions_entry(versions: Versions, keep: Keep) -> Entry:
    """What is put aside at one place."""

    def placed(version: Version) -> Any:
        names = [keep(png) for png in version.pictures]
        return _with_files(json.loads(version.content), lambda name: names[_number(name) - 1])

    return {"place": versions.place, "others": [placed(version) for version in versions.others]}


def read_turns(entries: Iterable[Entry], picture: Open, png: Callable[[Any], bytes]) -> tuple[Turn, ...]:
    """The turns of entries.

    Args:
        picture: opens the picture of a file.
        png: gives the bytes of a file, for the versions.

    Raises KeyError, TypeError or AttributeError where an entry is incomplete, Damaged or ConversationError where it
    cannot be.
    """
    return tuple(
        Turn(
            entry["role"],
            tuple(_segment(each, picture, png) for each in entry["segments"]),
            read_versions(entry.get("versions"), png),
        )
        for entry in entries
    )


def read_versions(entry: Entry | None, png: Callable[[Any], bytes]) -> Versions:
    """What is put aside at one place; nothing for None. Raises as `read_turns` does."""
    if entry is None:
        return Versions()
    place = entry["place"]
    others = tuple(_version(other, png) for other in entry["others"])
    if type(place) is not int or not 0 <= place <= len(others):
        raise Damaged(f"the place of a version is {shown(place)}, and there are {len(others)} others.")
    return Versions(others, place)


def put_aside(turns: Sequence[Turn]) -> Version:
    """Turns as one version. Those of the first one belong to its place, and are not in it."""
    first, *later = turns
    turns = (replace(first, versions=Versions()), *later)
    shelf = _Shelf()
    entries = turn_entries(turns, shelf.keep)
    add_versions(entries, turns, shelf.keep)
    return Version(_text(entries), tuple(shelf.pngs))


def put_picture_aside(picture: Picture) -> Version:
    """A picture, painted or not, as one version."""
    shelf = _Shelf()
    return Version(_text(_segment_entry(picture, shelf.keep)), tuple(shelf.pngs))


def turns_of(version: Version) -> tuple[Turn, ...]:
    """The turns that were put aside. Raises ConversationError where they are damaged."""

    def read(content: Any, *how: Any) -> tuple[Turn, ...]:
        if turns := read_turns(content, *how):
            return turns
        raise Damaged("it is empty.")

    return _opened(version, read)


def picture_of(version: Version) -> Picture:
    """The picture that was put aside. Raises ConversationError where it is damaged."""

    def read(content: Any, *how: Any) -> Picture:
        picture = _segment(content, *how)
        if not isinstance(picture, Picture):
            raise TypeError("a text in the place of a picture")
        return picture

    return _opened(version, read)


def without_versions(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns as they are told, with nothing put aside."""

    def plain(segment: Segment) -> Segment:
        return segment if isinstance(segment, Text) else segment.changed(versions=Versions())

    return tuple(Turn(turn.role, tuple(map(plain, turn.segments))) for turn in turns)


class _Shelf:
    """PNGs, by the names that they get."""

    def __init__(self) -> None:
        self.pngs: list[bytes] = []

    def keep(self, png: bytes) -> str:
        self.pngs.append(png)
        return f"picture_{len(self.pngs)}.png"


def _segment_entry(segment: Segment, keep: Keep) -> Entry:
    if isinstance(segment, Text):
        return {"type": "text", "text": segment.text}
    file = None if segment.image is None else keep(segment.png)
    return {"type": "picture", "caption": segment.caption, "file": file, "seed": segment.seed, "gate": segment.gate}


def _segment(entry: Entry, picture: Open, png: Callable[[Any], bytes]) -> Segment:
    kind = entry["type"]
    if kind == "text":
        return Text(entry["text"])
    if kind != "picture":
        raise Damaged(f"{shown(kind)} is no kind of segment.")
    how = {"caption": entry["caption"], "seed": entry.get("seed"), "gate": entry.get("gate")}
    how["versions"] = read_versions(entry.get("versions"), png)
    return Picture(**how) if entry["file"] is None else picture(entry["file"], how)


def _version(entry: Any, png: Callable[[Any], bytes]) -> Version:
    """Not opened, but its files are read."""
    shelf = _Shelf()
    content = _with_files(entry, lambda name: shelf.keep(png(name)))
    try:
        return Version(_text(content), tuple(shelf.pngs))
    except ValueError as error:  # Python reads NaN and Infinity, which are no JSON
        raise Damaged("a version in it has a number that is none.") from error


def _with_files(value: Any, name_of: Callable[[Any], str]) -> Any:
    """A copy of an entry, of whatever depth, with other names for its files."""
    if isinstance(value, dict):
        return {
            key: name_of(each) if key == "file" and each is not None else _with_files(each, name_of)
            for key, each in value.items()
        }
    return [_with_files(each, name_of) for each in value] if isinstance(value, list) else value


def _opened(version: Version, read: Callable[..., Any]) -> Any:
    def png(name: Any) -> bytes:
        return version.pictures[_number(name) - 1]

    def picture(name: Any, how: Entry) -> Picture:
        data = png(name)
        opened = Picture(image=read_picture(data, formats=("PNG",)), **how)
        vars(opened)["png"] = data  # what it was read from is what it is written as
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
