"""What worlds share that draw their pictures: pictures of users in a conversation, and the digest of the sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..conversation.conversation import Conversation
from ..conversation.deferred import Deferred
from ..conversation.segments import Picture, Turn


def with_users_pictures(conversation: Conversation, images: Iterable[Deferred]) -> Conversation:
    """Return a conversation in which users' pictures, in their order, are the given ones."""
    left = iter(images)

    def turn(old: Turn) -> Turn:
        if old.role != "user":
            return old
        segments = [
            replace(segment, image=next(left)) if isinstance(segment, Picture) else segment  # type: ignore[arg-type]
            for segment in old.segments
        ]
        return Turn(old.role, tuple(segments))

    return replace(conversation, turns=tuple(map(turn, conversation.turns)))


@cache
def sources(folder: Path) -> bytes:
    """Return the digest of all files from which a world in `folder` makes its pictures."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.digest()
