"""Turns and their segments, texts and pictures: immutable values that are checked when they are made."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from ..values import MAX_STRENGTH, SEED_LIMIT, number, shown, whole
from .deferred import Deferred
from .pictures import normalised, png_bytes
from .png_files import PngFile, data_of
from .versions import Versions

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = ("system", "user", "assistant")


class ConversationError(ValueError):
    """A value that breaks the rules of a conversation; the message is one sentence."""


@contextmanager
def checking() -> Iterator[None]:
    """Raise the ValueError of a check in `limits` as a ConversationError."""
    try:
        yield
    except ValueError as error:
        raise ConversationError(str(error)) from error


def clean(text: str) -> str:
    """Return `text` with newlines as line ends, and without what no prompt, file or page can hold.

    Control characters other than newline and tab are removed, and so are lone surrogates, which UTF-8 cannot encode.
    Everything else stays, including joiners and direction marks, which emoji and right-to-left scripts need.
    """
    if not isinstance(text, str):
        raise ConversationError(f"A text must be a string, not {type(text).__name__}.")
    if text.isprintable():  # most are, and a conversation of thousands of turns has many
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


@dataclass(frozen=True)
class Text:
    """A stretch of text, cleaned of control characters."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean(self.text))


class _Image:
    """A picture's image, which is decoded when it is first looked at."""

    def __get__(self, picture: Picture | None, owner: type | None = None) -> Tensor | None:
        if picture is None:
            return None  # the field's default
        image = vars(picture)["_image"]
        if isinstance(image, Deferred):
            with checking():
                return image.decode()
        if isinstance(image, PngFile):
            with checking():
                image = vars(picture)["_image"] = image.decode()
        return image

    def __set__(self, picture: Picture, image: Tensor | PngFile | Deferred | None) -> None:
        vars(picture)["_image"] = image


@dataclass(frozen=True, eq=False)
class Picture:
    """A user's picture, or the assistant's with the caption it is painted from.

    Attributes:
        caption: The caption; "" for most pictures of users.
        image: The image [H, W, 3], float32 in 0..1 on the CPU; [H, W, 4] is composited over white. None is an open
            slot, a picture still to be painted. A PngFile is decoded when somebody looks at the image, which raises
            ConversationError if that does not work any more; a Deferred is, at every look.
        seed: The seed it was painted with, 0..2**64-1.
        gate: The strength of the gate it was painted with, 0..4.
        versions: What it was before it was painted again.
        seen: What somebody who looked at the painted picture says that it shows; "" if nobody has looked.

    Raises:
        ConversationError: A value is out of range; the message is one sentence.
    """

    caption: str = ""
    image: Tensor | None = _Image()  # type: ignore[assignment]
    seed: int | None = None
    gate: float | None = None
    versions: Versions = field(default=Versions(), repr=False, compare=False)
    seen: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", clean(self.caption))
        object.__setattr__(self, "seen", clean(self.seen))
        image = vars(self)["_image"]
        if isinstance(image, PngFile):
            vars(self)["_file"] = image
        elif image is not None and not isinstance(image, Deferred):
            with checking():
                vars(self)["_image"] = normalised(image)
        if self.seed is not None:
            with checking():
                whole("A picture's seed", self.seed, 0, SEED_LIMIT - 1)
        if self.gate is not None:
            with checking():
                object.__setattr__(self, "gate", float(number("A picture's gate", self.gate, 0, MAX_STRENGTH)))

    @property
    def png(self) -> bytes:
        """The image as the bytes of an 8-bit PNG.

        Raises:
            ConversationError: The picture is still to be painted, or its file cannot be read any more.
        """
        with checking():
            return data_of(self.stored)

    @property
    def stored(self) -> bytes | PngFile:
        """The PNG of the image: the file that holds it, or its bytes, which are encoded once since that takes long."""
        state = vars(self)
        file = state.get("_file")
        if file is not None and (state["_image"] is file or file.is_whole):
            return file
        if "_png" not in state:
            state["_png"] = png_bytes(self.pixels)
        return state["_png"]

    def keep(self, png: bytes | PngFile) -> None:
        """Take note of the PNG that holds the image, so that it need not be encoded again."""
        vars(self).pop("_png", None)
        vars(self)["_file" if isinstance(png, PngFile) else "_png"] = png

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of a picture that is not open."""
        image = vars(self)["_image"]
        if isinstance(image, (PngFile, Deferred)) and image.size is not None:
            return image.size
        height, width = self.pixels.shape[:2]
        return width, height

    @property
    def digest(self) -> str:
        """What tells the image of a picture that is not open from others, as hexadecimal digits.

        That of a Deferred is its own, made without decoding.
        """
        image = vars(self)["_image"]
        if isinstance(image, Deferred):
            return image.digest
        pixels = self.pixels
        return blake2b(pixels.numpy().tobytes() + repr(list(pixels.shape)).encode(), digest_size=16).hexdigest()

    def shows(self, other: Picture) -> bool:
        """Return whether the picture, which is not open, has the same image as another."""
        one, two = vars(self)["_image"], vars(other)["_image"]
        if isinstance(one, Deferred) and isinstance(two, Deferred):
            return one is two or one.digest == two.digest
        return self.pixels.equal(other.pixels)

    @property
    def pixels(self) -> Tensor:
        """The image [H, W, 3] of a picture that is not open.

        Raises:
            ConversationError: The picture is still to be painted.
        """
        image = self.image
        if image is None:
            raise ConversationError("A picture has no image yet: paint it first.")
        return image

    def changed(self, **fields: Any) -> Picture:
        """Return the picture with other fields than the image, which is neither copied nor encoded again."""
        others = {name: getattr(self, name) for name in ("caption", "seed", "gate", "versions", "seen")}
        copy = Picture(**others | fields)
        vars(copy).update({name: value for name, value in vars(self).items() if name in ("_image", "_file", "_png")})
        return copy

    @property
    def is_open(self) -> bool:
        """Whether the picture is still to be painted."""
        return vars(self)["_image"] is None

    def __eq__(self, other: object) -> bool:
        """Compare what is said, and pixels. A dataclass's own comparison cannot compare tensors."""
        if not isinstance(other, Picture):
            return NotImplemented
        if any(getattr(self, name) != getattr(other, name) for name in ("caption", "seed", "gate", "seen")):
            return False
        if self.is_open or other.is_open or vars(self)["_image"] is vars(other)["_image"]:
            return self.is_open == other.is_open
        return self.shows(other)


Segment = Text | Picture


@dataclass(frozen=True)
class Turn:
    """One speaker's turn. Adjacent texts are joined and empty ones dropped, so that equal turns have equal segments.

    Attributes:
        role: The speaker.
        segments: Texts and pictures in order.
        versions: What stood from here to the end of the conversation before this turn was taken again.

    Raises:
        ConversationError: A user's turn has neither text nor a picture, or a picture without an image; or a system
            turn is empty or has a picture.
    """

    role: Role
    segments: tuple[Segment, ...]
    versions: Versions = field(default=Versions(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConversationError(f"A turn's role is {shown(self.role)}: give system, user or assistant.")
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
        """The texts of the turn, joined, without pictures and captions."""
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
