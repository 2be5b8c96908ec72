"""What the language model writes of a story alone: an outline before it, or its words for whatever else paints them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .conversation.conversation import Conversation
from .conversation.outline import beats, messages
from .events import Event, StoryEnded
from .language.reply import FAILED_REPLY, PICTURES
from .limits import check_panels, check_pictures, check_premise
from .request import ShouldStop, picture_seed, turn_seed

if TYPE_CHECKING:
    from .language.sampling import Sampling
    from .pipeline import M2Chat

_ASK = (
    "Plan an illustrated story in exactly {count} scenes. Write {count} lines and nothing else: one short sentence for "
    "each scene, in order, that says who does what and where.\n\nThe story: {premise}"
)


def write_outline(
    chat: M2Chat,
    premise: str,
    panels: int,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[str, ...]:
    """An outline of `panels` lines that the language model makes of a premise; of longer ones, the first lines.

    Arguments as for `M2Chat.write`. Raises ValueError where it gives fewer, as small models do; otherwise as that.
    """
    check_premise(premise)
    check_panels(panels)
    asked = Conversation().user(_ASK.format(count=panels, premise=premise.strip()))
    plain = replace(chat, language_model=chat.language_model.without_instructions())
    how = {"sampling": sampling, "on_text": on_text, "on_event": on_event, "should_stop": should_stop}
    said = plain.write(asked, seed=seed, **how).turns[-1].text
    # A line that ends with a colon announces the others.
    found = beats("\n".join(line for line in said.splitlines() if not line.rstrip(" *_").endswith(":")))
    if len(found) < panels:
        raise ValueError(
            f"The language model wrote {len(found)} of {panels} lines: "
            "try another seed or a larger model, or write the outline by hand."
        )
    return found[:panels]


def write_story(
    chat: M2Chat,
    premise: str,
    panels: int,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    on_text: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
    max_pictures: int = PICTURES,
    on_event: Callable[[Event], None] | None = None,
) -> Iterator[tuple[Conversation, list[int]]]:
    """What `M2Chat.story` tells, all pictures being open slots, and the seeds that it would paint them with.

    Yields, after each panel, the conversation so far and the seeds of the panel's pictures. Arguments as for
    `M2Chat.story` and, with errors and interruption, `M2Chat.write`; bad arguments raise ValueError at once. Where a
    later panel fails, the story ends before it, as that of `M2Chat.story` does: `on_event` gets StoryEnded.
    """
    check_pictures(max_pictures)
    how = {"sampling": sampling, "on_text": on_text, "on_event": on_event, "should_stop": should_stop}
    how["max_pictures"] = max_pictures
    return _written(chat, messages(premise, panels), premise, seed, how)


def _written(
    chat: M2Chat, said: Sequence[str], premise: str, seed: int, how: dict[str, Any]
) -> Iterator[tuple[Conversation, list[int]]]:
    conversation = Conversation()
    for panel, message in enumerate(said):
        before, own = len(conversation.slots()), turn_seed(seed, panel)
        try:
            conversation = chat.write(conversation.user(message), seed=own, premise=premise, **how)
        except FAILED_REPLY as error:
            if not panel:
                raise
            if how["on_event"]:
                how["on_event"](StoryEnded(conversation, panel, len(said), str(error)))
            return
        yield conversation, [picture_seed(own, index) for index in range(len(conversation.slots()) - before)]
