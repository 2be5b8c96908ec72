"""A lock on a folder, which keeps out other threads of this process and other processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

PATIENCE = 60.0  # seconds; work under the lock takes a few at most


class FolderBusy(ValueError):
    """A folder has been locked by somebody else for too long; the message is one sentence."""


class _Locks:
    """The locks of one folder, shared by the whole process, so that a thread may take them again."""

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
    """Reserves a folder for one thread, which may take the lock again, by this object or another one.

    The system releases the lock when a process ends, however it ends. The lock's file is beside the folder, which
    itself has no trace of it. A folder that does not exist is not locked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        place = folder.absolute()
        self._locks = _shared(place.with_name(f".{place.name}.lock"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep others from changing the folder; a folder that this user cannot write to is read without a lock."""
        with self._alone():
            if not self._folder.is_dir():
                yield
                return
            try:
                self._acquire()
            except OSError:  # no lock file can be made there, so this user cannot change the folder either
                yield
                return
            try:
                yield
            finally:
                self._locks.process.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the folder if it is missing, and keep others from reading or changing it.

        Raises:
            FolderBusy: Somebody else has held the lock for too long.
            OSError: The folder or its lock cannot be made.
        """
        with self._alone():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                yield
            finally:
                self._locks.process.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads of this process out of the folder."""
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
