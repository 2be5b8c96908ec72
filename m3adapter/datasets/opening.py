"""Opens a data set, whose layout is told by what lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..conversation.references import ReferencePolicy
from ..values import number, shown, whole
from .files import SUFFIXES, walk
from .folder import METADATA, Folder
from .messages import Lines
from .report import Report
from .sample import DatasetError
from .stories import HISTORY, Reader, Stories

KINDS = ("folder", "messages")


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
    if not place.exists():
        raise DatasetError(f"There is no data set {place.name}: give its folder, or its file.")
    return Stories(
        _reader(place.resolve(), kind),
        split=split or "",
        held_out=held_out,
        check=check,
        history=history,
        policy=policy,
        on_progress=on_progress,
    )


def _reader(place: Path, kind: str | None) -> Reader:
    root = place if place.is_dir() else place.parent
    files = list(walk(root, Report())) if place.is_dir() else [place]
    if place.is_file() and place.name in METADATA:
        kind = kind or "folder"
    lines = [path for path in files if path.suffix == ".jsonl" and path.name not in METADATA]
    if kind == "messages" or (kind is None and lines):
        if not lines:
            raise DatasetError(
                f"{place.name} has no conversations as JSON Lines: give a file whose name ends in .jsonl."
            )
        return Lines(root, lines)
    if kind == "folder" or any(path.suffix.lower() in SUFFIXES or path.name in METADATA for path in files):
        return Folder(root)
    raise DatasetError(f"{place.name} holds neither pictures nor conversations: see docs/training.md for the layouts.")
