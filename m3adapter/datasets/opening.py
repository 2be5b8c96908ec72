"""Opens a data set, whose layout is told by what lies there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..conversation.references import ReferencePolicy
from ..conversation.storage import INDEX, is_conversation
from ..values import label, number, shown, whole
from .files import walk
from .folder import Folder
from .found import Found, is_dialogue, is_json
from .messages import Lines
from .metadata import METADATA
from .mmdialog import MMDialog
from .reader import Reader
from .report import Report
from .sample import DatasetError
from .sessions import Sessions, saved_in
from .stories import HISTORY, Stories
from .vist import SUFFIX, Vist
from .webdataset import Tars

KINDS = ("folder", "messages", "vist", "mmdialog", "webdataset", "session")


def open_dataset(
    path: str | Path,
    kind: str | None = None,
    *,
    split: str | None = None,
    held_out: float = 0.05,
    check: bool = True,
    history: int = HISTORY,
    policy: ReferencePolicy | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Stories:
    """Open a data set; what is left out of it stands in its `report`.

    Args:
        path: Its folder, or its one file.
        kind: Its layout, one of KINDS; None tells it by what lies there.
        split: "train", "validation" or "test"; None takes everything. A data set that has no part for validation gives
            some of its conversations, always the same ones.
        held_out: The part of the conversations that is given, 0..0.5.
        check: Whether every picture is decoded once, so that no damaged one is met in training. Otherwise only headers
            are read, which takes less long.
        history: The most turns before a picture that a sample holds, from 1.
        policy: Chooses references; the first picture before the slot and the latest one by default.
        on_progress: Called with the numbers of conversations that were read, and of all.

    Raises:
        DatasetError: There is no data set, its layout is unknown, it has no samples, or an argument is out of range;
            the message is one sentence.
    """
    place = Path(path).expanduser()
    try:
        number("held_out", held_out, 0, 0.5)
        whole("history", history, 1, 2**31)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if kind is not None and kind not in KINDS:
        raise DatasetError(f"The layout of the data set is {shown(kind)}: give one of {', '.join(KINDS)}.")
    if not os.path.exists(place):  # unlike Path's, it is false for what cannot be reached
        raise DatasetError(f"There is no data set {place.name}: give its folder, or its file.")
    reader, unread = _reader(place.resolve(), kind)
    return Stories(
        reader,
        unread=unread,
        split=split or "",
        held_out=held_out,
        check=check,
        history=history,
        policy=policy,
        on_progress=on_progress,
    )


def _reader(place: Path, kind: str | None) -> tuple[Reader, list[Path]]:
    """Return a reader of a data set, of the layout that it has or is said to have, and what it does not read."""
    root = place if place.is_dir() else place.parent
    files = list(walk(root, Report())) if place.is_dir() else [place]
    found = Found(root, files)
    kind = kind or _kind(place, found)
    return _of_kind(kind, place, root, found), found.unread(kind)


def _of_kind(kind: str, place: Path, root: Path, found: Found) -> Reader:
    if kind == "session":
        saved = saved_in(root)
        return Sessions(root, saved) if saved else _missing(place, "saved conversation")
    if kind == "vist":
        stories = found.stories or [path for path in found.files if path == place]
        return Vist(root, stories) if stories else _missing(place, f"file whose name ends in {SUFFIX}")
    if kind == "mmdialog":
        dialogues = [path for path in found.files if is_json(path) and is_dialogue(path)]
        return MMDialog(root, dialogues) if dialogues else _missing(place, "dialogue")
    if kind == "webdataset":
        return Tars(root, found.tars) if found.tars else _missing(place, ".tar file")
    if kind == "messages":
        lines = found.conversations or found.lines
        lines = lines or [path for path in found.files if path == place and is_json(path)]
        return Lines(root, lines) if lines else _missing(place, "file of JSON Lines, whose name ends in .jsonl")
    if not found.pictures and not found.tables:
        _missing(place, "picture")
    return Folder(root)


def _kind(place: Path, found: Found) -> str:
    """Tell the layout of a data set by what lies there; a stray file or two of another layout change nothing."""
    if (place.is_dir() and saved_in(place)) or (place.name == INDEX and is_conversation(place.parent)):
        return "session"
    if found.stories:
        return "vist"
    if len(found.tars) > len(found.captioned) and not (found.tables and found.pictures):
        return "webdataset"
    if found.dialogues:
        return "mmdialog"
    if found.surely_conversations:
        return "messages"
    if found.captioned or found.tables:
        return "folder"
    if found.misnamed:
        raise DatasetError(f"{label(found.misnamed[0])} is a table of captioned pictures: call it {METADATA[0]}.")
    if found.conversations:
        return "messages"
    if found.pictures:
        return "folder"
    if found.lines or any(path == place and is_json(path) for path in found.files):
        return "messages"
    raise DatasetError(f"{place.name} holds neither pictures nor conversations: see docs/training.md for the layouts.")


def _missing(place: Path, what: str) -> NoReturn:
    raise DatasetError(f"{place.name} has no {what}: give another folder, or another layout.")
