"""What the language model alone writes: the outline of a story, or a story whose pictures something else paints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conversation.conversation import Conversation
from .conversation.outline import beats, messages
from .events import OnEvent, ShouldStop, StoryEnded, TurnDone, ignore
from .language.reply import FAILED_REPLY
from .limits import check_panels, check_premise
from .seeds import turn_seed
from .settings import TurnSettings, changed
from .stages import write_reply

if TYPE_CHECKING:
    from .language.language_model import LanguageModel

_ASK = (
    "Plan an illustrated story in exactly {count} scenes. Write {count} lines and nothing else: one short sentence for "
    "each scene, in order, that says who does what and where.\n\nThe story: {premise}"
)


def write_outline(
    language_model: LanguageModel,
    premise: str,
    panels: int,
    settings: TurnSettings | None = None,
    *,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    **changes: Any,
) -> tuple[str, ...]:
    """Have the language model write an outline of `panels` lines, and keep the first lines of a longer one.

    Arguments and errors as for `stages.write_reply`.

    Raises:
        ValueError: The language model wrote fewer lines, as small models do.
    """
    check_premise(premise)
    check_panels(panels)
    asked = Conversation().user(_ASK.format(count=panels, premise=premise.strip()))
    plain = language_model.without_instructions()
    written = write_reply(plain, None, asked, settings, should_stop=should_stop, on_event=on_event, **changes)
    # A line that ends with a colon announces the others.
    lines = [line for line in written.turns[-1].text.splitlines() if not line.rstrip(" *_").endswith(":")]
    outline = beats("\n".join(lines))
    if len(outline) < panels:
        raise ValueError(
            f"The language model wrote {len(outline)} of {panels} lines: "
            "try another seed or a larger model, or write the outline by hand."
        )
    return outline[:panels]


def write_story(
    language_model: LanguageModel,
    premise: str,
    panels: int,
    settings: TurnSettings | None = None,
    *,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    **changes: Any,
) -> Conversation:
    """Write the story that `M2Chat.story` tells; all its pictures stay open slots.

    `seeds.story_seeds` returns the seeds with which `M2Chat.story` would paint them. Arguments and errors as for
    `stages.write_reply`, the events of each panel being followed by TurnDone. If a later panel fails, the story ends
    before it, with StoryEnded as its last event.
    """
    told = messages(premise, panels)
    settings, on_event = changed(settings, changes), on_event or ignore
    conversation = Conversation()
    for panel, message in enumerate(told):
        asked = conversation.user(message)
        seed = turn_seed(settings.seed, panel)
        try:
            conversation = write_reply(
                language_model,
                None,
                asked,
                settings,
                seed=seed,
                premise=premise,
                should_stop=should_stop,
                on_event=on_event,
            )
        except FAILED_REPLY as error:
            if not panel:
                raise
            on_event(StoryEnded(conversation, panel, len(told), str(error)))
            break
        on_event(TurnDone(conversation))
    return conversation
