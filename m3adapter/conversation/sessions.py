"""Sessions: conversations saved by name in one folder, each with a revision that grows with every save."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..values import shown
from .conversation import Conversation, ConversationError
from .locking import FolderLock
from .storage import INDEX, Saved, backup_of, read_index, read_saved, write_saved

MAX_NAME = 100  # characters
MAX_NAME_BYTES = 200  # file systems take 255, and a name gets a prefix and a suffix while it is being written

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = '/\\:*?"<>|'


class SessionError(ValueError):
    """What cannot be done with a session; the message is one clear sentence."""


class SessionMissing(SessionError):
    """There is no session of that name."""


class SessionConflict(SessionError):
    """Somebody else has changed the session meanwhile, or it exists already."""


@dataclass(frozen=True)
class Session:
    """A conversation as it was saved: `revision` counts its saves."""

    name: str
    revision: int
    conversation: Conversation


@dataclass(frozen=True)
class Summary:
    """What a list of sessions tells of one. `error` says why it cannot be read; `modified` is in seconds since 1970."""

    name: str
    revision: int = 0
    turns: int = 0
    pictures: int = 0
    modified: float = 0.0
    error: str = ""


def check_name(name: str) -> None:
    """Raises SessionError, one sentence, unless `name` can be a folder's on every system, and of no other folder."""
    cure = "choose another name"
    if not isinstance(name, str) or not name.strip():
        raise SessionError("The session has no name: give it one.")
    if len(name) > MAX_NAME or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise SessionError(
            f"The session's name has {len(name)} characters: {MAX_NAME} are most, fewer in some scripts."
        )
    if strange := [c for c in name if c in _FORBIDDEN or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]:
        raise SessionError(f"The session's name {shown(name)} holds {shown(strange[0])}, which no file's may: {cure}.")
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        raise SessionError(f"The session's name {shown(name)} begins or ends with a dot or a space: {cure}.")
    if _RESERVED.fullmatch(name):
        raise SessionError(f"The session's name {shown(name)} is one that Windows keeps for itself: {cure}.")


class Sessions:
    """The sessions in a folder, which is made when the first one is saved.

    Names that differ only by case or by how letters are composed are one: on some systems they are one folder.
    Saving replaces a session as a whole: whatever happens meanwhile, the old or the new one can be loaded.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._lock = FolderLock(self.root)  # a swap of folders must not come between the files that somebody reads

    def list(self) -> list[Summary]:
        """All sessions, the latest first. One that is damaged is among them, and says so."""
        with self._lock.reading():
            return sorted(map(self._summary, self._names()), key=lambda each: -each.modified)

    def load(self, name: str) -> Session:
        """Raises SessionMissing, or ConversationError where it is damaged."""
        with self._lock.reading():
            saved = read_saved(folder := self._folder(name))
            return Session(folder.name, saved.revision, Conversation(saved.turns, saved.cast, saved.awaiting))

    def save(self, name: str, conversation: Conversation, revision: int | None = None) -> Session:
        """Saves the conversation under a name, in place of what is there.

        `revision` is the one that the conversation was made from, 0 for none: SessionConflict is raised where it is not
        the present one any more, so that nobody's turns get lost. None replaces whatever is there.
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
        """Loads a session, changes it and saves it, with nobody in between. `revision` as for `save`."""
        with self._changing(name):
            session = self.load(name)
            expected = session.revision if revision is None else revision
            return self.save(session.name, change(session.conversation), expected)

    def branch(self, name: str, to: str, turn: int | None = None) -> Session:
        """Copies a session to a new name, up to the turn of that index if one is given. The first one stays.

        Raises SessionConflict where the new name is taken.
        """
        with self._changing(name):
            conversation = self.load(name).conversation
            if self.exists(to):
                raise SessionConflict(f"There is a session {to} already: choose another name, or delete it first.")
            return self.save(to, conversation if turn is None else conversation.rewind(turn), 0)

    def delete(self, name: str) -> None:
        """Deletes a session. Raises SessionMissing."""
        with self._changing(name):
            folder = self._folder(name)
            self._sweep(folder.name)
            if folder.exists():
                shutil.rmtree(backup_of(folder), ignore_errors=True)  # else it would be found in the folder's place
                gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
                os.rename(folder, gone)
            else:
                gone = backup_of(folder)
            shutil.rmtree(gone, ignore_errors=True)

    def exists(self, name: str) -> bool:
        """Whether there is a session of that name. Raises SessionError for a name that none can have."""
        check_name(name)
        with self._lock.reading():
            return any(_same(name, other) for other in self._names())

    def revision(self, name: str) -> int:
        """How often the session of that name was saved; 0 where there is none. It is not opened but for that."""
        with self._lock.reading():
            return read_index(self._folder(name))["revision"] if self.exists(name) else 0

    def fingerprint(self, name: str) -> str:
        """Something that changes whenever the session of that name does, appears or vanishes."""
        with self._lock.reading():
            if not self.exists(name):
                return ""
            return f"{self.revision(name)} {self._modified(self._folder(name))}"

    def picture(self, name: str, file: str) -> bytes:
        """One of the session's PNGs, by the name that its index gives. Raises SessionMissing."""
        with self._lock.reading():
            folder = self._folder(name)
            path = next((each / file for each in (folder, backup_of(folder)) if file in _pictures(each)), None)
            if path is None:
                raise SessionMissing(f"The session {name} has no picture {file}.")
            return path.read_bytes()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Nobody else in the folder, where there is a session of that name. Raises SessionMissing."""
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

    def _names(self) -> list[str]:
        """The names on the disk; a save that was cut off between its renames has left one at its backup only."""
        if not self.root.is_dir():
            return []
        found = set()
        for path in self.root.iterdir():
            match = re.fullmatch(r"\.(.+)\.previous", path.name)
            name = match[1] if match else path.name
            if _is_name(name) and path.is_dir() and not path.is_symlink() and (path / INDEX).is_file():
                found.add(name)
        return sorted(found)

    def _folder(self, name: str, *, new: bool = False) -> Path:
        check_name(name)
        for other in self._names():
            if _same(name, other):
                return self.root / other
        if not new:
            raise SessionMissing(f"There is no session {name}: choose one of those that were saved.")
        return self.root / unicodedata.normalize("NFC", name)

    def _sweep(self, name: str) -> None:
        """Removes what saves and deletions of this session that were cut off have left: under the lock, no other's."""
        for path in self.root.glob(".*"):
            if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}", path.name):
                shutil.rmtree(path, ignore_errors=True)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except SessionError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one).casefold() == unicodedata.normalize("NFC", other).casefold()


def _pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("picture_*.png") if not path.is_symlink()} if folder.is_dir() else set()


def _changed(name: str, present: int, revision: int) -> str:
    now = f"is at revision {present} now" if present else "is not there any more"
    return f"The session {name} {now}, and this was made from revision {revision}: load it again, then save."
