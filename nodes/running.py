"""What a running node shows (progress, previews, growing text), and how it is interrupted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..m3adapter.conversation.conversation import Slot
from ..m3adapter.diffusion.preview import Preview
from ..m3adapter.events import (
    Event,
    GateAdapted,
    Interrupted,
    PictureStarted,
    ReplyWritten,
    Shortened,
    SoFar,
    Step,
    StoryEnded,
    TextChunk,
    TextWithdrawn,
    ThoughtChunk,
    TurnDone,
)
from . import stopped
from .previews import Previews, StockPreview

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

THOUGHTS = "m2chat.thoughts"  # the event
TEXT_EVERY = 0.1  # seconds; a text is sent whole each time


class LiveText:
    """A text that grows on the running node while it is written, if a page is watching.

    The language model's thoughts are sent separately, in an event of their own.

    Attributes:
        thoughts: The thoughts of each reply, the current one last; most are empty.
    """

    def __init__(self) -> None:
        self.text = ""
        self.thoughts = [""]
        self._shortened = self._ended = ""
        self._gates: list[str] = []
        self._reply = 0  # where the present reply begins
        self._sent = self._thought = 0.0

    def hear(self, event: Event) -> None:
        """Show the text or thoughts of an event."""
        if isinstance(event, TextChunk):
            self.add(event.text)
        elif isinstance(event, TextWithdrawn):
            self.text = self.text[: self._reply] + event.text
            self.show()
        elif isinstance(event, ThoughtChunk):
            self.thoughts[-1] += event.text
            if time.monotonic() - self._thought >= TEXT_EVERY:
                self._think()
        elif isinstance(event, Shortened):  # which the library has logged
            self._shortened = event.text
        elif isinstance(event, GateAdapted):
            self._gates.append(event.text)
        elif isinstance(event, StoryEnded):
            self._ended = event.text
            logger.warning("M2Chat: %s", event.text)

    @property
    def notes(self) -> list[str]:
        """Notes: what the last reply was written without, gates that adapted, and why a story ended early."""
        return [note for note in (self._shortened, *self._gates, self._ended) if note]

    def end_reply(self) -> None:
        """End the current reply; another one follows."""
        self.add("\n\n")
        self._reply = len(self.text)
        if self.thoughts[-1]:
            self._think()
        self.thoughts.append("")

    def replies(self, count: int) -> list[str]:
        """Return the thoughts of each of the first `count` replies."""
        return [thought.strip() for thought in self.thoughts[:count]]

    @property
    def ui(self) -> dict[str, list[str]]:
        """What a node's `ui` result has in addition to `shown`: `thoughts` and `notes`, if there are any."""
        found = {"thoughts": [thought.strip() for thought in self.thoughts if thought.strip()], "notes": self.notes}
        return {name: texts for name, texts in found.items() if texts}

    def _think(self) -> None:
        self._thought = time.monotonic()
        _send_thoughts("\n\n".join(filter(None, map(str.strip, self.thoughts))))

    def add(self, chunk: str) -> None:
        """Add to the text, and show it unless it was shown a moment ago."""
        self.text += chunk
        if time.monotonic() - self._sent >= TEXT_EVERY:
            self.show()

    def show(self) -> None:
        """Show the text as it is."""
        self._sent = time.monotonic()
        show_text(self.text)


class ShowsText:
    """A mixin for nodes that show text but are not output nodes: the page gets their text after a cached run, too."""

    # Set here and not in the schema, which knows it only in newer ComfyUIs.
    HAS_INTERMEDIATE_OUTPUT = True


def shown(*texts: str) -> dict[str, list[str]]:
    """Return a node's `ui` result with which the page shows these texts on it."""
    return {"text": [text.strip() for text in texts if text.strip()]}


def show_text(text: str) -> None:
    """Show a text on the running node, in the browser that queued it."""
    if text.strip():
        _tell(lambda server, node, client: server.send_progress_text(text, node, client))


def _send_thoughts(text: str) -> None:
    """Send all thoughts of the running node so far to the browser that queued it."""
    _tell(lambda server, node, client: server.send_sync(THOUGHTS, {"node": node, "text": text}, client))


def _tell(send: Callable[[PromptServer, str, str], None]) -> None:
    """Send something about the running node to the browser that queued it, if there is one."""
    context, server = get_executing_context(), PromptServer.instance
    if context is None or server.client_id is None:
        return
    try:
        send(server, context.node_id, server.client_id)
    except Exception:  # a run must not fail because its page cannot be notified
        logger.debug("M2Chat: the page could not be notified.", exc_info=True)


class PaintingProgress:
    """A progress bar for one picture or many, with ComfyUI's previews."""

    def __init__(self, steps: int) -> None:
        self._bar = comfy.utils.ProgressBar(steps)
        self._previews = Previews()

    def update(self, done: int, preview: Callable[[], Image | None] | None = None) -> None:
        """Set the bar, with a preview now and then. Raises ComfyUI's own exception in an interrupted run."""
        comfy.model_management.throw_exception_if_processing_interrupted()  # the bar itself asks only now and then
        self._bar.update_absolute(
            done, preview=self._previews.make(preview) if isinstance(preview, Preview | StockPreview) else None
        )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a should_stop() for the library, and turn its Interrupted into ComfyUI's own exception."""
    try:
        yield comfy.model_management.processing_interrupted
    except Interrupted:
        comfy.model_management.throw_exception_if_processing_interrupted()
        raise


class TurnProgress:
    """Shows a turn, or a story of several, on the running node while it is told: all its text, then its pictures.

    Args:
        steps: Denoising steps of each picture.
        panels: How many turns.

    Attributes:
        text: What was written so far.
    """

    def __init__(self, steps: int, panels: int = 1) -> None:
        self.text = LiveText()
        self._steps = steps
        self._words = -(-steps // 4)  # of the bar, for the text of a panel: a quarter of its picture
        self._bar = PaintingProgress(panels * (self._words + steps))
        self._panels, self._written, self._painted = panels, 0, 0
        self._started: dict[Slot, PictureStarted] = {}
        self._shares: dict[Slot, float] = {}  # how much of its panel each unfinished picture has been painted
        self._so_far = SoFar()

    @contextmanager
    def interruptible(self) -> Iterator[Callable[[], bool]]:
        """As the function of this name; what is told and painted is kept in `stopped`, however the run ends."""
        done = False
        try:
            with interruptible() as should_stop:
                yield should_stop
            done = True
        finally:
            stopped.keep(self._so_far.conversation, done=done)

    def hear(self, event: Event) -> None:
        """Show an event. Raises ComfyUI's own exception in an interrupted run."""
        self._so_far.hear(event)
        self.text.hear(event)
        if isinstance(event, ReplyWritten):
            self._written += 1
            self._bar.update(self._written * self._words)
            self.text.end_reply()
        elif isinstance(event, PictureStarted):
            self._started[event.slot] = event
            self.text.show()
        elif isinstance(event, Step) and event.slot in self._started:
            share = event.step / event.total / self._started[event.slot].count
            self._shares[event.slot] = max(share, self._shares.get(event.slot, 0.0))  # of its first variants
            self._bar.update(self._done(), event.preview)
        elif isinstance(event, TurnDone):
            self._painted += 1
            turn = len(event.conversation.turns) - 1
            self._shares = {slot: share for slot, share in self._shares.items() if slot.turn > turn}
            self._bar.update(self._done())

    def _done(self) -> int:
        panels = self._painted + sum(self._shares.values())
        return self._panels * self._words + int(min(panels, self._panels) * self._steps)
