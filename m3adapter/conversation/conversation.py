"""A conversation of texts and pictures: an immutable value, whose operations return new ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..values import shown
from .cast import Character, with_character, with_looks
from .entries import picture_of, put_aside, put_picture_aside, turns_of
from .markup import escape
from .references import Reference, ReferencePolicy
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
    """The place of a picture: the index of its turn, and of its segment in that turn. Slots sort as the pictures do."""

    turn: int
    segment: int


@dataclass(frozen=True)
class Conversation:
    """Turns in order: at most one system turn, first; then user and assistant alternate, the user beginning.

    Attributes:
        turns: The turns.
        cast: The characters whose looks are given by words or pictures, each name once.
        awaiting: Earlier versions of the turn that comes next, after `retell`.

    Raises:
        ConversationError: A value breaks these rules; the message is one sentence. It is a ValueError.
    """

    turns: tuple[Turn, ...] = ()
    cast: tuple[Character, ...] = ()
    awaiting: Versions = field(default=Versions(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        object.__setattr__(self, "cast", tuple(self.cast))
        for index, character in enumerate(self.cast):
            if any(character.is_called(other.name) for other in self.cast[:index]):
                raise ConversationError(f"The cast has two characters called {character.name}: rename one of them.")
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
        """Return the conversation with `turn` at its end; after `retell`, as another version of the turn put aside."""
        if self.awaiting.others:
            turn = replace(turn, versions=self.awaiting)
        return replace(self, turns=(*self.turns, turn), awaiting=Versions())

    def with_character(
        self, name: str, pictures: Iterable[Tensor | Picture] = (), *, looks: str | None = None
    ) -> Conversation:
        """Return the conversation with one more character in its cast, who replaces one of the same name.

        Args:
            name: The name that captions use.
            pictures: Pictures, or images [H, W, 3 or 4] in 0..1, of this character only.
            looks: What the character always looks like; None leaves what was said before.
        """
        given = tuple(p if isinstance(p, Picture) else Picture(image=p) for p in pictures)
        if looks is None:
            looks = next((other.looks for other in self.cast if other.is_called(name)), "")
        return replace(self, cast=with_character(self.cast, Character(name, given, looks)))

    def with_looks(self, looks: Mapping[str, str]) -> Conversation:
        """Return the conversation with a character sheet: what characters look like, by name.

        Pictures of the cast stay, and so do characters of whom the sheet says nothing; others join the cast.
        """
        conversation = self
        for name, said in looks.items():
            pictures = next((other.pictures for other in self.cast if other.is_called(name)), ())
            conversation = conversation.with_character(name, pictures, looks=said)
        return conversation

    def described(self, slot: Slot) -> str:
        """Return the caption of the picture at `slot` with the looks of the characters that it names.

        It is for painters that know characters by words alone; see `cast.with_looks`.
        """
        return with_looks(self.picture(slot).caption, self.cast)

    def system(self, text: str) -> Conversation:
        """Return the conversation with a system turn; only an empty conversation can take one."""
        return self.append(Turn("system", (Text(text),)))

    def user(self, text: str, pictures: Iterable[Tensor | Picture] = ()) -> Conversation:
        """Return the conversation with a user's turn: pictures, then text, either of which may be missing.

        Args:
            text: What the user says.
            pictures: Pictures, or images [H, W, 3 or 4] in 0..1.
        """
        given = tuple(p if isinstance(p, Picture) else Picture(image=p) for p in pictures)
        message = Text(text)
        return self.append(Turn("user", (*given, message) if message.text.strip() else given))

    def assistant(self, segments: Iterable[Segment]) -> Conversation:
        """Return the conversation with an assistant's turn; its pictures without an image are open slots."""
        return self.append(Turn("assistant", tuple(segments)))

    def check_ready_for_reply(self) -> None:
        """Raise ConversationError unless the last turn is the user's."""
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
        """Return the segment at `slot`; raise ConversationError if there is none."""
        turn, segment = slot
        if not (0 <= turn < len(self.turns) and 0 <= segment < len(self.turns[turn].segments)):
            raise ConversationError(f"The conversation has no segment {segment} in turn {turn}: choose another slot.")
        return self.turns[turn].segments[segment]

    def slots(self) -> tuple[Slot, ...]:
        """Return the slots of the assistant's pictures, painted or not, in order."""
        return tuple(slot for slot, _ in self._pictures() if self.turns[slot.turn].role == "assistant")

    def checked_slot(self, slot: Slot) -> Slot:
        """Return `slot`; raise ConversationError unless it is that of a picture of the assistant's."""
        slot = Slot(*slot)
        self._painted_at(slot)
        return slot

    def open_slots(self) -> tuple[Slot, ...]:
        """Return the slots of the assistant's pictures that are not painted yet, in order."""
        return tuple(slot for slot, picture in self._pictures() if picture.is_open)

    def pictures(self) -> tuple[Slot, ...]:
        """Return the slots of all pictures with an image, including users' pictures, oldest first."""
        return tuple(slot for slot, picture in self._pictures() if not picture.is_open)

    def user_pictures(self, *, before: Slot | None = None) -> tuple[Tensor, ...]:
        """Return the images [H, W, 3] of users' pictures, oldest first; only those before a slot if one is given."""
        return tuple(self.picture(slot).pixels for slot in self.user_slots(before=before))

    def user_slots(self, *, before: Slot | None = None) -> tuple[Slot, ...]:
        """Return the slots of users' pictures, oldest first; only those before a slot if one is given."""
        return tuple(
            slot
            for slot, _ in self._pictures()
            if self.turns[slot.turn].role == "user" and (before is None or slot < before)
        )

    def with_picture(
        self, slot: Slot, image: Tensor, *, seed: int | None = None, gate: float | None = None
    ) -> Conversation:
        """Return the conversation with the assistant's picture at `slot` painted as `image` [H, W, 3 or 4]."""
        picture = self._painted_at(slot)
        return self._with(slot, Picture(picture.caption, image, seed, gate, picture.versions))

    def with_variants(
        self, slot: Slot, images: Sequence[Tensor], *, seeds: Sequence[int], gate: float | None = None
    ) -> Conversation:
        """Return the conversation with the first image in the slot, and the others among the picture's versions."""
        conversation = self.with_picture(slot, images[0], seed=seeds[0], gate=gate)
        picture = conversation.picture(slot)
        others = (Picture(picture.caption, *other, gate) for other in zip(images[1:], seeds[1:], strict=True))
        return conversation._with(
            slot, picture.changed(versions=picture.versions.beside(map(put_picture_aside, others)))
        )

    def without_picture(self, slot: Slot) -> Conversation:
        """Return the conversation with the picture at `slot` open again; what it was becomes a version."""
        picture = self._painted_at(slot)
        if picture.is_open:
            return self
        return self._with(slot, Picture(picture.caption, versions=picture.versions.another(put_picture_aside(picture))))

    def with_caption(self, slot: Slot, caption: str) -> Conversation:
        """Return the conversation with another caption for the assistant's picture at `slot`, whose image stays."""
        return self._with(slot, self._painted_at(slot).changed(caption=caption))

    def with_seen(self, slot: Slot, seen: str) -> Conversation:
        """Return the conversation with a description of what the assistant's painted picture at `slot` shows."""
        picture = self._painted_at(slot)
        if picture.is_open:
            raise ConversationError("A picture has no image yet: paint it first.")
        return self._with(slot, picture.changed(seen=seen))

    def with_text(self, turn: int, text: str, segment: int | None = None) -> Conversation:
        """Return the conversation with the text of a turn replaced; its pictures stay.

        Args:
            turn: The index of the turn.
            text: The new text. It takes the place of the turn's first text, or comes last if the turn has none.
            segment: The index of the one text to replace; None replaces all texts of the turn.

        Raises:
            ConversationError: There is no such turn, or no text at that index.
        """
        segments = self._turn(turn).segments
        texts = [index for index, old in enumerate(segments) if isinstance(old, Text)]
        if segment is None:
            place, replaced = (texts or [len(segments)])[0], texts
        elif segment in texts:
            place, replaced = segment, [segment]
        else:
            raise ConversationError(f"Segment {segment} of turn {turn} is not a text: choose one of {texts}.")
        kept = [(index, old) for index, old in enumerate(segments) if index not in replaced]
        before = [old for index, old in kept if index < place]
        return self._with_segments(turn, (*before, Text(text), *(old for index, old in kept if index > place)))

    def rewind(self, turn: int) -> Conversation:
        """Return the conversation up to and including the turn of that index."""
        self._turn(turn)
        return replace(self, turns=self.turns[: turn + 1], awaiting=Versions())

    def retell(self, turn: int) -> Conversation:
        """Return the conversation before the turn of that index, so that the turn can be taken again.

        Everything from there to the end is put aside, and becomes a version of the turn that is appended next.

        Raises:
            ConversationError: The turn is a system turn, or another turn is being retold already.
        """
        before = self._turn(turn)
        if before.role == "system":
            raise ConversationError("A system turn cannot be retold: choose a message or a reply.")
        if self.awaiting.others:
            raise ConversationError("Another turn is being retold: append that turn first.")
        kept = before.versions.another(put_aside(self.turns[turn:]))
        return replace(self, turns=self.turns[:turn], awaiting=kept)

    def versions(self, turn: int, segment: int | None = None) -> Versions:
        """Return the versions of a turn and what follows it or, given a segment, of the assistant's picture there."""
        return (self._turn(turn) if segment is None else self._painted_at(Slot(turn, segment))).versions

    def with_version(self, number: int, turn: int, segment: int | None = None) -> Conversation:
        """Return the conversation with another version of a turn and what follows it, or of the assistant's picture.

        The present one takes its place among the versions, so that one can switch back and forth.

        Args:
            number: The number of the version, from 0.
            turn: The index of the turn.
            segment: The index of the picture in the turn; None for the turn and what follows it.

        Raises:
            ConversationError: There is no such turn, picture or version.
        """
        versions = self.versions(turn, segment)
        if type(number) is not int or not 0 <= number < versions.count:
            raise ConversationError(f"There is no version {shown(number)}: choose one from 0 to {versions.count - 1}.")
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
        return tuple(picture.pixels for picture in self._references(slot, policy))

    def weighted_references(self, slot: Slot, policy: ReferencePolicy) -> tuple[Reference, ...]:
        """Return the references of a picture at `slot` as `policy` chooses and weighs them; none of weight 0."""
        chosen = enumerate(self._references(slot, policy))
        return tuple(Reference(picture, weight) for index, picture in chosen if (weight := policy.weight(index)) > 0)

    def awaits(self, slot: Slot, policy: ReferencePolicy, pending: Collection[Slot]) -> bool:
        """Return whether the references of a picture at `slot` depend on pictures at `pending`, yet to be painted."""
        before = [
            picture for at, picture in self._pictures() if at < tuple(slot) and (not picture.is_open or at in pending)
        ]
        return policy.awaits(before, self.cast, self.picture(slot).caption if self.cast else "")

    def messages(self, special_tokens: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return the turns as transformers' chat templates take them.

        Each is `{"role": ..., "content": [{"type": "text" | "image", ...}]}`; an assistant's image entry has a
        "caption". Texts and captions are escaped by `markup.escape`, so that nothing in them is read as markup or as a
        special token; `special_tokens` adds the model's own.
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
        """Write the conversation to a folder: conversation.json and an 8-bit PNG per picture.

        An earlier conversation there is replaced as a whole: `load` finds either the old or the new one at any time.

        Raises:
            ConversationError: The folder holds anything but a conversation.
            OSError: The folder cannot be written.
        """
        write_saved(directory, Saved(self.turns, self.cast, awaiting=self.awaiting))

    @classmethod
    def load(cls, directory: str | Path) -> Conversation:
        """Load the conversation in a folder; raise ConversationError if it is missing or damaged."""
        saved = read_saved(directory)
        return cls(saved.turns, saved.cast, saved.awaiting)

    def _references(self, slot: Slot, policy: ReferencePolicy) -> tuple[Picture, ...]:
        before = [picture for at, picture in self._pictures() if at < tuple(slot) and not picture.is_open]
        caption = getattr(self.at(slot), "caption", "") if self.cast else ""
        return policy.choose(before, self.cast, caption)

    def _turn(self, index: int) -> Turn:
        if type(index) is not int or not 0 <= index < len(self.turns):
            raise ConversationError(
                f"There is no turn {shown(index)}: the conversation has {len(self.turns)}, counted from 0."
            )
        return self.turns[index]

    def _painted_at(self, slot: Slot) -> Picture:
        picture = self.at(slot)
        if not isinstance(picture, Picture) or self.turns[slot[0]].role != "assistant":
            raise ConversationError(
                f"Only the assistant's pictures can be painted, and {tuple(slot)} is not one of them."
            )
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
