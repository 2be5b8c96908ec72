"""The events that a running pipeline reports in order, and the exceptions that stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .conversation.conversation import Conversation, Slot

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class NotFinite(ValueError):
    """A model computed NaN or infinity; the message is one sentence that says how to fix it."""


class Interrupted(Exception):  # noqa: N818 - being asked to stop is not an error
    """The caller's `should_stop` returned true, or the caller no longer follows the events."""


@dataclass(frozen=True)
class TextChunk:
    """More of the reply's text, without markup and captions."""

    text: str


@dataclass(frozen=True)
class ThoughtChunk:
    """More of the language model's thoughts, which are not part of its reply."""

    text: str


@dataclass(frozen=True)
class TextWithdrawn:
    """The text reported so far turned out to be a thought; only `text` remains of the reply."""

    text: str


@dataclass(frozen=True)
class PictureStarted:
    """A picture is about to be painted, number `index` (from 0) of the reply's `count` pictures."""

    slot: Slot
    caption: str
    index: int
    count: int


@dataclass(frozen=True)
class Step:
    """A denoising step is done, number `step` (from 1) of `total`.

    `preview()` returns a small image of the picture so far, or None if there is nothing to show.
    """

    slot: Slot
    step: int
    total: int
    preview: Callable[[], Image | None]


@dataclass(frozen=True)
class PictureDone:
    """A picture has been painted; `image` is [H, W, 3] in 0..1."""

    slot: Slot
    image: Tensor


@dataclass(frozen=True)
class TurnDone:
    """The reply is complete; `conversation` has its text and all its pictures."""

    conversation: Conversation


@dataclass(frozen=True)
class Shortened:
    """The conversation exceeds the language model's context; `text` says what the prompt left out or shortened."""

    text: str


@dataclass(frozen=True)
class StoryEnded:
    """A story ends early, since its next panel failed.

    Attributes:
        conversation: The story so far.
        told: How many panels it has.
        panels: How many were asked for.
        reason: Why the next panel failed, as a sentence.
    """

    conversation: Conversation
    told: int
    panels: int
    reason: str

    @property
    def text(self) -> str:
        """The early end as a sentence."""
        reason = self.reason[:1].lower() + self.reason[1:]
        return f"The story ends after {self.told} of {self.panels} panels, for {reason}"


Event = (
    TextChunk | ThoughtChunk | TextWithdrawn | Shortened | PictureStarted | Step | PictureDone | TurnDone | StoryEnded
)
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]
