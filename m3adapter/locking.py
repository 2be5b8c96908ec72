"""One at a time in a folder: among the threads of a process, and among processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 60.0  # seconds; what is done under the lock takes a few at most

_THREADS = threading.RLock()


class FolderBusy(ValueError):
    """Another process has kept a folder to itself for too long; the message is one clear sentence."""


class FolderLock:
    """Keeps a folder to the thread that holds it, which may take it again meanwhile.

    The system lets go of it when a process ends, however it ends. The lock's file lies beside the folder, so that the
    folder holds what is kept in it and nothing else. Nothing is locked as long as the folder is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        place = folder.absolute()
        self._file = FileLock(place.with_name(f".{place.name}.lock"), timeout=PATIENCE)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody changes the folder meanwhile. One that this user cannot write to is read all the same."""
        with _THREADS:
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
                self._file.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The folder is there, and nobody else reads or changes it meanwhile. Raises FolderBusy, and OSError."""
        with _THREADS:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                yield
            finally:
                self._file.release()

    def _acquire(self) -> None:
        try:
            self._file.acquire()
        except Timeout as error:
            raise FolderBusy(
                f"Another process has been working in the folder {self._folder.absolute().name} for {PATIENCE:g} "
                "seconds: try again when it has finished, or end it."
            ) from error
