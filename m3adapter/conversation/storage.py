"""A conversation as a folder on disk: conversation.json (version 2; 1 is read too) and a PNG per picture.

What was put aside when something was told or painted again lies beside it, under "versions". Packs that do not know of
it open such a folder all the same and read the conversation as it stands; what they save of it has no versions.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..values import is_whole, shown
from ..weights.model_files import label
from .cast import Character
from .entries import Damaged, add_versions, read_turns, read_versions, turn_entries, versions_entry
from .pictures import PictureError, read_picture
from .segments import ConversationError, Picture, Turn
from .versions import Versions

VERSION = 2
MAX_REVISION = 2**53  # what pages can count to
INDEX = "conversation.json"
PICTURE_NAME = re.compile(r"picture_[0-9]+\.png", re.ASCII)


class Saved(NamedTuple):
    """What a folder holds: the turns, the cast, and how often it was saved, where somebody counts that.

    `awaiting` are the versions of the turn that is to be taken next.
    """

    turns: Sequence[Turn]
    cast: Sequence[Character] = ()
    revision: int = 0
    awaiting: Versions = Versions()


def files(saved: Saved) -> Iterator[tuple[str, bytes]]:
    """The files of a saved conversation as (name, bytes): the pictures, then the index that names them.

    Those of versions come last, and none of theirs twice: packs that know no versions read all but them.
    """
    pngs: dict[str, bytes] = {}
    names: dict[bytes, str] = {}

    def keep(png: bytes) -> str:
        name = f"picture_{len(pngs) + 1}.png"
        pngs[name] = png
        names.setdefault(png, name)
        return name

    def keep_once(png: bytes) -> str:
        return names.get(png) or keep(png)

    written = turn_entries(saved.turns, keep)
    cast = [{"name": one.name, "pictures": [keep(picture.png) for picture in one.pictures]} for one in saved.cast]
    add_versions(written, saved.turns, keep_once)
    index: dict[str, Any] = {"version": VERSION, "revision": saved.revision, "turns": written, "cast": cast}
    if saved.awaiting.others:
        index["awaiting"] = versions_entry(saved.awaiting, keep_once)
    yield from pngs.items()
    yield INDEX, json_bytes(index)


def json_bytes(content: Any) -> bytes:
    """As it is written: for people to read, too."""
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode("utf-8") + b"\n"


def write_file(path: Path, data: bytes) -> None:
    """Writes a file so that at every moment it is absent, old or whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_through(draft, data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_saved(directory: str | Path, saved: Saved) -> None:
    """Writes a conversation's folder beside `directory`, then swaps the two.

    Between the swap's two renames the old folder is only at its backup name, where read_saved() looks too. Raises
    ConversationError where `directory` holds anything but a conversation: the swap would take it away.
    """
    target = _absolute(directory)
    backup = backup_of(target)
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        for name, data in files(saved):
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


def read_saved(directory: str | Path) -> Saved:
    """What is saved in `directory`. Raises ConversationError with one sentence on whatever is wrong with it."""
    folder = _found(directory)
    content = read_index(folder)

    def png(name: Any) -> bytes:
        return _bytes(_file(folder, name))

    try:
        turns = read_turns(content["turns"], lambda name, how: _picture(_file(folder, name), how), png)
        cast = tuple(
            Character(entry["name"], tuple(_picture(_file(folder, name), {}) for name in entry["pictures"]))
            for entry in content["cast"]
        )
        awaiting = read_versions(content.get("awaiting"), png)
    except Damaged as error:
        raise ConversationError(f"{label(folder / INDEX)} is damaged: {error}") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConversationError(f"{label(folder / INDEX)} is damaged: a turn in it is incomplete.") from error
    return Saved(turns, cast, content["revision"], awaiting)


def read_index(directory: str | Path) -> dict[str, Any]:
    """The index of a saved conversation as version 2 has it: "turns", "cast", "revision". Opens no picture.

    Raises ConversationError with one sentence where it is missing, damaged, or of a version yet unknown.
    """
    folder = _found(directory)
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
    if version == 1:  # it knew neither cast nor revision
        content = {**content, "version": VERSION, "cast": [], "revision": 0}
    if not is_whole(content.get("revision"), 0, MAX_REVISION):
        raise ConversationError(f"{label(path)} is damaged: its revision is {shown(content.get('revision'))}.")
    return content


def is_conversation(directory: Path) -> bool:
    """Whether the folder holds a saved conversation, of whatever version (its pictures are not opened)."""
    try:
        content = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("turns"), list) and type(content.get("version")) is int


def _file(directory: Path, name: Any) -> Path:
    """The path of a picture that an index names."""
    if not (isinstance(name, str) and PICTURE_NAME.fullmatch(name)):
        raise ConversationError(
            f"{label(directory / INDEX)} names the file {shown(name)}, and only picture_<k>.png may be."
        )
    if (directory / name).is_symlink():
        raise ConversationError(
            f"{label(directory / name)} is a link: a conversation's pictures must be its own files."
        )
    return directory / name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConversationError(f"The picture {path.name} does not exist.") from error
    except OSError as error:
        raise ConversationError(f"The picture {path.name} cannot be read: {error.strerror}.") from error


def _picture(path: Path, how: dict[str, Any]) -> Picture:
    try:
        picture = Picture(image=read_picture(path, formats=("PNG",)), **how)
    except PictureError as error:
        raise ConversationError(str(error)) from error
    vars(picture)["png"] = path.read_bytes()  # what it was read from is what it is written as
    return picture


def _absolute(directory: str | Path) -> Path:
    return Path(directory).expanduser().resolve()


def _found(directory: str | Path) -> Path:
    """The folder itself, or its backup where a save was cut off between its two renames."""
    target = _absolute(directory)
    backup = backup_of(target)
    return backup if not target.exists() and (backup / INDEX).is_file() else target


def backup_of(target: Path) -> Path:
    """Where the folder lies while it is being replaced."""
    return target.with_name(f".{target.name}.previous")


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ConversationError(f"{target.name} is a file: choose a folder for the conversation.")
    foreign = sorted(p.name for p in target.iterdir() if p.name != INDEX and not PICTURE_NAME.fullmatch(p.name))
    if foreign:
        raise ConversationError(f"{target.name} holds other files ({foreign[0]}): choose an empty or a new folder.")


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a rename must never be on disk before what it names
