"""Painters: whatever turns an open slot of a conversation into a picture.

    conversation ──▶ language model ──▶ open slots ──▶ painter ──▶ pictures in them

The language model writes the words for every painter. `m3_painter.M3Painter` is M²Chat proper: adapter and diffusion
decoder. A painter of another kind derives from `Painter` and says what it does in `paint`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from .conversation.cast import with_looks
from .conversation.references import MAX_NUMBER
from .events import OnEvent, ignore
from .settings import TurnSettings, gate_setting, styled
from .values import check_seed

if TYPE_CHECKING:
    from torch import Tensor

    from .conversation.conversation import Conversation, Slot
    from .conversation.references import Reference
    from .gate import GateSetting
    from .language.language_model import SlotStates

Need = Literal["language_model", "vision_encoder", "adapter", "text_encoders"]
Made = TypeVar("Made")


class Kept:
    """What several pictures share, such as an encoded text: made once while they are painted, else each time."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}
        self._keeps = False

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what is kept under a key, or what `make` makes."""
        if key in self._known:
            return self._known[key]
        made = make()
        if self._keeps:
            self._known[key] = made
        return made

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what is made in this context, and forget it at its end."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            self._known.clear()


def nothing() -> None:
    """Do nothing: nobody asks for a stop."""


@dataclass(frozen=True)
class PaintRequest:
    """One picture to be painted.

    A painter heeds what it can: `references` and `gate`, for example, mean nothing to one that reads captions only.

    Attributes:
        conversation: Where the picture belongs. Pictures before it are painted; later ones may be open.
        slot: Its place, a picture of the assistant's.
        settings: How to paint it: gate, steps, guidance, size, style and so on. Its `seed` is that of the whole turn.
        seed: The picture's own seed, 0..2**64-1.
        states: What the language model says of the slot, for painters that need it.

    Raises:
        ValueError: The seed is out of its range, or there is no picture of the assistant's at `slot`.
    """

    conversation: Conversation
    slot: Slot
    settings: TurnSettings = TurnSettings()
    seed: int = 0
    states: SlotStates | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        object.__setattr__(self, "slot", self.conversation.checked_slot(self.slot))

    @property
    def caption(self) -> str:
        """What the picture should show."""
        return self.conversation.picture(self.slot).caption

    @property
    def prompt(self) -> str:
        """The caption with the style and the looks of the cast, for painters that read words."""
        caption = self.caption
        return with_looks(styled(caption, self.settings.style), self.conversation.cast, named_in=caption)

    @property
    def gate(self) -> GateSetting:
        """How much to take over from the references."""
        return gate_setting(self.settings.gate)

    @property
    def references(self) -> tuple[Reference, ...]:
        """The earlier pictures to agree with, and the weight of each, above 0; as the settings choose them."""
        return self.conversation.weighted_references(self.slot, self.settings.references)

    def differs_by_seed(self, other: PaintRequest) -> bool:
        """Return whether another request is for the same picture, at most with another seed."""
        return self.states is other.states and replace(self, seed=other.seed) == other


@runtime_checkable
class Painter(Protocol):
    """Turns open slots into pictures.

    Attributes:
        needs: Which other models work while it paints. With "language_model", requests have `states`.
        max_references: How many references it looks at, at most; 0 if it does not know of any.
        image_tokens: What a language model reads behind a caption [N, width], for a painter that needs one.
    """

    needs: frozenset[Need] = frozenset()
    max_references: int = MAX_NUMBER
    image_tokens: Tensor | None = None

    def describe(self) -> str:
        """Return what it is, in one line."""
        return type(self).__name__

    def check(self, settings: TurnSettings, conversation: Conversation) -> None:
        """Raise ValueError, before a word is written, if it cannot follow the settings of a turn.

        Nor can it if the conversation so far holds pictures that it cannot look at.
        """

    @contextmanager
    def read_ahead(self, requests: Sequence[PaintRequest], *, check: Callable[[], None] = nothing) -> Iterator[None]:
        """Do what can be done for pictures before the first of them is painted, and keep it while this context lasts.

        So a text encoder and a diffusion model that do not both fit in memory make room for one another once, not at
        every picture. The pictures are the same, to the bit. What cannot be done yet is done when they are painted.

        Args:
            requests: Those still to be painted, in order. References of theirs may be open pictures.
            check: Called between two steps. An exception that it raises is to end the context.
        """
        yield

    def paint(self, request: PaintRequest, *, on_event: OnEvent = ignore) -> Tensor:
        """Paint a picture.

        Args:
            request: What to paint.
            on_event: Gets a Step after each step. An exception that it raises is to end the painting.

        Returns:
            float32 [H, W, 3] in 0..1 on the CPU.

        Raises:
            ValueError: It cannot be painted; the message is one sentence.
        """
        ...

    def paint_all(self, requests: Sequence[PaintRequest], *, on_event: OnEvent = ignore) -> Iterator[Tensor]:
        """Paint pictures that do not depend on one another, and yield them in order."""
        for request in requests:
            yield self.paint(request, on_event=on_event)
