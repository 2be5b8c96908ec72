"""A conversation of texts and pictures: an immutable value, of which every operation returns a new one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .markup import escape
from .segments import ConversationError, Picture, Role, Segment, Text, Turn
from .storage import read_turns, save_turns

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Conversation", "ConversationError", "Picture", "Role", "Segment", "Slot", "Text", "Turn"]


class Slot(NamedTuple):
    """Where a picture stands: the index of its turn, and of its segment in that turn. Slots order as pictures do."""

    turn: int
    segment: int


@dataclass(frozen=True)
class Conversation:
    """Turns in order: at most one system turn, first; then user and assistant in alternation, beginning with the user.

    Raises ConversationError (a ValueError) with one clear sentence wherever a value would break that.
    """

    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        expected = "user"
        for index, turn in enumerate(self.turns):
            if not isinstance(turn, Turn):
                raise ConversationError(f"A conversation is made of turns, not {type(turn).__name__}.")
            if turn.role == "system":
                if index:
                    raise ConversationError("The system turn must be the first of the conversation.")
                continue
            if turn.role != expected:
                raise ConversationError(_out_of_turn(turn.role, self.turns[:index]))
            expected = "assistant" if turn.role == "user" else "user"

    def append(self, turn: Turn) -> Conversation:
        """With `turn` at the end."""
        return Conversation((*self.turns, turn))

    def system(self, text: str) -> Conversation:
        """With a system turn; only an empty conversation can take one."""
        return self.append(Turn("system", (Text(text),)))

    def user(self, text: str, pictures: Iterable[Tensor | Picture] = ()) -> Conversation:
        """With a user's turn: its pictures (each [H, W, 3 or 4] in 0..1), then its text. One of both may be missing."""
        shown = tuple(p if isinstance(p, Picture) else Picture(image=p) for p in pictures)
        said = Text(text)
        return self.append(Turn("user", (*shown, said) if said.text.strip() else shown))

    def assistant(self, segments: Iterable[Segment]) -> Conversation:
        """With the assistant's turn; a Picture without image in it is an open slot."""
        return self.append(Turn("assistant", tuple(segments)))

    def check_ready_for_reply(self) -> None:
        """Raises ConversationError unless the last turn is the user's."""
        if not self.turns or self.turns[-1].role == "system":
            raise ConversationError("There is nothing to reply to: add a user message first.")
        if self.turns[-1].role == "assistant":
            raise ConversationError("The conversation ends with the assistant's turn: add a user message first.")

    def at(self, slot: Slot) -> Segment:
        """The segment at `slot`. Raises ConversationError where there is none."""
        turn, segment = slot
        if not (0 <= turn < len(self.turns) and 0 <= segment < len(self.turns[turn].segments)):
            raise ConversationError(f"The conversation has no segment {segment} in a turn {turn}.")
        return self.turns[turn].segments[segment]

    def open_slots(self) -> tuple[Slot, ...]:
        """The slots of the assistant's pictures that are still to be painted, in order."""
        return tuple(slot for slot, picture in self._pictures() if picture.is_open)

    def pictures(self) -> tuple[Slot, ...]:
        """The slots of all pictures that have an image, the users' included, oldest first."""
        return tuple(slot for slot, picture in self._pictures() if not picture.is_open)

    def user_pictures(self, *, before: Slot | None = None) -> tuple[Tensor, ...]:
        """The images of the users' pictures (in front of the slot `before`), oldest first."""
        return tuple(
            picture.image
            for slot, picture in self._pictures()
            if self.turns[slot.turn].role == "user" and (before is None or slot < before)
        )

    def with_picture(
        self, slot: Slot, image: Tensor, *, seed: int | None = None, gate: float | None = None
    ) -> Conversation:
        """With the assistant's picture at `slot` painted as `image` [H, W, 3 or 4]; its caption stays."""
        picture = self.at(slot)
        if not isinstance(picture, Picture) or self.turns[slot[0]].role != "assistant":
            raise ConversationError(f"Only the assistant's pictures can be painted, and {tuple(slot)} is none.")
        painted = Picture(picture.caption, image, seed, gate)
        turn = self.turns[slot[0]]
        turn = replace(turn, segments=(*turn.segments[: slot[1]], painted, *turn.segments[slot[1] + 1 :]))
        return Conversation((*self.turns[: slot[0]], turn, *self.turns[slot[0] + 1 :]))

    def references(self, slot: Slot, *, limit: int = 2) -> tuple[Tensor, ...]:
        """What a picture at `slot` should agree with: the first picture before it and the most recent `limit` - 1.

        Oldest first, [H, W, 3] each, no picture twice (a picture shown again counts once); () where there is none yet.
        """
        if type(limit) is not int or limit < 0:
            raise ConversationError(f"The limit of references must be a whole number from 0, not {limit!r}.")
        before = [picture.image for at, picture in self._pictures() if at < tuple(slot) and not picture.is_open]
        if not before or not limit:
            return ()
        chosen = [0]
        for index in range(len(before) - 1, 0, -1):
            if len(chosen) < limit and not any(before[index].equal(before[taken]) for taken in chosen):
                chosen.append(index)
        return tuple(before[index] for index in sorted(chosen))

    def messages(self, special_tokens: Collection[str] = ()) -> list[dict[str, Any]]:
        """The turns as transformers' chat templates take them: `{"role", "content": [{"type": "text"|"image", ...}]}`.

        An assistant's image entry carries its "caption". Texts and captions are escaped (`markup.escape`), so that
        nothing anyone wrote can be taken for markup or a special token; `special_tokens` adds the model's own.
        """
        messages = []
        for turn in self.turns:
            content: list[dict[str, str]] = []
            for segment in turn.segments:
                if isinstance(segment, Text):
                    content.append({"type": "text", "text": escape(segment.text, special_tokens)})
                elif turn.role == "assistant":
                    content.append({"type": "image", "caption": escape(segment.caption, special_tokens)})
                else:
                    content.append({"type": "image"})
            messages.append({"role": turn.role, "content": content})
        return messages

    def save(self, directory: str | Path) -> None:
        """Writes the conversation as a folder: conversation.json and an 8-bit PNG per picture.

        An earlier conversation there is replaced as a whole: whatever happens meanwhile, load() finds the old or the
        new one. Raises ConversationError where the folder holds anything else, OSError where it cannot be written.
        """
        save_turns(directory, self.turns)

    @classmethod
    def load(cls, directory: str | Path) -> Conversation:
        """The conversation saved in a folder (pictures as 8-bit PNGs hold them). Raises ConversationError."""
        return cls(read_turns(directory))

    def _pictures(self) -> list[tuple[Slot, Picture]]:
        return [
            (Slot(t, s), segment)
            for t, turn in enumerate(self.turns)
            for s, segment in enumerate(turn.segments)
            if isinstance(segment, Picture)
        ]


def _out_of_turn(role: str, before: tuple[Turn, ...]) -> str:
    if all(turn.role == "system" for turn in before):
        return "The conversation must begin with a user message, not with the assistant's."
    if role == "user":
        return "Two user messages follow one another: let the assistant reply first, or write both as one message."
    return "Two turns of the assistant follow one another: add a user message between them."
