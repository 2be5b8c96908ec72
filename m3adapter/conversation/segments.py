"""What a turn is made of: texts and pictures, in order. Every value is immutable and checked when it is made."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..limits import MAX_STRENGTH, SEED_LIMIT
from ..values import is_number, is_whole, shown
from .pictures import PictureError, normalised, png_bytes
from .versions import Versions

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = ("system", "user", "assistant")


class ConversationError(ValueError):
    """A conversation that cannot be; the message is one clear sentence."""


def clean(text: str) -> str:
    """`text` with line ends as newlines, and without what no prompt, file or page can hold.

    Control characters other than newline and tab go, and so do lone surrogates, which no UTF-8 file can store.
    Everything else stays, joiners and direction marks included: emoji and right-to-left scripts need them.
    """
    if not isinstance(text, str):
        raise ConversationError(f"A text must be a string, not {type(text).__name__}.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


@dataclass(frozen=True)
class Text:
    """A stretch of text; cleaned of control characters."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean(self.text))


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a user, or of the assistant with the caption it was painted from; without image it is an open slot.

    `image` is [H, W, 3] float32 in 0..1 on the CPU (given [H, W, 4], it is composited over white); `seed` (0..2**64-1)
    and `gate` (strength 0..4) say how it was painted; `versions` are what it was before it was painted again. Raises
    ConversationError.
    """

    caption: str = ""
    image: Tensor | None = None
    seed: int | None = None
    gate: float | None = None
    versions: Versions = field(default=Versions(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", clean(self.caption))
        if self.image is not None:
            try:
                object.__setattr__(self, "image", normalised(self.image))
            except PictureError as error:
                raise ConversationError(str(error)) from error
        if self.seed is not None and not is_whole(self.seed, 0, SEED_LIMIT - 1):
            raise ConversationError(
                f"A picture's seed must be a whole number from 0 to 2**64-1, not {shown(self.seed)}."
            )
        if self.gate is not None:
            if not is_number(self.gate, 0, MAX_STRENGTH):
                raise ConversationError(f"A picture's gate must be a number from 0 to 4, not {shown(self.gate)}.")
            object.__setattr__(self, "gate", float(self.gate))

    @cached_property
    def png(self) -> bytes:
        """The image as the bytes of an 8-bit PNG. Encoding takes long, so it happens once."""
        return png_bytes(self.pixels)

    @property
    def pixels(self) -> Tensor:
        """The image [H, W, 3] of a picture that is not open.

        Raises:
            ConversationError: The picture is still to be painted.
        """
        if self.image is None:
            raise ConversationError("A picture has no image yet: paint it first.")
        return self.image

    def changed(self, **how: Any) -> Picture:
        """With another caption, seed, gate or other versions. The image stays, and is not encoded again."""
        copy = replace(self, **how)
        vars(copy).update({name: value for name, value in vars(self).items() if name == "png"})
        return copy

    @property
    def is_open(self) -> bool:
        """Whether it is still to be painted."""
        return self.image is None

    def __eq__(self, other: object) -> bool:
        """Equal captions, seeds, gates and pixels. (The generated comparison cannot compare tensors.)"""
        if not isinstance(other, Picture):
            return NotImplemented
        if (self.caption, self.seed, self.gate) != (other.caption, other.seed, other.gate):
            return False
        if self.image is None or other.image is None:
            return self.image is other.image
        return self.image.equal(other.image)


Segment = Text | Picture


@dataclass(frozen=True)
class Turn:
    """One speaker's turn. Adjacent texts are joined and empty ones dropped, so equal turns have equal segments.

    `versions` are what stood from here to the end of the conversation before this turn was taken again. Raises
    ConversationError: a user's turn needs text or a picture, and its pictures an image; a system turn is text.
    """

    role: Role
    segments: tuple[Segment, ...]
    versions: Versions = field(default=Versions(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConversationError(f"A turn's role must be system, user or assistant, not {shown(self.role)}.")
        object.__setattr__(self, "segments", _joined(self.segments))
        pictures = [segment for segment in self.segments if isinstance(segment, Picture)]
        if self.role == "system" and pictures:
            raise ConversationError("A system turn holds text only: give pictures in a user message.")
        if self.role == "user" and any(picture.is_open for picture in pictures):
            raise ConversationError("A picture in a user message needs an image.")
        if self.role != "assistant" and not pictures and not self.text.strip():
            cure = "write some text or add a picture" if self.role == "user" else "write some text or leave it out"
            raise ConversationError(f"The {self.role} message is empty: {cure}.")

    @property
    def text(self) -> str:
        """Its texts, joined; pictures and captions left out."""
        return "".join(segment.text for segment in self.segments if isinstance(segment, Text))


def _joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for segment in segments:
        if not isinstance(segment, (Text, Picture)):
            raise ConversationError(f"A turn is made of Text and Picture, not {type(segment).__name__}.")
        last = joined[-1] if joined else None
        if isinstance(segment, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + segment.text)
        elif not (isinstance(segment, Text) and not segment.text):
            joined.append(segment)
    return tuple(joined)
