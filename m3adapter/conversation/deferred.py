"""Pictures that are read or drawn whenever somebody looks at them, and take no memory otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Deferred(ABC):
    """The image of a `Picture`, made anew at every look.

    Of a data set, more pictures are looked at than memory holds; whoever wants an image twice keeps it.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, known without decoding."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """What tells its contents from those of others, as hexadecimal digits; the same for the same contents."""

    @abstractmethod
    def decode(self) -> Tensor:
        """Return the picture [H, W, 3], float32 in 0..1 on the CPU.

        Raises:
            PictureError: It cannot be read any more; the message is one sentence.
        """
