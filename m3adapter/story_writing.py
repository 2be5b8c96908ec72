"""What the language model alone writes.

The outline of a story, what its characters look like, a story whose pictures something else paints, and what painted
pictures show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .conversation.cast import MAX_LOOKS, plain
from .conversation.character_sheet import MOST, described_in, shortened
from .conversation.conversation import Conversation, ConversationError, Slot
from .conversation.outline import beats, messages
from .conversation.seeds import turn_seed
from .events import OnEvent, Shortened, ShouldStop, StoryEnded, TurnDone, ignore
from .language.reply import FAILED_REPLY
from .settings import TurnSettings, changed
from .stages import write_reply
from .values import check_panels, check_premise

if TYPE_CHECKING:
    from .language.language_model import LanguageModel

_ASK = (
    "Plan an illustrated story in exactly {count} scenes. Write {count} lines and nothing else: one short sentence for "
    "each scene, in order, that says who does what and where.\n\nThe story: {premise}"
)
_ASK_LOOKS = (
    "Write the character sheet of an illustrated story, so that every picture shows the same characters. {whom} For "
    "each, write one line and nothing else, in the form `name: looks`, with what a picture shows and what never "
    "changes: kind, age, build, hair or fur and eyes with their colours, clothes with their colours, one mark to know "
    "them by. No actions, no feelings, no places; at most 25 words a line.\n\nThe story: {premise}"
)
_NAMED = "The characters are called {names}; keep these names."
_FREE = "Describe those who appear in it."
QUESTION = (
    "Describe this picture in one sentence, as a caption: who is seen, what they look like, where they are, and what "
    "they do. Write the sentence and nothing else."
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


def write_sheet(
    language_model: LanguageModel,
    premise: str,
    names: Sequence[str] = (),
    settings: TurnSettings | None = None,
    *,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    **changes: Any,
) -> dict[str, str]:
    """Have the language model write what the characters of a story look like, by name.

    Arguments and errors as for `stages.write_reply`, and:

    Args:
        language_model: Writes the sheet.
        premise: What the story is about.
        names: The characters to describe, who keep these names; without any, the model decides who appears.
        settings, should_stop, on_event, **changes: As for `stages.write_reply`.

    Raises:
        ValueError: The language model did not describe everybody, as small models do not.
    """
    check_premise(premise)
    whom = _NAMED.format(names=", ".join(names)) if names else _FREE
    asked = Conversation().user(_ASK_LOOKS.format(whom=whom, premise=premise.strip()))
    plain_model = language_model.without_instructions()
    written = write_reply(plain_model, None, asked, settings, should_stop=should_stop, on_event=on_event, **changes)
    found = described_in(written.turns[-1].text)
    for name in [name for name, said in found.items() if len(said) > MAX_LOOKS]:
        found[name] = shortened(found[name])
        (on_event or ignore)(Shortened(f"The looks of {name} are shortened to {MAX_LOOKS} letters."))
    if not names:
        if not found:
            raise ValueError(
                "The language model described no character: try another seed or a larger model, or write the "
                "character sheet by hand."
            )
        return dict(list(found.items())[:MOST])
    by_name = {plain(name): said for name, said in found.items()}
    missing = [name for name in names if plain(name) not in by_name]
    if missing:
        raise ValueError(
            f"The language model did not describe {', '.join(missing)}: try another seed or a larger model, or write "
            "the character sheet by hand."
        )
    return {name: by_name[plain(name)] for name in names}


def write_story(
    language_model: LanguageModel,
    premise: str,
    panels: int,
    settings: TurnSettings | None = None,
    *,
    start: Conversation | None = None,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    **changes: Any,
) -> Conversation:
    """Write the story that `M2Chat.story` tells; all its pictures stay open slots.

    `seeds.story_seeds` returns the seeds with which `M2Chat.story` would paint them. Arguments and errors as for
    `stages.write_reply`, the events of each panel being followed by TurnDone. If a later panel fails, the story ends
    before it, with StoryEnded as its last event. `start` is the conversation, with its cast, that the story continues;
    it must be the user's turn.
    """
    told = messages(premise, panels)
    settings, on_event = changed(settings, changes), on_event or ignore
    conversation = Conversation() if start is None else start
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


def painted_slots(conversation: Conversation, *, again: bool = False) -> list[Slot]:
    """Return the slots of the assistant's painted pictures: those that nobody has described, or all of them."""
    pictures = ((slot, conversation.picture(slot)) for slot in conversation.slots())
    return [slot for slot, picture in pictures if not picture.is_open and (again or not picture.seen)]


def describe_pictures(
    language_model: LanguageModel,
    conversation: Conversation,
    slots: Sequence[Slot],
    settings: TurnSettings | None = None,
    *,
    question: str = QUESTION,
    should_stop: ShouldStop | None = None,
    on_event: OnEvent | None = None,
    **changes: Any,
) -> Conversation:
    """Return the conversation with what pictures show as their `seen`; replies after that go on from it.

    Captions stay, since pictures are painted again from them.

    Args:
        language_model: Looks at the pictures, one by one, each with the same seed.
        conversation: The conversation.
        slots: The slots of painted pictures.
        settings: Of these, `seed` and `sampling` matter here.
        question: What the model is asked about each picture.
        should_stop, on_event, **changes: As for `stages.write_reply`.

    Raises:
        ConversationError: The language model does not see pictures itself, or said nothing of one.
    """
    settings = changed(settings, changes)
    if language_model.sees != "natively":
        raise ConversationError(
            "The language model cannot look at pictures by itself: use a vision-language model, such as Qwen3-VL or "
            "Gemma 3."
        )
    if not question.strip():
        raise ConversationError("The question about the pictures is empty: ask what they show.")
    plain = language_model.without_instructions()
    for slot in slots:
        asked = Conversation().user(question, [conversation.picture(slot).pixels])
        written = write_reply(plain, None, asked, settings, should_stop=should_stop, on_event=on_event)
        said = " ".join(written.turns[-1].text.split())
        if not said:
            raise ConversationError(
                "The language model said nothing of a picture: try another seed, or ask another question."
            )
        conversation = conversation.with_seen(slot, said)
    return conversation
