"""Conversations as JSON Lines, in the message format of chat templates with paths of pictures.

    {"id": "kite", "messages": [
      {"role": "user", "content": [{"type": "image", "path": "rosa.png"}, {"type": "text", "text": "A tale of Rosa."}]},
      {"role": "assistant", "content": [{"type": "text", "text": "It was windy."},
        {"type": "image", "path": "kite.png", "caption": "Rosa with a kite"}]}]}

A line is one conversation; it may also be the list of messages alone. A picture may have "told", the words that only
its references tell: "Rosa is red"; and "meant", its caption in words that the decoder knows, where the caption's own
are of another language or names: "a fox with a kite".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..conversation.segments import ROLES, Picture, Segment, Text, Turn, clean
from ..values import label, shown
from .files import UTF8_BOM, is_inside, numbered_lines, read_part, read_text, split_of, within
from .pictures import Pictures
from .reader import Place, Story, with_captions
from .report import Report
from .sample import DatasetError

MESSAGES = ("messages", "conversation", "conversations")  # the keys under which the messages may stand
PATHS = ("path", "image", "url", "image_url")  # the keys of a picture's path
IMAGES = ("image", "image_url")  # types of a part that is a picture
IDS = ("id", "conversation_id", "dialogue_id")


class Wrong(ValueError):
    """A conversation that is not in the format: a reason, and what is wrong in detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Lines:
    """Conversations as lines of JSON in several files, each read when it is asked for.

    Args:
        root: The folder that no picture may leave; pictures' paths are relative to the files' own folders.
        files: The files.
    """

    kind = "messages"

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root, files
        self.lists: dict[int, list[Any]] = {}

    def places(self, report: Report) -> Iterator[Place]:
        """Yield (file, line, start, length) of every line that is not blank; in a file, each id once.

        Of a file that is one list of conversations it is (file, number, -1, 0).
        """
        for number, path in enumerate(self.files):
            if not is_inside(path, self.root, report):
                continue
            seen: set[Any] = set()
            if is_list(path):
                self.lists[number] = _list(path)
                places: Iterator[Place] = ((number, place + 1, -1, 0) for place in range(len(self.lists[number])))
            else:
                places = ((number, *place) for place in numbered_lines(path, report))
            for place in places:
                if self._is_new(place, seen, report):
                    yield place

    def where(self, place: Place) -> str:
        """Return the file and the line."""
        return f"{within(self.files[place[0]], self.root)}:{place[1]}"

    def split(self, place: Place) -> str | None:
        """Return what the name of the file, or of its folder, says."""
        path = self.files[place[0]]
        return split_of(path.stem) or (split_of(path.parent.name, whole=True) if path.parent != self.root else None)

    def unit(self, place: Place) -> str:
        """Return the place, since each conversation stands for itself."""
        return self.where(place)

    def read(self, place: Place, pictures: Pictures, report: Report) -> Story | None:
        """Return the conversation of a line."""
        try:
            return self.story(self._record(place), place, pictures)
        except Wrong as error:
            report.leave_out(error.reason, self.where(place), error.detail)
            return None

    def story(self, record: Any, place: Place, pictures: Pictures) -> Story:
        """Return the conversation of a record; raise Wrong if it is not in the format."""
        messages = record
        if isinstance(record, dict):
            messages = next((record[key] for key in MESSAGES if key in record), None)
        if not isinstance(messages, list) or not messages:
            raise Wrong("it has no messages", "give a list of messages, each with role and content")
        base, where = self.files[place[0]].parent, self.where(place)
        turns: list[Turn] = []
        told: dict[tuple[int, int], str] = {}
        meant: dict[tuple[int, int], str] = {}
        for message in messages:
            if not isinstance(message, dict) or message.get("role") not in ROLES:
                role = message.get("role") if isinstance(message, dict) else message
                raise Wrong("a message has no role", f"it is {shown(role)}: give system, user or assistant")
            parts = _parts(message.get("content"))
            told |= {(len(turns), place): words for place, words in _words(parts, "told")}
            meant |= {(len(turns), place): words for place, words in _words(parts, "meant")}
            if not add_turn(turns, message["role"], [_segment(part, base, where, pictures) for part in parts]):
                break
        return Story(tuple(turns), told=told, meant=meant)

    def _record(self, place: Place) -> Any:
        number, line, start, length = place
        if start < 0:
            return self.lists[number][line - 1]
        try:
            return json.loads(read_part(self.files[number], start, length).decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise Wrong("the line is not UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise Wrong("the line is not valid JSON", "is it cut?" if isinstance(error, ValueError) else "") from error

    def _is_new(self, place: Place, seen: set[Any], report: Report) -> bool:
        """Return whether no earlier line has the id of this one."""
        try:
            record = self._record(place)
        except Wrong:
            return True  # `read` reports it
        found = next((record[key] for key in IDS if key in record), None) if isinstance(record, dict) else None
        if found is None or not isinstance(found, (str, int)):
            return True
        if found in seen:
            report.leave_out("its id was used before", self.where(place), shown(found))
            return False
        seen.add(found)
        return True


def is_list(path: Path) -> bool:
    """Return whether a .json file is one list, and not an object per line."""
    if path.suffix != ".json":
        return False
    with path.open("rb") as file:
        return file.read(4096).removeprefix(UTF8_BOM).lstrip()[:1] == b"["


def _list(path: Path) -> list[Any]:
    try:
        return json.loads(read_text(path, limit=2**31))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{label(path)} is not valid JSON: is it cut? Copy it again.") from error


def add_turn(turns: list[Turn], role: str, segments: list[Segment]) -> bool:
    """Append a turn; return False if a user's turn has lost its pictures and is empty, where a conversation ends.

    Pictures of the assistant without a caption get the nearest text.
    """
    if role == "user":
        segments = [segment for segment in segments if isinstance(segment, Text) or not segment.is_open]
        if not any(isinstance(segment, Picture) or segment.text.strip() for segment in segments):
            return False
    if role == "assistant":
        asked = turns[-1].text if turns else ""
        segments = list(with_captions(segments, asked))
    turns.append(Turn(role, tuple(segments)))  # type: ignore[arg-type]
    return True


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Wrong("a message has no content", f"it is {shown(content)}: give a text or a list of parts")
    return content


def _words(parts: list[Any], key: str) -> Iterator[tuple[int, str]]:
    """Yield what pictures have under a key, with the number of the picture."""
    images = [part for part in parts if isinstance(part, dict) and part.get("type") in IMAGES]
    for place, part in enumerate(images):
        if isinstance(part.get(key), str):
            yield place, " ".join(clean(part[key]).split())


def _segment(part: Any, base: Path, where: str, pictures: Pictures) -> Segment:
    if isinstance(part, str):
        return Text(part)
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind not in IMAGES:
        raise Wrong("a part of a message is neither text nor image", shown(kind))
    path = next((part[key] for key in PATHS if key in part), None)
    if isinstance(path, dict):  # {"image_url": {"url": …}}
        path = path.get("url")
    caption = part.get("caption", "")
    image = pictures.open(path, base, where)
    return Picture(caption if isinstance(caption, str) else "", image)  # type: ignore[arg-type]
