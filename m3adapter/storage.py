"""Turns as a folder on disk: conversation.json (version 1) and a PNG per picture."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .pictures import PictureError, png_bytes, read_picture
from .segments import ConversationError, Picture, Segment, Text, Turn

VERSION = 1
INDEX = "conversation.json"
PICTURE_NAME = re.compile(r"picture_[0-9]+\.png", re.ASCII)


def files(turns: Sequence[Turn]) -> Iterator[tuple[str, bytes]]:
    """The files of a saved conversation as (name, bytes): the pictures, then the index that names them."""
    written, count = [], 0
    for turn in turns:
        segments: list[dict[str, Any]] = []
        for segment in turn.segments:
            if isinstance(segment, Text):
                segments.append({"type": "text", "text": segment.text})
                continue
            entry: dict[str, Any] = {"type": "picture", "caption": segment.caption, "file": None}
            entry.update(seed=segment.seed, gate=segment.gate)
            if segment.image is not None:
                count += 1
                entry["file"] = f"picture_{count}.png"
                yield entry["file"], png_bytes(segment.image)
            segments.append(entry)
        written.append({"role": turn.role, "segments": segments})
    text = json.dumps({"version": VERSION, "turns": written}, ensure_ascii=False, indent=2, allow_nan=False)
    yield INDEX, text.encode("utf-8") + b"\n"


def write_file(path: Path, data: bytes) -> None:
    """Writes a file so that at every moment it is absent, old or whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_through(draft, data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def save_turns(directory: str | Path, turns: Sequence[Turn]) -> None:
    """Writes a conversation's folder beside `directory`, then swaps the two.

    Between the swap's two renames the old folder is only at its backup name, where read_turns() looks too. Raises
    ConversationError where `directory` holds anything but a conversation: the swap would take it away.
    """
    target = _absolute(directory)
    backup = _backup(target)
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        for name, data in files(turns):
            _write_through(draft / name, data)
        if target.exists():
            shutil.rmtree(backup, ignore_errors=True)  # of an earlier save that was cut off after its swap
            os.rename(target, backup)
        os.rename(draft, target)
    except BaseException:
        if backup.exists() and not target.exists():
            os.rename(backup, target)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(backup, ignore_errors=True)


def read_turns(directory: str | Path) -> tuple[Turn, ...]:
    """The turns saved in `directory`. Raises ConversationError with one sentence on whatever is wrong with it."""
    target = _absolute(directory)
    if not target.exists() and (_backup(target) / INDEX).is_file():
        target = _backup(target)
    path = target / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConversationError(f"There is no saved conversation in {target}: {INDEX} is missing.") from error
    except OSError as error:
        raise ConversationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConversationError(f"{path} is damaged: it is not valid JSON.") from error
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is int and version > VERSION:
        raise ConversationError(f"{path} has version {version}, and this pack reads {VERSION}: update the pack.")
    if type(version) is not int or version != VERSION:
        raise ConversationError(f"{path} has version {version!r}, and this pack reads only version {VERSION}.")
    try:
        return tuple(_turn(target, entry) for entry in content["turns"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversationError(f"{path} is damaged: a turn in it is incomplete.") from error


def is_conversation(directory: Path) -> bool:
    """Whether the folder holds a saved conversation, of whatever version (its pictures are not opened)."""
    try:
        content = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("turns"), list) and type(content.get("version")) is int


def _turn(directory: Path, entry: dict[str, Any]) -> Turn:
    return Turn(entry["role"], tuple(_segment(directory, segment) for segment in entry["segments"]))


def _segment(directory: Path, entry: dict[str, Any]) -> Segment:
    kind = entry["type"]
    if kind == "text":
        return Text(entry["text"])
    if kind != "picture":
        raise ConversationError(f"{directory / INDEX} is damaged: {kind!r} is no kind of segment.")
    name, image = entry["file"], None
    if name is not None:
        if not (isinstance(name, str) and PICTURE_NAME.fullmatch(name)):
            raise ConversationError(f"{directory / INDEX} names the file {name!r}, and only picture_<k>.png may be.")
        if (directory / name).is_symlink():
            raise ConversationError(f"{directory / name} is a link: a conversation's pictures must be its own files.")
        try:
            image = read_picture(directory / name, formats=("PNG",))
        except PictureError as error:
            raise ConversationError(str(error)) from error
    return Picture(entry["caption"], image, entry.get("seed"), entry.get("gate"))


def _absolute(directory: str | Path) -> Path:
    return Path(directory).expanduser().resolve()


def _backup(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ConversationError(f"{target} is a file: choose a folder for the conversation.")
    foreign = sorted(p.name for p in target.iterdir() if p.name != INDEX and not PICTURE_NAME.fullmatch(p.name))
    if foreign:
        raise ConversationError(f"{target} holds other files ({foreign[0]}): choose an empty or a new folder.")


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a rename must never be on disk before what it names
