"""Stories of the storybook world: what users ask, and how the assistant answers in words and pictures.

A story is told in exchanges. Its words name the species, the place, the prop, the light and the weather of each
picture, but never the look of a character unless the user mentions it: only the pictures can keep it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..values import shown
from .wording.choose import SPLITS, Split
from .wording.plot import composition_split
from .wording.tale import Exchange, Panel, Story, Task
from .wording.teller import Teller

if TYPE_CHECKING:
    from torch import Tensor

    from ..conversation.conversation import Conversation

__all__ = ["SPLITS", "Exchange", "Panel", "Split", "Story", "Task", "composition_split", "story", "to_conversation"]


def story(rng: random.Random, split: Split, *, exchanges: int | None = None) -> Story:
    """Tell a story that depends only on the state of `rng`.

    In "train", no picture shows a composition (species, place, prop) of another split, and no wording of another split
    is used. In "validation" and "test", the composition of the first picture and all wordings belong to the split.

    Args:
        rng: The random numbers.
        split: "train", "validation" or "test".
        exchanges: Their number; a random one by default, mostly one to six.

    Raises:
        ValueError: There is no such split.
    """
    return Story(tuple(told(rng, split, exchanges=exchanges)), split)


def told(rng: random.Random, split: Split, *, exchanges: int | None = None) -> Iterator[Exchange]:
    """Yield the exchanges of a story as `story` tells it, each when it is asked for."""
    if split not in SPLITS:
        raise ValueError(f"the split is {shown(split)}, but must be one of {', '.join(SPLITS)}")
    count = exchanges or rng.choices((1, 2, 3, 4, 5, 6, 9), (26, 24, 20, 14, 8, 5, 3))[0]
    yield from Teller(rng, split).tell(count)


def to_conversation(
    told: Any,
    upto: int | None = None,
    *,
    paint: Callable[[Any], Tensor] | None = None,
    system: str | None = None,
    start: int = 0,
) -> Conversation:
    """Return a story as a conversation.

    Args:
        told: The story, of this world or of another with exchanges like these.
        upto: The number of exchanges that are included with their replies; the message of the next one follows. By
            default, the whole story is included.
        paint: Draws a scene as [H, W, 3] in 0..1. Without it, pictures of users are black, 8 x 8, and those of the
            assistant are open slots.
        system: Text of a system turn.
        start: Index of the first exchange to include.
    """
    from ..conversation.conversation import Conversation, Picture, Text

    end = len(told.exchanges) if upto is None else upto
    conversation = Conversation().system(system) if system else Conversation()
    for index, exchange in enumerate(told.exchanges[start : end + 1], start):
        pictures = [_painted(exchange.user_scene, paint)] if exchange.user_scene else []
        conversation = conversation.user(exchange.message, pictures)
        if index == end:
            break
        segments: list[Text | Picture] = [] if exchange.panels else [Text(exchange.answer)]
        for number, panel in enumerate(exchange.panels):
            segments.append(Text(("\n\n" if number else "") + panel.text))
            segments.append(Picture(panel.caption, paint(panel.scene) if paint else None))
        conversation = conversation.assistant(segments)
    return conversation


def _painted(scene: Any, paint: Callable[[Any], Tensor] | None) -> Tensor:
    if paint is not None:
        return paint(scene)
    import torch

    return torch.zeros(8, 8, 3)
