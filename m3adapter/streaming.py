"""Turns work that reports through a callback into an iterator of its reports."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from .events import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")


def reports(work: Callable[[Callable[[Item], None]], Result]) -> Generator[Item, None, Result]:
    """Yields what `work(emit)` emits, as it does, and returns what it returns; its exceptions are raised here.

    `work` runs in a thread of its own, in lockstep: emit() returns only when the next item is asked for, so what an
    item refers to does not change under its receiver. When the iterator is closed or fails, emit() raises Interrupted
    and the work is waited for. Modes that torch keeps per thread (no_grad, autocast) must be entered inside `work`.
    """
    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    asked_for_more = threading.Semaphore(0)
    abandoned = threading.Event()

    def emit(item: Item) -> None:
        inbox.put(("item", item))
        asked_for_more.acquire()
        if abandoned.is_set():
            raise Interrupted("The receiver of the reports is gone.")

    def run() -> None:
        try:
            inbox.put(("result", work(emit)))
        except BaseException as error:  # all of them are raised again, where somebody waits
            inbox.put(("error", error))

    worker = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="m3adapter-reports")
    worker.start()
    try:
        while True:
            kind, value = inbox.get()
            if kind == "result":
                return value
            if kind == "error":
                raise value
            yield value
            asked_for_more.release()
    finally:
        abandoned.set()
        asked_for_more.release()
        worker.join()
