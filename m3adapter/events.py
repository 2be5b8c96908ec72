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


class OutOfMemory(ValueError):
    """A picture does not fit in memory; the message is one sentence that says how to fix it."""


class Interrupted(Exception):  # noqa: N818 - being asked to stop is not an error
    """The caller's `should_stop` returned true, or the caller no longer follows the events.

    Attributes:
        conversation: What `M2Chat.turn` or `story` had told and painted until then, with open slots for the pictures
            that are not painted yet; None before the first reply.
    """

    conversation: Conversation | None = None


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
class ReplyWritten:
    """A reply's text is complete; its pictures follow, after the texts of all other replies of a story.

    Attributes:
        conversation: The conversation with the reply, whose pictures are open slots.
    """

    conversation: Conversation


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
    """A picture has been painted.

    Attributes:
        slot: Where it is.
        image: The picture [H, W, 3] in 0..1.
        conversation: All that was told and painted so far.
    """

    slot: Slot
    image: Tensor
    conversation: Conversation


@dataclass(frozen=True)
class TurnDone:
    """The reply is complete; `conversation` ends with it, and has its text and all its pictures."""

    conversation: Conversation


@dataclass(frozen=True)
class Shortened:
    """Something is too long, mostly a conversation for the model's context; `text` says what was left out."""

    text: str


@dataclass(frozen=True)
class GateAdapted:
    """A gate that adapts has been set for one picture; `text` says why, and for which reference."""

    slot: Slot
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


class SoFar:
    """Keeps what a turn or a story has told and painted so far, for a caller that stops it.

    Attributes:
        conversation: The conversation, pictures still to be painted being open slots; None before the first reply.
    """

    def __init__(self) -> None:
        self.conversation: Conversation | None = None

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, (ReplyWritten, PictureDone, StoryEnded)):
            self.conversation = event.conversation


Event = (
    TextChunk
    | ThoughtChunk
    | TextWithdrawn
    | Shortened
    | GateAdapted
    | ReplyWritten
    | PictureStarted
    | Step
    | PictureDone
    | TurnDone
    | StoryEnded
)
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def ignore(event: object) -> None:
    """Do nothing with an event."""


def check_stop(should_stop: ShouldStop | None) -> None:
    """Raise Interrupted if the caller wants to stop."""
    if should_stop and should_stop():
        raise Interrupted("The reply was stopped.")
