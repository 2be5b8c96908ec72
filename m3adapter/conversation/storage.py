"""A conversation as a folder on disk: conversation.json (version 2; 1 is read too) and a PNG per picture.

Earlier versions of turns and pictures are stored beside them, under "versions". Older packs, which do not know that
key, open such a folder and read the conversation as it stands; what they save has no versions. The same holds for
"looks" of the cast and "seen" of a picture.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..values import is_whole, label, shown
from .cast import Character
from .entries import Damaged, PictureFields, Png, add_versions, read_turns, read_versions, turn_entries, versions_entry
from .pictures import PictureError
from .png_files import PngFile, backup_of, data_of, is_same, kept_in_memory, length, replacing
from .segments import ConversationError, Picture, Turn
from .versions import Versions

VERSION = 2
MAX_REVISION = 2**53  # what pages can count to
INDEX = "conversation.json"
PICTURE_NAME = re.compile(r"picture_[0-9]+\.png", re.ASCII)


class Saved(NamedTuple):
    """The contents of a conversation's folder.

    Attributes:
        turns: The turns.
        cast: The cast.
        revision: How often the conversation was saved, if it is a session.
        awaiting: Earlier versions of the turn that comes next.
    """

    turns: tuple[Turn, ...]
    cast: tuple[Character, ...] = ()
    revision: int = 0
    awaiting: Versions = Versions()


def files(saved: Saved) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a saved conversation as (name, bytes): the pictures, then the index that names them."""
    pngs, index = _contents(saved)
    for name, png in pngs.items():
        yield name, _data(png)
    yield INDEX, index


def _contents(saved: Saved) -> tuple[dict[str, Png], bytes]:
    """Return the pictures of a saved conversation by name, and the index.

    The pictures of versions come last, none of them twice, so that older packs find the others where they expect them.
    """
    pngs: dict[str, Png] = {}
    lengths: defaultdict[int, list[str]] = defaultdict(list)

    def keep(png: Png) -> str:
        name = f"picture_{len(pngs) + 1}.png"
        pngs[name] = png
        lengths[length(png)].append(name)
        return name

    def keep_once(png: Png) -> str:
        return next((name for name in lengths[length(png)] if is_same(png, pngs[name])), None) or keep(png)

    with _said():
        turns = turn_entries(saved.turns, keep)
        cast = [
            {
                "name": character.name,
                "pictures": [keep(picture.stored) for picture in character.pictures],
                **({"looks": character.looks} if character.looks else {}),
            }
            for character in saved.cast
        ]
        add_versions(turns, saved.turns, keep_once)
        index: dict[str, Any] = {"version": VERSION, "revision": saved.revision, "turns": turns, "cast": cast}
        if saved.awaiting.others:
            index["awaiting"] = versions_entry(saved.awaiting, keep_once)
    return pngs, json_bytes(index)


def _data(png: Png) -> bytes:
    with _said():
        return data_of(png)


@contextmanager
def _said() -> Iterator[None]:
    """Raise a PictureError as a ConversationError."""
    try:
        yield
    except PictureError as error:
        raise ConversationError(str(error)) from error


def json_bytes(content: Any) -> bytes:
    """Encode JSON as it is written to files, readable for people too."""
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode("utf-8") + b"\n"


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that at any time it is either absent, old or complete."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_through(draft, data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_saved(directory: str | Path, saved: Saved) -> None:
    """Write a conversation's folder beside `directory`, then swap the two.

    Between the swap's two renames the old folder exists only under its backup name, where `read_saved` looks too.

    Raises:
        ConversationError: `directory` holds anything but a conversation, which the swap would remove.
        OSError: The folder cannot be written.
    """
    target, source = _absolute(directory), _present(directory)
    backup = backup_of(target)
    _check_replaceable(target)
    pngs, index = _contents(saved)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        stayed: dict[str, str] = {}
        for name, png in pngs.items():
            if isinstance(png, PngFile) and (old := png.link(source, draft / name)) is not None:
                stayed[old] = name
            else:
                _write_through(draft / name, _data(png))
        _write_through(draft / INDEX, index)
        if target.exists():
            kept_in_memory(backup)
            shutil.rmtree(backup, ignore_errors=True)  # left by a save that was interrupted after its swap
        with replacing(source, backup, target, stayed):
            if target.exists():
                os.rename(target, backup)
            os.rename(draft, target)
    except BaseException:
        if backup.exists() and not target.exists():
            os.rename(backup, target)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(backup, ignore_errors=True)
    _note_files(saved, target)


