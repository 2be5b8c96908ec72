"""Where a prompt is cut into the blocks in which it is read.

The cuts depend on the prompt alone, so what a model computes for a block is the same to the bit whether it remembers
the blocks before or reads them again. They lie where the user's message ends and the assistant's turn begins: there the
prompt of a reply, those of its pictures and that of the next reply are still the same. A short prompt is one piece.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Tokens of the first block at least: prompts of ordinary stories are shorter, and are read as a whole.
FIRST = 512
LATER = 32  # tokens of every other block at least
_INSTRUCTIONS = 128  # instructions of at least this many tokens are a block of their own


class Blocks:
    """Cuts prompts into blocks.

    Args:
        opening: The ids between the words of the user's last message and those of the reply.
        dialogue: The ids of an example of several turns, with its opening.
        marks: The special tokens that may mark turns.
        instructions: The ids that all prompts have before the user's first word; [] without instructions.
    """

    def __init__(
        self, opening: Sequence[int], dialogue: Sequence[int], marks: Collection[int], instructions: Sequence[int]
    ) -> None:
        self._begins = _pattern(opening, marks) or _pattern(dialogue[1:], marks, last=True)
        self._instructions = list(instructions) if len(instructions) >= _INSTRUCTIONS else []

    def ends(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the ends of the blocks of a prompt that ends with an opening; something always follows the last."""
        ids = list(ids)
        ends: list[int] = []
        least, known = FIRST, len(self._instructions)
        if known and ids[:known] == self._instructions:
            ends.append(known)
            least = known + LATER
        for place in self._openings(ids):
            if place >= least:
                ends.append(place)
                least = place + LATER
        return tuple(ends)

    def _openings(self, ids: list[int]) -> list[int]:
        begins, count = self._begins, len(self._begins)
        starts = [place for place, token in enumerate(ids) if token == begins[0]] if begins else []
        return [place for place in starts if ids[place : place + count] == begins]


def _pattern(ids: Sequence[int], marks: Collection[int], *, last: bool = False) -> list[int]:
    """Return the ids by which an opening is found: from its first mark to its last, and what must follow that."""
    places = [place for place, token in enumerate(ids) if token in marks]
    if not places:
        return []
    if last:
        return [ids[places[-1]]]
    # The name of the role; but the opening's last token may become one with the first of the reply.
    end = places[-1] + (2 if len(ids) > places[-1] + 2 else 1)
    return list(ids[places[0] : end])


def shared_beginning(one: Sequence[int], other: Sequence[int], marks: Collection[int]) -> list[int]:
    """Return the ids that two prompts have in common from their beginning on, up to a mark of a turn."""
    same: list[int] = []
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            break
        same.append(mine)
    while same and same.pop() not in marks:
        pass
    return same
