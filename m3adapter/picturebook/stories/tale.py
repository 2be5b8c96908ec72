"""The parts of a story: exchanges of a message and a reply, whose paragraphs have a picture each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..world import SPLITS, Scene, Split

if TYPE_CHECKING:
    from torch import Tensor

    from ...conversation.conversation import Conversation

__all__ = ["SPLITS", "Exchange", "Panel", "Split", "Story", "to_conversation"]


@dataclass(frozen=True)
class Panel:
    """A paragraph and its picture.

    Attributes:
        text: One to four short sentences that tell all that the caption says.
        scene: What the picture shows.
        caption: In the canonical wording of `words.caption`, with the names of its characters.
        names: What the characters of the scene are called, "" for those without a name.
        who: For each character of the scene, a number that it keeps throughout the story.
        said: For each character of the scene, the facts of `words.FACTS` that the caption says.
    """

    text: str
    scene: Scene
    caption: str
    names: tuple[str, ...]
    who: tuple[int, ...]
    said: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Exchange:
    """A message of the user, perhaps with a picture of `user_scene` (one character, no prop), and the reply.

    The reply has panels, or else it is the text `answer` without a picture.
    """

    message: str
    panels: tuple[Panel, ...] = ()
    user_scene: Scene | None = None
    answer: str = ""


@dataclass(frozen=True)
class Story:
    """A whole story with wordings and compositions of `split`."""

    exchanges: tuple[Exchange, ...]
    split: Split


def to_conversation(
    told: Story,
    upto: int | None = None,
    *,
    paint: Callable[[Scene], Tensor] | None = None,
    system: str | None = None,
    start: int = 0,
) -> Conversation:
    """Return a story as a conversation.

    Args:
        told: The story.
        upto: The number of exchanges that are included with their replies; the message of the next one follows. By
            default, the whole story is included.
        paint: Draws a scene as [H, W, 3] in 0..1. Without it, pictures of users are black, 8 x 8, and those of the
            assistant are open slots.
        system: Text of a system turn.
        start: Index of the first exchange to include.
    """
    from ...conversation.conversation import Conversation, Picture, Text

    end = len(told.exchanges) if upto is None else upto
    conversation = Conversation().system(system) if system else Conversation()
    for index, exchange in enumerate(told.exchanges[start : end + 1], start):
        shown = exchange.user_scene
        conversation = conversation.user(exchange.message, [paint(shown) if paint else _black()] if shown else [])
        if index == end:
            break
        segments: list[Text | Picture] = [] if exchange.panels else [Text(exchange.answer)]
        for number, panel in enumerate(exchange.panels):
            segments.append(Text(("\n\n" if number else "") + panel.text))
            segments.append(Picture(panel.caption, paint(panel.scene) if paint else None))
        conversation = conversation.assistant(segments)
    return conversation


def _black() -> Tensor:
    import torch

    return torch.zeros(8, 8, 3)