def _note_files(saved: Saved, folder: Path) -> None:
    """Let pictures know where they are stored now, so that the next save there need not write them again."""
    present = [segment for turn in saved.turns for segment in turn.segments if isinstance(segment, Picture)]
    present = [picture for picture in present if not picture.is_open]
    present += [picture for character in saved.cast for picture in character.pictures]
    for number, picture in enumerate(present, 1):
        if not (isinstance(picture.stored, PngFile) and picture.stored.path == folder / f"picture_{number}.png"):
            with suppress(PictureError):  # somebody is quicker: then it is written again
                picture.keep(PngFile(folder / f"picture_{number}.png"))


def read_saved(directory: str | Path) -> Saved:
    """Read the conversation in `directory`; raise ConversationError, one sentence, if it is missing or damaged."""
    folder = _present(directory)
    content = read_index(folder)

    opened: dict[str, PngFile] = {}

    def png(name: Any) -> PngFile:
        path = _file(folder, name)
        if path.name not in opened:
            with _said():
                opened[path.name] = PngFile(path)
        return opened[path.name]

    def picture(name: Any, fields: PictureFields) -> Picture:
        return Picture(image=png(name), **fields)  # type: ignore[arg-type]

    try:
        turns = read_turns(content["turns"], picture, png)
        cast = tuple(
            Character(entry["name"], tuple(picture(name, {}) for name in entry["pictures"]), entry.get("looks", ""))
            for entry in content["cast"]
        )
        awaiting = read_versions(content.get("awaiting"), png)
    except Damaged as error:
        raise ConversationError(f"{label(folder / INDEX)} is damaged: {error}") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConversationError(f"{label(folder / INDEX)} is damaged: a turn in it is incomplete.") from error
    return Saved(turns, cast, content["revision"], awaiting)


def read_index(directory: str | Path) -> dict[str, Any]:
    """Read the index of a saved conversation in the form of version 2, without opening pictures.

    Raises:
        ConversationError: The index is missing, damaged, or of an unknown version; the message is one sentence.
    """
    folder = _present(directory)
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConversationError(f"There is no saved conversation in {folder.name}: {INDEX} is missing.") from error
    except OSError as error:
        raise ConversationError(f"{label(path)} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConversationError(f"{label(path)} is damaged: it is not valid JSON.") from error
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is int and version > VERSION:
        raise ConversationError(
            f"{label(path)} has version {shown(version)}, and this pack reads {VERSION}: update the pack."
        )
    if type(version) is not int or version < 1:
        raise ConversationError(
            f"{label(path)} has version {shown(version)}, and this pack reads versions 1 to {VERSION}."
        )
    if version == 1:  # which had neither cast nor revision
        content = {**content, "version": VERSION, "cast": [], "revision": 0}
    if not is_whole(content.get("revision"), 0, MAX_REVISION):
        raise ConversationError(f"{label(path)} is damaged: its revision is {shown(content.get('revision'))}.")
    return content


def is_conversation(directory: Path) -> bool:
    """Return whether a folder holds a saved conversation of any version, without opening its pictures."""
    try:
        content = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("turns"), list) and type(content.get("version")) is int


def _file(directory: Path, name: Any) -> Path:
    """Return the path of a picture that an index names."""
    if not (isinstance(name, str) and PICTURE_NAME.fullmatch(name)):
        raise ConversationError(
            f"{label(directory / INDEX)} names the file {shown(name)}, but only picture_<k>.png is allowed."
        )
    if (directory / name).is_symlink():
        raise ConversationError(
            f"{label(directory / name)} is a link: a conversation's pictures must be its own files."
        )
    return directory / name


def _absolute(directory: str | Path) -> Path:
    return Path(directory).expanduser().resolve()


def _present(directory: str | Path) -> Path:
    """Return the folder, or its backup if a save was interrupted between its two renames."""
    target = _absolute(directory)
    backup = backup_of(target)
    return backup if not target.exists() and (backup / INDEX).is_file() else target


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ConversationError(f"{target.name} is a file: choose a folder.")
    foreign = sorted(p.name for p in target.iterdir() if p.name != INDEX and not PICTURE_NAME.fullmatch(p.name))
    if foreign:
        raise ConversationError(f"{target.name} holds other files ({foreign[0]}): choose an empty or a new folder.")


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # the contents must be on disk before the rename is
