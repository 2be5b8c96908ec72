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
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..conversation.segments import ROLES, Picture, Segment, Text, Turn, clean
from ..values import label, shown
from .captions import is_blank
from .files import MAX_TEXT, UTF8_BOM, is_inside, numbered_lines, read_part, read_text, split_of, within
from .pictures import Pictures
from .reader import Place, Story, with_captions
from .report import Report
from .sample import DatasetError

MESSAGES = ("messages", "conversation", "conversations")  # the keys under which the messages may stand
PATHS = ("path", "image", "url", "image_url")  # the keys of a picture's path
IMAGES = ("image", "image_url")  # types of a part that is a picture
IDS = ("id", "conversation_id", "dialogue_id")
ENDED = "the conversation ends before it, at an empty message of the user's"


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
            if is_spread(path):
                report.leave_out(
                    "a conversation goes over several lines, and must be one line", within(path, self.root)
                )
                continue
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
            messages = first_of(record, MESSAGES)
        if not isinstance(messages, list) or not messages:
            raise Wrong("it has no messages", "give a list of messages, each with role and content")
        base, where = self.files[place[0]].parent, self.where(place)
        turns: list[Turn] = []
        told: dict[tuple[int, int], str] = {}
        meant: dict[tuple[int, int], str] = {}
        for number, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in ROLES:
                role = message.get("role") if isinstance(message, dict) else message
                raise Wrong("a message has no role", f"it is {shown(role)}: give system, user or assistant")
            parts = _parts(message.get("content"))
            read = partial(_segment, base=base, where=where, pictures=pictures, role=message["role"])
            told |= {(len(turns), place): words for place, words in _words(parts, "told", where, pictures.report)}
            meant |= {(len(turns), place): words for place, words in _words(parts, "meant", where, pictures.report)}
            if not add_turn(turns, message["role"], [read(part) for part in parts]):
                lost = sum(map(_painted, messages[number + 1 :]))
                report_lost(lost, number + 1, where, pictures.report)
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
        found = first_of(record, IDS) if isinstance(record, dict) else None
        if found is None or not isinstance(found, (str, int)):
            return True
        if found in seen:
            report.leave_out("its id was used before", self.where(place), shown(found))
            return False
        seen.add(found)
        return True


def first_of(record: dict[str, Any], keys: Sequence[str]) -> Any:
    """Return the first value that stands under one of some keys; None if there is none, or all are null."""
    return next((record[key] for key in keys if record.get(key) is not None), None)


def is_list(path: Path) -> bool:
    """Return whether a .json file is one list, and not an object per line."""
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        return file.read(4096).removeprefix(UTF8_BOM).lstrip()[:1] == b"["


def is_spread(path: Path) -> bool:
    """Return whether a file is JSON that goes over several lines, as programs print it for people."""
    try:
        if is_list(path):
            return False
        lines: list[bytes] = []
        with path.open("rb") as file:
            while len(lines) < 2 and (line := file.readline(MAX_TEXT)):
                lines += [line.strip()] * bool(line.strip())
        first = lines[0].removeprefix(UTF8_BOM) if len(lines) == 2 else b""
        if first in (b"{", b"["):
            return True
        return first[:1] in (b"{", b"[") and not _parses(first.decode()) and _parses(read_text(path))
    except (OSError, ValueError):
        return False  # reading it line by line says what is wrong


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


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
        if not any(isinstance(segment, Picture) or not is_blank(segment.text) for segment in segments):
            return False
    if role == "assistant":
        asked = turns[-1].text if turns else ""
        segments = list(with_captions(segments, asked))
    turns.append(Turn(role, tuple(segments)))  # type: ignore[arg-type]
    return True


def report_lost(pictures: int, message: int, where: str, report: Report) -> None:
    """Count the assistant's pictures behind the place where `add_turn` ended a conversation."""
    if pictures:
        report.leave_out(ENDED, where, f"message {message}", count=pictures)


def _painted(message: Any) -> int:
    """Return how many pictures a message of the assistant's has."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return 0
    content = message.get("content")
    return len(_images(content)) if isinstance(content, list) else 0


def _images(parts: list[Any]) -> list[dict[str, Any]]:
    return [part for part in parts if isinstance(part, dict) and part.get("type") in IMAGES]


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Wrong("a message has no content", f"it is {shown(content)}: give a text or a list of parts")
    return content


def _words(parts: list[Any], key: str, where: str, report: Report) -> Iterator[tuple[int, str]]:
    """Yield what pictures have under a key, with the number of the picture."""
    for place, part in enumerate(_images(parts)):
        if isinstance(part.get(key), str):
            yield place, " ".join(clean(part[key]).split())
        elif part.get(key) is not None:
            report.leave_out(f"what stands under {key} is no text", where, shown(part[key]))


def _segment(part: Any, base: Path, where: str, pictures: Pictures, role: str) -> Segment:
    if isinstance(part, str):
        return Text(part)
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind not in IMAGES:
        raise Wrong("a part of a message is neither text nor image", shown(kind))
    path = first_of(part, PATHS)
    if isinstance(path, dict):  # {"image_url": {"url": …}}
        path = path.get("url")
    caption = part.get("caption")
    if caption is not None and not isinstance(caption, str):
        pictures.report.leave_out("the caption is no text", where, shown(caption))
        if role == "assistant":
            return Picture()  # the nearest text may say something else than the caption
        caption = None
    return Picture(caption or "", pictures.open(path, base, where))  # type: ignore[arg-type]
