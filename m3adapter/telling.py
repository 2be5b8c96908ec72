"""Tells a turn or a story: first all words, then the pictures, some of them at once if wanted.

`pipeline.M2Chat` decides what is told, this module how. The language model reads each slot right after its reply, so
that it has finished a whole story before anything is painted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from .adapter.slots import Prepare, UserPictures, read_slot
from .conversation.conversation import Conversation, Slot
from .conversation.seeds import picture_seed
from .events import (
    Event,
    Interrupted,
    OnEvent,
    OutOfMemory,
    PictureDone,
    PictureStarted,
    ReplyWritten,
    ShouldStop,
    SoFar,
    TurnDone,
    check_stop,
    ignore,
)
from .language.reply import FAILED_REPLY
from .painter import Painter, PaintRequest
from .settings import TurnSettings, gate_setting

if TYPE_CHECKING:
    from torch import Tensor

    from .language.language_model import LanguageModel, SlotStates

FAILED_PANEL = (*FAILED_REPLY, OutOfMemory)  # what ends a story before a panel


class Writer(Protocol):
    """What this module uses of an `M2Chat` for the words."""

    language_model: LanguageModel

    @property
    def prepare(self) -> Prepare:
        """Called with the name of a model just before it works."""

    def write(self, conversation: Conversation, settings: TurnSettings, **how: Any) -> Conversation:
        """Write a reply."""


@dataclass(frozen=True)
class Reply:
    """A written reply, and what its pictures are painted from.

    Attributes:
        settings: How to paint.
        turn: The index of the last turn of the conversation that it completes.
        slots: Its open slots.
        states: The language model's states of each slot; None for painters that do not need them.
        rerolls: Re-roll numbers of its pictures, counted from 1.
    """

    settings: TurnSettings
    turn: int
    slots: Sequence[Slot]
    states: Sequence[SlotStates | None]
    rerolls: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """Picture number `index` (from 0) of a reply."""

    reply: Reply
    index: int

    @property
    def slot(self) -> Slot:
        return self.reply.slots[self.index]

    @property
    def seeds(self) -> list[int]:
        settings, reroll = self.reply.settings, self.reply.rerolls.get(self.index + 1, 0)
        return [picture_seed(settings.seed, self.index, reroll + variant) for variant in range(settings.variants)]

    def requests(self, conversation: Conversation) -> list[PaintRequest]:
        """Return a request for each variant."""
        reply = self.reply
        return [
            PaintRequest(conversation, self.slot, reply.settings, seed, reply.states[self.index]) for seed in self.seeds
        ]


class Telling:
    """A context in which models tell a story; an Interrupted that leaves it carries what was told by then.

    Args:
        writer: Writes the words.
        painter: Paints the pictures.
        shown: What the language model sees of the user's pictures.
        should_stop: Asked at every chunk of text and every denoising step.
        on_event: Called with each Event as it happens.
    """

    def __init__(
        self,
        writer: Writer,
        painter: Painter,
        shown: UserPictures,
        should_stop: ShouldStop | None,
        on_event: OnEvent | None,
    ) -> None:
        self._writer, self._painter, self._shown = writer, painter, shown
        self._should_stop, self._on_event = should_stop, on_event or ignore
        self._so_far = SoFar()

    def __enter__(self) -> Telling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted):
            error.conversation = self._so_far.conversation

    def on_event(self, event: Event) -> None:
        """Report an event."""
        self._so_far.hear(event)
        self._on_event(event)

    def write(
        self,
        conversation: Conversation,
        settings: TurnSettings,
        premise: str | None = None,
        rerolls: Mapping[int, int] | None = None,
    ) -> tuple[Conversation, Reply]:
        """Write the next reply, and read the slots of its pictures; see `M2Chat.write`."""
        conversation = self._writer.write(
            conversation,
            settings,
            premise=premise,
            should_stop=self._should_stop,
            on_event=self.on_event,
            shown=self._shown,
        )
        slots = [slot for slot in conversation.open_slots() if slot.turn == len(conversation.turns) - 1]
        reply = self.read(conversation, slots, settings, rerolls)
        self.on_event(ReplyWritten(conversation))
        return conversation, reply

    def read(
        self,
        conversation: Conversation,
        slots: Sequence[Slot],
        settings: TurnSettings,
        rerolls: Mapping[int, int] | None = None,
    ) -> Reply:
        """Have the language model read open slots, if the painter needs that."""
        tokens = self._painter.image_tokens if "language_model" in self._painter.needs else None
        states: list[SlotStates | None] = []
        for slot in slots:
            check_stop(self._should_stop)
            writer = self._writer
            states.append(
                tokens
                if tokens is None
                else read_slot(
                    writer.language_model, tokens, conversation, slot, shown=self._shown, prepare=writer.prepare
                )
            )
        return Reply(settings, len(conversation.turns) - 1, slots, states, rerolls or {})

    def illustrate(self, conversation: Conversation, replies: Sequence[Reply]) -> Iterator[Conversation]:
        """Paint the pictures of replies in order; yield the whole conversation whenever a reply has all of its own.

        Each picture may refer to those before it. With a `batch_size`, those that wait for none of these are painted at
        once.
        """
        pending = [_Place(reply, index) for reply in replies for index in range(len(reply.slots))]
        if not pending:
            self.on_event(TurnDone(conversation))
            yield conversation
            return
        ahead = [request for place in pending for request in place.requests(conversation)[:1]]
        with self._painter.read_ahead(ahead, check=lambda: check_stop(self._should_stop)):
            yield from self._illustrate(conversation, pending)

    def _illustrate(self, conversation: Conversation, pending: list[_Place]) -> Iterator[Conversation]:
        while pending:
            together = self._together(conversation, pending)
            images = self._paint(conversation, together)
            for place in together:
                settings = place.reply.settings
                conversation = conversation.with_variants(
                    place.slot,
                    [next(images) for _ in place.seeds],
                    seeds=place.seeds,
                    gate=gate_setting(settings.gate).strength,
                )
                self.on_event(PictureDone(place.slot, conversation.picture(place.slot).pixels, conversation))
                if place.index == len(place.reply.slots) - 1:
                    later = len(conversation.turns) - 1 > place.reply.turn
                    self.on_event(TurnDone(conversation.rewind(place.reply.turn) if later else conversation))
                    yield conversation
            del pending[: len(together)]

    def _together(self, conversation: Conversation, pending: Sequence[_Place]) -> list[_Place]:
        """Return the first picture that is yet to be painted, and those after it that do not wait for any."""
        settings = pending[0].reply.settings
        policy = replace(settings.references, count=min(settings.references.count, self._painter.max_references))
        slots = {place.slot for place in pending}
        others = pending[1 : settings.batch_size]
        return [pending[0], *takewhile(lambda place: not conversation.awaits(place.slot, policy, slots), others)]

    def _paint(self, conversation: Conversation, places: Sequence[_Place]) -> Iterator[Tensor]:
        """Paint all variants of pictures, several at once if painter and settings allow it."""
        for place in places:
            caption, count = conversation.picture(place.slot).caption, len(place.reply.slots)
            self.on_event(PictureStarted(place.slot, caption, place.index, count))
            check_stop(self._should_stop)
        requests = [request for place in places for request in place.requests(conversation)]

        def on_event(event: Event) -> None:
            self.on_event(event)
            check_stop(self._should_stop)

        return self._painter.paint_all(requests, on_event=on_event)
