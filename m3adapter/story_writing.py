"""The words of a story without its pictures, for whatever else paints them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .conversation import Conversation
from .outline import messages
from .request import ShouldStop, picture_seed, turn_seed

if TYPE_CHECKING:
    from .language_model import Sampling
    from .pipeline import M2Chat


def write_story(
    chat: M2Chat,
    premise: str,
    panels: int,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    on_text: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[tuple[Conversation, list[int]]]:
    """What `M2Chat.story` tells, all pictures being open slots, and the seeds that it would paint them with.

    Yields, after each panel, the conversation so far and the seeds of the panel's pictures. Arguments as for
    `M2Chat.story`, errors and interruption as for `M2Chat.write`; bad arguments raise ValueError at once.
    """
    how = {"sampling": sampling, "on_text": on_text, "should_stop": should_stop}
    return _written(chat, messages(premise, panels), premise, seed, how)


def _written(
    chat: M2Chat, said: Sequence[str], premise: str, seed: int, how: dict[str, Any]
) -> Iterator[tuple[Conversation, list[int]]]:
    conversation = Conversation()
    for panel, message in enumerate(said):
        before, own = len(conversation.slots()), turn_seed(seed, panel)
        conversation = chat.write(conversation.user(message), seed=own, premise=premise, **how)
        yield conversation, [picture_seed(own, index) for index in range(len(conversation.slots()) - before)]
