"""Chooses what a prompt keeps of a conversation that is longer than the context.

Overlong messages lose their middles first. Then whole exchanges are dropped, oldest first, except for those a story
depends on: the system text, the premise (with its reply, since turns alternate) and the newest turns. Several are
dropped at a time, so that successive prompts mostly begin alike. If the rest is still too long, the premise loses its
pictures, and then everything is shortened.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..conversation.outline import CONTINUE
from ..conversation.segments import Picture, Segment, Text, Turn

# What stands between the beginning and the end of a shortened text.
GAP = " … "
# The share of a shortened text that is its beginning: a premise comes first, a request often last.
_HEAD = 0.6
# How much of the room an ordinary message may take, tried in order; the system text and the premise may take twice as
# much, the newest turns three times. Messages within the last share stay whole as long as others can be dropped.
_SHARES = (1 / 2, 7 / 16, 3 / 8, 5 / 16, 1 / 4)
_CHIEF, _NEWEST = 2, 3
# The share of their room that turns still take after exchanges were dropped: the next prompts begin as this one does
# until the rest is taken too.
_FILL = 0.5
_STEP = 0.9  # from one level of shortening to the next
_LEAST = 6  # tokens of a message that is shortened
_LONGEST_WORD = 24  # characters; a text is cut between words if they are shorter


@dataclass(frozen=True)
class Kept:
    """The part of a conversation that a prompt keeps.

    Attributes:
        turns: The kept turns, shortened if they were too long.
        places: Their indices in the whole conversation.
        shortened: How many of them are shortened.
        dropped: How many turns are left out.
    """

    turns: tuple[Turn, ...]
    places: tuple[int, ...]
    shortened: int = 0
    dropped: int = 0

    @property
    def note(self) -> str:
        """A sentence that says what was left out and shortened; "" if everything stays."""
        cuts = [f"{_turns(self.dropped, 'earlier ')} left out"] if self.dropped else []
        cuts += [f"{_turns(self.shortened)} shortened"] if self.shortened else []
        return f"The conversation is longer than the language model's context: {' and '.join(cuts)}." if cuts else ""


def _turns(count: int, which: str = "") -> str:
    return f"{count} {which}{'turn is' if count == 1 else 'turns are'}"


class Fitter:
    """Fits the turns of a conversation into a number of tokens.

    Args:
        turns: The turns.
        last: How many turns at the end must stay, since the prompt is about them.
        sizes: For each turn, the numbers of tokens of its segments.
        mark: The tokens that a turn takes beside its segments.
        count: Counts the tokens of a text.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        last: int,
        sizes: Sequence[Sequence[int]],
        mark: int,
        count: Callable[[str], int],
    ) -> None:
        self.turns, self.sizes, self.mark, self.count = tuple(turns), sizes, mark, count
        self.whole = self.turns
        self.head = 1 if self.turns and self.turns[0].role == "system" else 0
        self.newest = range(len(turns) - last, len(turns))
        self._measure()
        self.premises = self._premises().get(self.newest.start, ())
        weights = {**dict.fromkeys((*range(self.head), *self.premises), _CHIEF), **dict.fromkeys(self.newest, _NEWEST)}
        self.weights = [weights.get(place, 1) for place in range(len(self.turns))]

    def _measure(self) -> None:
        """Count each turn's tokens of users' pictures, which cannot be shortened, and those of its words."""
        self.pictures = [
            sum(
                size
                for segment, size in zip(turn.segments, sizes, strict=True)
                if turn.role != "assistant" and isinstance(segment, Picture)
            )
            for turn, sizes in zip(self.turns, self.sizes, strict=True)
        ]
        self.words = [sum(sizes) - pictures for sizes, pictures in zip(self.sizes, self.pictures, strict=True)]

    def _premises(self) -> dict[int, tuple[int, ...]]:
        """Return, for each request of the user's, the earlier turns that say what its story is about.

        They are the user's first turn and, if the request is CONTINUE, the last that is not.
        """
        first: int | None = None
        last: int | None = None
        found: dict[int, tuple[int, ...]] = {}
        for place in range(self.head, self.newest.start + 1):
            turn = self.turns[place]
            if turn.role != "user":
                continue
            asks = turn.text.strip() != CONTINUE
            premises = (first, None if asks else last)
            found[place] = tuple(dict.fromkeys(premise for premise in premises if premise is not None))
            first = place if first is None else first
            last = place if asks else last
        return found

    def fit(self, room: int) -> Kept | None:
        """Return the turns in at most about `room` tokens; None if there is too little room for any message."""
        everything = range(len(self.turns))
        cap = _SHARES[-1] * room
        if self._cost(everything, cap) <= room:
            share = next(share for share in _SHARES if self._cost(everything, share * room) <= room)
            return self._kept(everything, share * room)
        bare = {*range(self.head), *self.newest}
        premises = bare | {place + more for place in self.premises for more in (0, 1)}
        needed = premises | {*range(max(self.newest.start - 2, self.head), self.newest.start)}
        plain = self._unillustrated()
        for fitter in (self, plain):
            if fitter._cost(needed, cap) <= room:
                return fitter._kept(sorted({*needed, *fitter._recent(cap, room)}), cap)
        # Then all of that shorter; without the exchange before; and at last without the premise, since the request
        # itself must be understood.
        for fitter, places, least in ((plain, needed, 16), (plain, premises, 2), (self, bare, 2)):
            smaller = cap
            while smaller >= least:
                if fitter._cost(places, smaller) <= room:
                    return fitter._kept(sorted(places), smaller)
                smaller *= _STEP
        return None

    def _unillustrated(self) -> Fitter:
        """Return the same without the premises' pictures, unless a premise is nothing else."""
        other = copy.copy(self)
        turns, sizes = list(self.turns), list(self.sizes)
        for place in self.premises:
            if self.turns[place].text.strip():
                words = [index for index, part in enumerate(self.turns[place].segments) if isinstance(part, Text)]
                turns[place] = replace(turns[place], segments=tuple(turns[place].segments[index] for index in words))
                sizes[place] = [sizes[place][index] for index in words]
        other.turns, other.sizes, other.whole = tuple(turns), sizes, self.turns
        other._measure()
        return other

    def _recent(self, cap: float, room: float) -> range:
        """Return the newest turns that stay beside the system text and the premises, up to the last request.

        Each request is looked at as if it were the newest, from the first one on: exchanges are dropped only when it no
        longer fits, and then many. So no turn is dropped once and comes back later, and prompts begin alike.
        """
        usual = [self._cost_of(place, cap) for place in range(len(self.turns))]
        head = sum(self._cost_of(place, _CHIEF * cap) for place in range(self.head))
        first, used = self.head, 0.0  # of the exchanges from `first` on, up to the request
        for place, premises in self._premises().items():
            if place > self.head:
                used += usual[place - 2] + usual[place - 1]
            rest = head + self._cost_of(place, _NEWEST * cap)
            rest += sum(self._cost_of(premise, _CHIEF * cap) for premise in premises)
            gone = sum(usual[premise + 1] for premise in premises if premise < first)
            kept = sum(usual[premise] for premise in premises if premise >= first)
            if used + rest + gone - kept <= room:
                continue
            while first < place - 2 and used + rest + gone - kept > room * _FILL:
                used -= usual[first] + usual[first + 1]
                if first in premises:
                    gone, kept = gone + usual[first + 1], kept - usual[first]
                first += 2
        return range(first, self.newest.start)

    def _cap(self, place: int, cap: float) -> float:
        return self.weights[place] * cap

    def _cost(self, places: Iterable[int], cap: float) -> float:
        return sum(self._cost_of(place, self._cap(place, cap)) for place in places)

    def _cost_of(self, place: int, cap: float) -> float:
        pictures, words = self.pictures[place], self.words[place]
        return self.mark + pictures + min(words, max(cap - pictures, _LEAST))

    def _kept(self, places: Sequence[int], cap: float) -> Kept:
        turns = [self._within(place, self._cap(place, cap)) for place in places]
        shortened = sum(turn is not self.whole[place] for place, turn in zip(places, turns, strict=True))
        return Kept(tuple(turns), tuple(places), shortened, len(self.turns) - len(places))

    def _within(self, place: int, cap: float) -> Turn:
        turn, sizes = self.turns[place], self.sizes[place]
        if sum(sizes) <= cap:
            return turn
        if turn.role != "assistant":
            pictures = self.pictures[place]
            share = max(cap - pictures, _LEAST) / max(sum(sizes) - pictures, 1)
            if share >= 1:
                return turn
            segments = [
                Text(self.shorten(segment.text, size * share)) if isinstance(segment, Text) else segment
                for segment, size in zip(turn.segments, sizes, strict=True)
            ]
            return replace(turn, segments=tuple(segments))
        if place not in self.newest:
            return replace(turn, segments=tuple(self._ends(turn.segments, sizes, cap)))
        # The prompt is about the picture at its end.
        *before, picture = turn.segments
        assert isinstance(picture, Picture)
        if sizes[-1] > cap / 2:
            picture = replace(picture, caption=self.shorten(picture.caption, cap / 2))
        room = cap - min(sizes[-1], cap / 2)
        rest = before if sum(sizes[:-1]) <= room else self._ends(before, sizes[:-1], room)
        return replace(turn, segments=(*rest, picture))

    def _ends(self, segments: Sequence[Segment], sizes: Sequence[int], cap: float) -> list[Segment]:
        """Return the beginning and the end of a reply; a text at either edge of the gap loses a part."""
        ahead, behind = cap * _HEAD, cap * (1 - _HEAD)
        start, end = 0, len(segments)
        while start < end and sizes[start] <= ahead:
            ahead -= sizes[start]
            start += 1
        while end > start and sizes[end - 1] <= behind:
            behind -= sizes[end - 1]
            end -= 1
        first, last = segments[start], segments[end - 1]
        if end - start == 1 and isinstance(first, Text):
            middle = self.shorten(first.text, ahead + behind)
        else:
            begun = self.shorten(first.text, ahead, head=1.0) if isinstance(first, Text) else GAP
            ended = self.shorten(last.text, behind, head=0.0) if isinstance(last, Text) and end - start > 1 else ""
            middle = begun + ended.removeprefix(GAP)
        return [*segments[:start], Text(middle), *segments[end:]]

    def shorten(self, text: str, tokens: float, head: float = _HEAD) -> str:
        """Shorten a text to `tokens` tokens, its beginning and its end; `head` is the share of its beginning."""
        size, length, short = self.count(text), len(text), text
        while size > tokens:
            # A little below the estimate, so that few rounds are needed and each one shortens.
            length = int(min(length * min(tokens / size, 0.98) * 0.97, length - 1))
            if length < 2:
                return GAP
            begin = round(length * head)
            short = _begun(text, begin) + GAP + _ended(text, length - begin)
            size = self.count(short)
        return short


def _begun(text: str, length: int) -> str:
    """Return the first characters of a text, up to the end of a word if one is near."""
    word = text.rfind(" ", max(length - min(_LONGEST_WORD, length // 4), 1), length)
    return text[: word if word > 0 else length]


def _ended(text: str, length: int) -> str:
    """Return the last characters of a text, from the beginning of a word if one is near."""
    start = len(text) - length
    word = text.find(" ", start, start + min(_LONGEST_WORD, length // 4))
    return text[(word + 1 if word > 0 else start) :]
