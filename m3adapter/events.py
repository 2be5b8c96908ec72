"""What a running pipeline reports, in the order in which it happens, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .conversation.conversation import Conversation, Slot

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class NotFinite(ValueError):
    """A model computed NaN or infinity; the message is one sentence that says how to mend it."""


class Interrupted(Exception):  # noqa: N818 - being asked to stop is not an error
    """The caller's should_stop() said yes, or nobody listens any more."""


@dataclass(frozen=True)
class TextChunk:
    """Some more of the reply's text, markup and captions left out."""

    text: str


@dataclass(frozen=True)
class ThoughtChunk:
    """Some more of what the language model thinks: no part of its reply."""

    text: str


@dataclass(frozen=True)
class TextWithdrawn:
    """What was told of this reply has turned out to be a thought; of it, only `text` is left."""

    text: str


@dataclass(frozen=True)
class PictureStarted:
    """A picture is about to be painted: number `index` (from 0) of the `count` of this reply."""

    slot: Slot
    caption: str
    index: int
    count: int


@dataclass(frozen=True)
class Step:
    """A denoising step is done: number `step` (from 1) of `total`. `preview` draws what the picture is going to be.

    Call `preview` while handling the event or not at all, since the state goes on changing. It returns None if there is
    nothing to show yet.
    """

    slot: Slot
    step: int
    total: int
    preview: Callable[[], Image | None]


@dataclass(frozen=True)
class PictureDone:
    """A picture is painted: [H, W, 3] in 0..1."""

    slot: Slot
    image: Tensor


@dataclass(frozen=True)
class TurnDone:
    """The reply is complete: the conversation with its text and all its pictures."""

    conversation: Conversation


@dataclass(frozen=True)
class Shortened:
    """The conversation is longer than the language model's context: `text` says what its reply was written without."""

    text: str


@dataclass(frozen=True)
class StoryEnded:
    """A story ends after `told` of `panels` panels, for the next one failed: `reason` is a sentence.

    `conversation` is what was told.
    """

    conversation: Conversation
    told: int
    panels: int
    reason: str

    @property
    def text(self) -> str:
        """That in a sentence."""
        reason = self.reason[:1].lower() + self.reason[1:]
        return f"The story ends after {self.told} of {self.panels} panels, for {reason}"


Event = (
    TextChunk | ThoughtChunk | TextWithdrawn | Shortened | PictureStarted | Step | PictureDone | TurnDone | StoryEnded
)
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]
