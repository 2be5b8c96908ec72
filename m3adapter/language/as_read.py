"""A conversation as a language model reads it: with the character sheet, and with what was seen of painted pictures.

Turns keep their places, so that the slots of one are those of the other. Whatever does not use these features is read
as it stands.
"""

from __future__ import annotations

from dataclasses import replace

from ..conversation.character_sheet import sheet
from ..conversation.conversation import Conversation
from ..conversation.segments import Picture, Segment, Text, Turn
from ..conversation.versions import Versions

_SHEET = "The characters, always called by these names in captions:"
_OWN = "Your pictures as they were painted:\n"


def with_sheet(conversation: Conversation) -> Conversation:
    """Return the conversation whose first message ends with the looks of its cast, if those are known."""
    described = [character for character in conversation.cast if character.looks]
    first = next((place for place, turn in enumerate(conversation.turns) if turn.role == "user"), None)
    if not described or first is None:
        return conversation
    turn = conversation.turns[first]
    return _with(conversation, first, (*turn.segments, Text(f"\n\n{_SHEET}\n{sheet(described)}")))


def with_seen(conversation: Conversation, *, pictures: bool) -> Conversation:
    """Return the conversation with what is known of the assistant's painted pictures.

    Args:
        conversation: The conversation.
        pictures: Whether the pictures of each reply are shown to the model as well, at the beginning of the user's next
            message: a model that found pictures in its own turns would learn to answer with its token of a picture
            instead of a caption.
    """
    for place, turn in enumerate(conversation.turns):
        if turn.role != "assistant":
            continue
        painted = [s for s in turn.segments if isinstance(s, Picture) and not s.is_open]
        if any(picture.seen for picture in painted):
            conversation = _with(conversation, place, tuple(map(_as_seen, turn.segments)))
        if pictures and painted and place + 1 < len(conversation.turns):
            shown = [Picture(image=picture.image) for picture in painted]
            following = conversation.turns[place + 1].segments
            conversation = _with(conversation, place + 1, (Text(_OWN), *shown, Text("\n\n"), *following))
    return conversation


def _as_seen(segment: Segment) -> Segment:
    if isinstance(segment, Picture) and segment.seen and not segment.is_open:
        return segment.changed(caption=segment.seen)
    return segment


def _with(conversation: Conversation, place: int, segments: tuple[Segment, ...]) -> Conversation:
    turns = list(conversation.turns)
    turns[place] = Turn(turns[place].role, segments, Versions())
    return replace(conversation, turns=tuple(turns))
