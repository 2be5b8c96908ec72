"""Keeps what a model has computed for the beginnings of prompts, so that they need not be read again.

A prompt is read in blocks (`blocks.py`), and the keys and values of each are kept under the content of the block and of
all blocks before it. So the common beginning of two prompts is shared: those of one turn and the next, of a reply and
of its pictures, of a story before and after an edit, and the instructions of all.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MEGABYTE = 2**20
_MOST, _LEAST = 512 * MEGABYTE, 32 * MEGABYTE

Part = Sequence[tuple["Tensor", "Tensor"]]  # of one block: for each layer its keys and values [1, heads, tokens, width]


def usual_limit(weights: int) -> int:
    """Return how many bytes a model whose weights take `weights` bytes may keep by default."""
    return min(max(weights // 2, _LEAST), _MOST)


class PrefixCache:
    """The keys and values of blocks, up to a number of bytes; the least recently used are dropped first.

    Args:
        limit: The most bytes; 0 keeps nothing.

    Attributes:
        used: The bytes of what is kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: dict[bytes, Part] = {}  # the least recently used comes first
        self._lock = threading.Lock()
        self._owner: object = None
        self.used = 0

    @property
    def limit(self) -> int:
        """The most bytes; setting a lower one drops what is too much."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._lock:
            self._limit = limit
            self._make_room(0, ())

    def __len__(self) -> int:
        """Return how many blocks are kept."""
        return len(self._parts)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._parts.clear()
            self.used = 0

    def heed(self, owner: object) -> None:
        """Forget everything if it was computed with other weights than those that `owner` identifies."""
        if owner != self._owner:
            self.clear()
            self._owner = owner

    def get(self, key: bytes) -> Part | None:
        """Return what is kept of a block."""
        return self._parts.get(key)

    def put(self, key: bytes, part: Part, before: Collection[bytes]) -> None:
        """Keep a block, if there is room without dropping those `before` it, without which it is useless."""
        size = _size(part)
        with self._lock:
            if key in self._parts or not self._make_room(size, before):
                return
            self._parts[key] = part
            self.used += size

    def use(self, keys: Sequence[bytes]) -> None:
        """Note that the blocks of a prompt were used; the last of them is the first to go."""
        with self._lock:
            for key in reversed(keys):
                if (part := self._parts.pop(key, None)) is not None:
                    self._parts[key] = part

    def _make_room(self, size: int, before: Collection[bytes]) -> bool:
        for key in [key for key in self._parts if key not in before]:
            if self.used + size <= self._limit:
                break
            self.used -= _size(self._parts.pop(key))
        return self.used + size <= self._limit


def block_key(before: bytes, ids: Sequence[int], seen: bytes = b"") -> bytes:
    """Return the key of a block: of the block before it, its token ids, and what it contains besides words."""
    digest = hashlib.blake2b(before, digest_size=16)
    digest.update(array("q", ids).tobytes())
    digest.update(seen)
    return digest.digest()


def _size(part: Part) -> int:
    return sum(each.numel() * each.element_size() for pair in part for each in pair)
