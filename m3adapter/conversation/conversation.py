"""A conversation of texts and pictures: an immutable value, of which every operation returns a new one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..values import shown
from .cast import Character, with_character
from .entries import picture_of, put_aside, put_picture_aside, turns_of
from .markup import escape
from .references import ReferencePolicy
from .segments import ConversationError, Picture, Role, Segment, Text, Turn
from .storage import Saved, read_saved, write_saved
from .versions import Versions

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Character", "Conversation", "ConversationError", "Picture", "ReferencePolicy", "Role", "Segment", "Slot", "Text",
    "Turn",
]  # fmt: skip


class Slot(NamedTuple):
    """Where a picture stands: the index of its turn, and of its segment in that turn. Slots order as pictures do."""

    turn: int
    segment: int


@dataclass(frozen=True)
class Conversation:
    """Turns in order: at most one system turn, first; then user and assistant in alternation, beginning with the user.

    `cast` are the characters whose looks are given by pictures, each name once; `awaiting` are the versions of the turn
    that is to be taken next, after `retell`. Raises ConversationError (a ValueError)
    with one clear sentence wherever a value would break that.
    """

    turns: tuple[Turn, ...] = ()
    cast: tuple[Character, ...] = ()
    awaiting: Versions = field(default=Versions(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        object.__setattr__(self, "cast", tuple(self.cast))
        for index, character in enumerate(self.cast):
            if any(character.is_called(other.name) for other in self.cast[:index]):
                raise ConversationError(f"The cast has two characters called {character.name}: give them other names.")
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
        """With `turn` at the end; if one is awaited, as another version of what was taken there before."""
        if self.awaiting.others:
            turn = replace(turn, versions=self.awaiting)
        return replace(self, turns=(*self.turns, turn), awaiting=Versions())

    def with_character(self, name: str, pictures: Iterable[Tensor | Picture] = ()) -> Conversation:
        """With one more character of the cast, or another one in place of the one of that name."""
        shown = (p if isinstance(p, Picture) else Picture(image=p) for p in pictures)
        return replace(self, cast=with_character(self.cast, Character(name, tuple(shown))))

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

    def picture(self, slot: Slot) -> Picture:
        """Return the picture at `slot`.

        Raises:
            ConversationError: There is no picture.
        """
        segment = self.at(slot)
        if not isinstance(segment, Picture):
            raise ConversationError(f"Segment {slot[1]} of turn {slot[0]} is a text, not a picture.")
        return segment

    def at(self, slot: Slot) -> Segment:
        """The segment at `slot`. Raises ConversationError where there is none."""
        turn, segment = slot
        if not (0 <= turn < len(self.turns) and 0 <= segment < len(self.turns[turn].segments)):
            raise ConversationError(f"The conversation has no segment {segment} in a turn {turn}.")
        return self.turns[turn].segments[segment]

    def slots(self) -> tuple[Slot, ...]:
        """The slots of the assistant's pictures, painted or not, in order."""
        return tuple(slot for slot, _ in self._pictures() if self.turns[slot.turn].role == "assistant")

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
        picture = self._painted_at(slot)
        return self._with(slot, Picture(picture.caption, image, seed, gate, picture.versions))

    def without_picture(self, slot: Slot) -> Conversation:
        """With the assistant's picture at `slot` to be painted again; its caption stays, and it becomes a version."""
        picture = self._painted_at(slot)
        if picture.is_open:
            return self
        return self._with(slot, Picture(picture.caption, versions=picture.versions.another(put_picture_aside(picture))))

    def with_caption(self, slot: Slot, caption: str) -> Conversation:
        """With another caption for the assistant's picture at `slot`, which itself stays as it is."""
        return self._with(slot, self._painted_at(slot).changed(caption=caption))

    def with_text(self, turn: int, text: str, segment: int | None = None) -> Conversation:
        """With `text` for all that is said in a turn, where its first text stood (else at its end); its pictures stay.

        `segment` replaces just the text at that place of the turn. Raises ConversationError where there is none.
        """
        segments = self._turn(turn).segments
        said = [index for index, each in enumerate(segments) if isinstance(each, Text)]
        if segment is None:
            place, gone = (said or [len(segments)])[0], said
        elif segment in said:
            place, gone = segment, [segment]
        else:
            raise ConversationError(f"At the place {segment} of the turn {turn} is no text: choose one of {said}.")
        kept = [(index, each) for index, each in enumerate(segments) if index not in gone]
        before = [each for index, each in kept if index < place]
        return self._with_segments(turn, (*before, Text(text), *(each for index, each in kept if index > place)))

    def rewind(self, turn: int) -> Conversation:
        """As it was when the turn of that index had just been taken: later turns are gone."""
        self._turn(turn)
        return replace(self, turns=self.turns[: turn + 1], awaiting=Versions())

    def retell(self, turn: int) -> Conversation:
        """As it was before the turn of that index, which is to be taken again.

        What stands from there to the end is put aside, and becomes a version of the turn that is appended next. Raises
        ConversationError for a system turn, and where a turn is to be taken again already.
        """
        before = self._turn(turn)
        if before.role == "system":
            raise ConversationError("A system turn cannot be told again: choose a message, or a reply.")
        if self.awaiting.others:
            raise ConversationError("A turn is about to be told again: let that be done first.")
        kept = before.versions.another(put_aside(self.turns[turn:]))
        return replace(self, turns=self.turns[:turn], awaiting=kept)

    def versions(self, turn: int, segment: int | None = None) -> Versions:
        """The versions of a turn and what follows it, or of the assistant's picture at a place of it."""
        return (self._turn(turn) if segment is None else self._painted_at(Slot(turn, segment))).versions

    def with_version(self, number: int, turn: int, segment: int | None = None) -> Conversation:
        """With the version of that number, from 0, of a turn and what follows it, or of the assistant's picture there.

        What stands there now is put aside in its place, so that one can go back and forth. Raises ConversationError.
        """
        versions = self.versions(turn, segment)
        if type(number) is not int or not 0 <= number < versions.count:
            raise ConversationError(f"There is no version {shown(number)}: there are {versions.count}, from 0.")
        if number == versions.place:
            return self
        if segment is not None:
            slot = Slot(turn, segment)
            version, versions = versions.choose(number, put_picture_aside(self._painted_at(slot)))
            return self._with(slot, picture_of(version).changed(versions=versions))
        version, versions = versions.choose(number, put_aside(self.turns[turn:]))
        first, *later = turns_of(version)
        turns = (*self.turns[:turn], replace(first, versions=versions), *later)
        return replace(self, turns=turns, awaiting=Versions())

    def references(self, slot: Slot, policy: ReferencePolicy | None = None, *, limit: int = 2) -> tuple[Tensor, ...]:
        """Return the images [H, W, 3] that a picture at `slot` should agree with, no image twice; () if there are none.

        Pictures of the cast that the slot's caption names come first. `policy` chooses the others; without one they are
        the first picture before the slot and the most recent ones, oldest first, up to `limit` in all.
        """
        policy = ReferencePolicy(count=limit) if policy is None else policy
        before = [picture for at, picture in self._pictures() if at < tuple(slot) and not picture.is_open]
        caption = getattr(self.at(slot), "caption", "") if self.cast else ""
        return policy.choose(before, self.cast, caption)

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
        write_saved(directory, Saved(self.turns, self.cast, awaiting=self.awaiting))

    @classmethod
    def load(cls, directory: str | Path) -> Conversation:
        """The conversation saved in a folder (pictures as 8-bit PNGs hold them). Raises ConversationError."""
        saved = read_saved(directory)
        return cls(saved.turns, saved.cast, saved.awaiting)

    def _turn(self, index: int) -> Turn:
        if type(index) is not int or not 0 <= index < len(self.turns):
            raise ConversationError(f"There is no turn {shown(index)}: the conversation has {len(self.turns)}, from 0.")
        return self.turns[index]

    def _painted_at(self, slot: Slot) -> Picture:
        picture = self.at(slot)
        if not isinstance(picture, Picture) or self.turns[slot[0]].role != "assistant":
            raise ConversationError(f"Only the assistant's pictures can be painted, and {tuple(slot)} is none.")
        return picture

    def _with(self, slot: Slot, segment: Segment) -> Conversation:
        segments = self.turns[slot[0]].segments
        return self._with_segments(slot[0], (*segments[: slot[1]], segment, *segments[slot[1] + 1 :]))

    def _with_segments(self, index: int, segments: Iterable[Segment]) -> Conversation:
        turn = replace(self.turns[index], segments=tuple(segments))
        return replace(self, turns=(*self.turns[:index], turn, *self.turns[index + 1 :]))

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
