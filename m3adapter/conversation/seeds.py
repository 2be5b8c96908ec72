"""The seeds of a story's turns and pictures, all of which follow from the story's own seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..values import SEED_LIMIT

if TYPE_CHECKING:
    from .conversation import Conversation


def turn_seed(seed: int, turn: int) -> int:
    """Return the seed of turn number `turn` (from 0) of a story; the first turn has the story's seed.

    Neighbouring turns are far apart (by 2**64 over the golden ratio), so their pictures never share a seed.
    """
    return (seed + turn * 0x9E3779B97F4A7C15) % SEED_LIMIT


def picture_seed(seed: int, index: int, reroll: int = 0) -> int:
    """Return the seed of picture number `index` (from 0) of a turn with `seed`, for its re-roll number `reroll`."""
    return reroll_seed(seed + index, reroll)


def reroll_seed(seed: int, reroll: int) -> int:
    """Return a different seed for every re-roll number; number 0 returns `seed` itself."""
    return (seed + reroll * 0xD1B54A32D192ED03) % SEED_LIMIT


def story_seeds(story: Conversation, seed: int) -> list[int]:
    """Return the seeds with which `M2Chat.story` paints a story's pictures, in order, if the story's seed is `seed`.

    `story` must have been told from its first turn; its pictures may still be open slots.
    """
    replies = [number for number, turn in enumerate(story.turns) if turn.role == "assistant"]
    panels = [sum(slot.turn == number for slot in story.slots()) for number in replies]
    return [picture_seed(turn_seed(seed, panel), index) for panel, count in enumerate(panels) for index in range(count)]
