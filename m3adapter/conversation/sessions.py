"""Sessions: conversations saved by name in one folder, each with a revision that grows with every save."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..values import shown
from .conversation import Conversation, ConversationError
from .locking import FolderLock
from .png_files import backup_of, kept_in_memory
from .storage import INDEX, Saved, read_index, read_saved, write_saved

MAX_NAME = 100  # characters
MAX_NAME_BYTES = 200  # file systems take 255, and a name gets a prefix and a suffix while it is being written

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = '/\\:*?"<>|'


class SessionError(ValueError):
    """Something that cannot be done with a session; the message is one sentence."""


class SessionMissing(SessionError):
    """There is no session of that name."""


class SessionConflict(SessionError):
    """The session has been changed meanwhile, or exists already."""


@dataclass(frozen=True)
class Session:
    """A saved conversation; `revision` counts its saves."""

    name: str
    revision: int
    conversation: Conversation


@dataclass(frozen=True)
class Summary:
    """An entry in a list of sessions.

    Attributes:
        name: The session's name.
        revision: How often it was saved.
        turns: How many turns it has.
        pictures: How many painted pictures it has.
        modified: When it was last saved, in seconds since 1970.
        error: Why it cannot be read; "" if it can.
    """

    name: str
    revision: int = 0
    turns: int = 0
    pictures: int = 0
    modified: float = 0.0
    error: str = ""


def check_name(name: str) -> None:
    """Raise SessionError unless `name` can be the name of a folder on every system, and stays in its parent folder."""
    cure = "choose another name"
    if not isinstance(name, str) or not name.strip():
        raise SessionError("The session has no name: give it one.")
    if len(name) > MAX_NAME or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise SessionError(
            f"The session's name has {len(name)} characters: give one of at most {MAX_NAME}, or fewer in some scripts."
        )
    if strange := [c for c in name if c in _FORBIDDEN or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]:
        raise SessionError(
            f"The session's name {shown(name)} contains {shown(strange[0])}, which file names cannot: {cure}."
        )
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        raise SessionError(f"The session's name {shown(name)} begins or ends with a dot or a space: {cure}.")
    if _RESERVED.fullmatch(name):
        raise SessionError(f"The session's name {shown(name)} is reserved by Windows: {cure}.")


class Sessions:
    """The sessions in a folder, which is made when the first one is saved.

    Names that differ only in case or in how letters are composed are the same name, since they are the same folder on
    some systems. Saving replaces a session as a whole: either the old or the new one can be loaded at any time.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._lock = FolderLock(self.root)  # folders must not be swapped while somebody reads their files

    def list(self) -> list[Summary]:
        """Return all sessions, the latest first, including damaged ones with their error."""
        with self._lock.reading():
            return sorted(map(self._summary, self._names()), key=lambda summary: -summary.modified)

    def load(self, name: str) -> Session:
        """Load a session; raise SessionMissing, or ConversationError if it is damaged."""
        with self._lock.reading():
            saved = read_saved(folder := self._folder(name))
            return Session(folder.name, saved.revision, Conversation(saved.turns, saved.cast, saved.awaiting))

    def save(self, name: str, conversation: Conversation, revision: int | None = None) -> Session:
        """Save a conversation under a name, replacing the session of that name.

        Args:
            name: The session's name.
            conversation: The conversation.
            revision: The revision that the conversation was made from, 0 for a new session; None replaces any.

        Raises:
            SessionError: The name cannot be used.
            SessionConflict: The session is at another revision by now, whose turns would be lost.
        """
        check_name(name)
        with self._lock.writing():
            present = self.revision(name)
            if revision is not None and revision != present:
                raise SessionConflict(_changed(name, present, revision))
            folder = self._folder(name, new=True)
            self._sweep(folder.name)
            write_saved(folder, Saved(conversation.turns, conversation.cast, present + 1, conversation.awaiting))
            return Session(folder.name, present + 1, conversation)

    def edit(self, name: str, change: Callable[[Conversation], Conversation], revision: int | None = None) -> Session:
        """Load a session, change it and save it under one lock; `revision` is that of `save`."""
        with self._changing(name):
            session = self.load(name)
            expected = session.revision if revision is None else revision
            return self.save(session.name, change(session.conversation), expected)

    def branch(self, name: str, to: str, turn: int | None = None) -> Session:
        """Copy a session to a new name, up to the turn of that index if one is given.

        Raises:
            SessionMissing: There is no session of that name.
            SessionConflict: The new name is taken.
        """
        with self._changing(name):
            conversation = self.load(name).conversation
            if self.exists(to):
                raise SessionConflict(f"The session {shown(to)} exists already: choose another name, or delete it.")
            return self.save(to, conversation if turn is None else conversation.rewind(turn), 0)

    def delete(self, name: str) -> None:
        """Delete a session; raise SessionMissing if there is none."""
        with self._changing(name):
            folder = self._folder(name)
            self._sweep(folder.name)
            for place in (folder, backup_of(folder)):
                kept_in_memory(place.resolve())
            if folder.exists():
                shutil.rmtree(
                    backup_of(folder), ignore_errors=True
                )  # otherwise it would be found in place of the folder
                gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
                os.rename(folder, gone)
            else:
                gone = backup_of(folder)
            shutil.rmtree(gone, ignore_errors=True)

    def exists(self, name: str) -> bool:
        """Return whether there is a session of that name; raise SessionError for an impossible name."""
        check_name(name)
        with self._lock.reading():
            return any(_same(name, other) for other in self._names())

    def revision(self, name: str) -> int:
        """Return how often the session of that name was saved, 0 if there is none, without opening its pictures."""
        with self._lock.reading():
            return read_index(self._folder(name))["revision"] if self.exists(name) else 0

    def fingerprint(self, name: str) -> str:
        """Return a string that changes whenever the session of that name changes, appears or vanishes."""
        with self._lock.reading():
            if not self.exists(name):
                return ""
            return f"{self.revision(name)} {self._modified(self._folder(name))}"

    def picture(self, name: str, file: str) -> bytes:
        """Return one of the session's PNGs, by its name in the index; raise SessionMissing if there is none."""
        with self._lock.reading():
            folder = self._folder(name)
            path = next((place / file for place in (folder, backup_of(folder)) if file in _pictures(place)), None)
            if path is None:
                raise SessionMissing(f"The session {shown(name)} has no picture {shown(file)}.")
            return path.read_bytes()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Lock the folder to change the session of that name; raise SessionMissing if there is none."""
        with self._lock.reading():
            self._folder(name)
        with self._lock.writing():
            yield

    def _summary(self, name: str) -> Summary:
        folder = self._folder(name)
        modified = self._modified(folder) / 1e9
        try:
            index = read_index(folder)
            turns = index["turns"]
            pictures = sum(segment.get("file") is not None for turn in turns for segment in turn["segments"])
        except (ConversationError, KeyError, TypeError, AttributeError) as error:
            return Summary(name, modified=modified, error=str(error))
        return Summary(name, index["revision"], len(turns), pictures, modified)

    def _modified(self, folder: Path) -> int:
        place = folder if folder.exists() else backup_of(folder)
        return (place / INDEX).stat().st_mtime_ns

    def _names(self) -> Sequence[str]:
        """Return the names on the disk, including a backup that an interrupted save left between its renames."""
        if not self.root.is_dir():
            return []
        names = set()
        for path in self.root.iterdir():
            match = re.fullmatch(r"\.(.+)\.previous", path.name)
            name = match[1] if match else path.name
            if _is_name(name) and path.is_dir() and not path.is_symlink() and (path / INDEX).is_file():
                names.add(name)
        return sorted(names)

    def _folder(self, name: str, *, new: bool = False) -> Path:
        check_name(name)
        for other in self._names():
            if _same(name, other):
                return self.root / other
        if not new:
            raise SessionMissing(f"There is no session {shown(name)}: choose a saved one.")
        return self.root / unicodedata.normalize("NFC", name)

    def _sweep(self, name: str) -> None:
        """Remove what interrupted saves and deletions of this session left behind; hold the lock for it."""
        for path in self.root.glob(".*"):
            if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}", path.name):
                shutil.rmtree(path, ignore_errors=True)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except SessionError:
        return False
    return True


def _same(name: str, other: str) -> bool:
    return unicodedata.normalize("NFC", name).casefold() == unicodedata.normalize("NFC", other).casefold()


def _pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("picture_*.png") if not path.is_symlink()} if folder.is_dir() else set()


def _changed(name: str, present: int, revision: int) -> str:
    now = f"is at revision {present} now" if present else "no longer exists"
    return f"The session {shown(name)} {now}, but this was made from revision {revision}: load it again, then save."
