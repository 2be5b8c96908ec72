"""One at a time in a folder: among the threads of a process, and among processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

PATIENCE = 60.0  # seconds; what is done under the lock takes a few at most


class FolderBusy(ValueError):
    """Somebody else has kept a folder to himself for too long; the message is one clear sentence."""


class _Locks:
    """Those of one folder, which all that work on it in this process share, so that a thread may take them again."""

    def __init__(self, file: Path) -> None:
        self.thread = threading.RLock()
        self.process = FileLock(file)


_SHARED: WeakValueDictionary[str, _Locks] = WeakValueDictionary()
_SHARING = threading.Lock()


def _shared(file: Path) -> _Locks:
    key = os.path.normcase(os.path.join(os.path.realpath(file.parent), file.name))
    with _SHARING:
        locks = _SHARED.get(key)
        if locks is None:
            locks = _SHARED[key] = _Locks(file)
        return locks


class FolderLock:
    """Keeps a folder to the thread that holds it, which may take it again meanwhile, by this object or another one.

    The system lets go of it when a process ends, however it ends. The lock's file lies beside the folder, so that the
    folder holds what is kept in it and nothing else. Nothing is locked as long as the folder is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        place = folder.absolute()
        self._locks = _shared(place.with_name(f".{place.name}.lock"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody changes the folder meanwhile. One that this user cannot write to is read all the same."""
        with self._alone():
            if not self._folder.is_dir():
                yield
                return
            try:
                self._acquire()
            except OSError:  # no lock file can be made there: what is read-only nobody of us changes
                yield
                return
            try:
                yield
            finally:
                self._locks.process.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The folder is there, and nobody else reads or changes it meanwhile. Raises FolderBusy, and OSError."""
        with self._alone():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                yield
            finally:
                self._locks.process.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread of this process is in the folder."""
        if not self._locks.thread.acquire(timeout=PATIENCE):
            raise self._busy("Something else")
        try:
            yield
        finally:
            self._locks.thread.release()

    def _acquire(self) -> None:
        try:
            self._locks.process.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise self._busy("Another process") from error

    def _busy(self, who: str) -> FolderBusy:
        return FolderBusy(
            f"{who} has been working in the folder {self._folder.absolute().name} for {PATIENCE:g} seconds: "
            "try again when it has finished, or end it."
        )
