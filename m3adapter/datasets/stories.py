"""Conversations of a data set, read when they are asked for, as samples."""

from __future__ import annotations

import random
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..conversation.conversation import Conversation, ConversationError, Slot
from ..conversation.references import Reference, ReferencePolicy
from ..conversation.segments import Picture
from .captions import is_blank
from .files import within
from .mining import Pair, by_name, by_neighbourhood, named_in, ordinary_words
from .parts import part_of
from .pictures import Pictures
from .reader import Place, Reader, Story, up_to
from .report import Report
from .sample import DatasetError, Sample

HISTORY = 64  # turns of a long conversation that a sample holds
REMEMBERED = 50_000  # turns of conversations that are kept in memory once they were read


class Stories:
    """A data set of conversations: see `sample.Dataset`.

    Args:
        reader: Reads them.
        split: "train", "validation", "test", or "" for all.
        held_out: The part of the conversations that is for validation, if the data set has no such part of its own.
        check: Whether every picture is decoded once now; otherwise only its header is read.
        history: The most turns before a picture that its sample holds.
        policy: Chooses references.
        on_progress: Called with the numbers of conversations that were read, and of all.
        unread: Files that could be learned from in another layout, which the report names.

    Raises:
        DatasetError: It has no samples, or no such part.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        split: str = "",
        held_out: float = 0.05,
        check: bool = True,
        history: int = HISTORY,
        policy: ReferencePolicy | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        unread: Sequence[Path] = (),
    ) -> None:
        self.reader, self.history, self.policy = reader, history, policy or ReferencePolicy()
        self._report = Report(path=reader.root.name, kind=reader.kind, split=split)
        self._pictures = Pictures(reader.root, self._report, check=check)
        self._silent = Report()
        self._known: OrderedDict[int, Story] = OrderedDict()
        self._turns = 0  # of those conversations
        self._places: list[Place] = []
        self._index = array("q")  # of each sample: its conversation, turn, segment, width and height
        self._ordinary: set[str] = set()  # words of captions in lower case, which are no names
        self._groups: dict[str, list[int]] = {}
        self._of_group: dict[int, tuple[str, ...]] = {}
        self._units: dict[int, str] = {}  # of those in groups, the picture
        for path in unread:
            self._report.leave_out(f"the layout {reader.kind} does not read it", within(path, reader.root))
        places = list(reader.places(self._report))
        chosen, part = part_of(reader, places, split, held_out, self._gives)
        for number, place in enumerate(chosen):
            self._add(place)
            if on_progress is not None:
                on_progress(number + 1, len(chosen))
        if part is not None:
            self._index = (
                self._index[part(len(self)) * 5 :] if split == "validation" else self._index[: part(len(self)) * 5]
            )
        self._report.samples, self._report.conversations = len(self), len(self._places)
        if not len(self):
            raise DatasetError(_empty(self._report, held_out))

    @property
    def report(self) -> Report:
        """What was read, and what was left out and why."""
        return self._report

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._index) // 5

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"the data set has {len(self)} samples, not {index + 1}")
        number, turn, segment, _, _ = self._index[index * 5 : index * 5 + 5]
        story = self._story(number)
        slot = Slot(turn, segment)
        picture = self._picture(index)
        references = self._references(index, story, slot, picture.caption)
        names = {name for reference in references for name in self.names(reference.picture.caption)}
        known = tuple(name for name in self.names(picture.caption) if name in names)
        place = sum(isinstance(other, Picture) for other in story.turns[turn].segments[:segment])
        told = (story.told or {}).get((turn, place))
        if told is not None and not references:
            told = ""  # since there is nothing that could tell it
        meant = (story.meant or {}).get((turn, place), "")
        meant = meant if meant != picture.caption else ""
        conversation, slot = up_to(story, slot, self.history)
        source = self.reader.where(self._places[number])
        return Sample(conversation, slot, picture, references, told, known, source, meant)

    def exchanged(self, index: int, rng: random.Random) -> Sample:
        """Return the sample at `index` with references of another conversation, which tell nothing."""
        sample = self[index]
        number, names = self._index[index * 5], set(self.names(sample.caption))
        groups = set(self._of_group.get(number, ()))
        for _ in range(16):
            other = rng.randrange(len(self))
            another = self._index[other * 5]
            if another == number or groups & set(self._of_group.get(another, ())):
                continue
            found = self[other]
            if names & set(self.names(found.caption)):
                continue
            own = {sample.picture.digest, *(reference.picture.digest for reference in sample.references)}
            references = tuple(
                reference
                for reference in found.references or (Reference(found.picture, 1.0),)
                if not names & set(self.names(reference.picture.caption)) and reference.picture.digest not in own
            )
            if references:
                return replace(sample, references=references, told="", known=())
        return replace(sample, references=(), told="", known=())

    def key(self, index: int) -> str:
        """Return the digest of the sample at `index`."""
        return self[index].key

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of the picture at `index`."""
        _, _, _, width, height = self._index[index * 5 : index * 5 + 5]
        return width, height

    def caption(self, index: int) -> str:
        """Return the caption of the sample at `index`."""
        return self._picture(index).caption

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs of pictures that show the same: by the names in their captions, and neighbours without."""
        owners = [self.conversation_of(index) for index in range(len(self))]
        names = [self.names(self.caption(index)) for index in range(len(self))]
        told = set()
        for pair in by_name(names, owners):
            told.add(pair.other)
            yield pair
        yield from (pair for pair in by_neighbourhood(owners) if pair.other not in told)

    def names(self, caption: str) -> tuple[str, ...]:
        """Return the names of characters in a caption."""
        return named_in(caption, self._ordinary)

    def conversation_of(self, index: int) -> int:
        """Return the number of the conversation in which the sample at `index` stands."""
        return self._index[index * 5]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read, so that other processes get the index only."""
        return {**vars(self), "_known": OrderedDict(), "_turns": 0}

    def _add(self, place: Place) -> None:
        """Read a conversation for the first time, and note its samples."""
        where = self.reader.where(place)
        try:
            story = self.reader.read(place, self._pictures, self._report)
            if story is None:
                return
            Conversation(story.turns, story.cast)
        except ConversationError as error:
            self._report.leave_out("it breaks the rules of a conversation", where, str(error))
            return
        number, count, open_slots = len(self._places), 0, 0
        for turn, segment, picture in _painted(story):
            if picture.is_open:
                open_slots += 1
            elif is_blank(picture.caption):
                self._report.leave_out("the picture has no caption", where)
                open_slots += 1
            else:
                self._index.extend((number, turn, segment, *picture.size))
                self._ordinary |= ordinary_words([picture.caption])
                count += 1
        if not count:
            if not open_slots:
                self._report.leave_out("it has no picture of the assistant's to learn from", where)
            return
        self._places.append(place)
        if story.groups:
            self._of_group[number] = story.groups
            self._units[number] = self.reader.unit(place)
            for group in story.groups:
                self._groups.setdefault(group, []).extend(range(len(self) - count, len(self)))
        self._remember(number, story)

    def _gives(self, place: Place) -> bool:
        """Return whether a conversation has a sample; it is read for this, and neither kept nor reported."""
        report = Report()
        try:
            story = self.reader.read(place, Pictures(self.reader.root, report, check=self._pictures.check), report)
            if story is None:
                return False
            Conversation(story.turns, story.cast)
        except ConversationError:
            return False
        return any(not picture.is_open and not is_blank(picture.caption) for _, _, picture in _painted(story))

    def _story(self, number: int) -> Story:
        """Return a conversation that was read before."""
        if number in self._known:
            self._known.move_to_end(number)
            return self._known[number]
        place = self._places[number]
        try:
            pictures = self._pictures.silent(self._silent)
            story = self.reader.read(place, pictures, self._silent)
        except (ConversationError, OSError) as error:
            raise DatasetError(f"{self.reader.where(place)} was changed after it was opened: {error}") from error
        self._silent.left_out.clear()
        if story is None:
            raise DatasetError(f"{self.reader.where(place)} was changed after it was opened: start again.")
        self._remember(number, story)
        return story

    def _remember(self, number: int, story: Story) -> None:
        self._known[number] = story
        self._turns += len(story.turns)
        while len(self._known) > 1 and self._turns > REMEMBERED:
            _, forgotten = self._known.popitem(last=False)
            self._turns -= len(forgotten.turns)

    def _references(self, index: int, story: Story, slot: Slot, caption: str) -> tuple[Reference, ...]:
        """Return what `Conversation.weighted_references` would, or else pictures of the same group."""
        earlier = [
            segment
            for turn, told in enumerate(story.turns[: slot.turn + 1])
            for place, segment in enumerate(told.segments)
            if isinstance(segment, Picture) and not segment.is_open and (turn, place) < tuple(slot)
        ]
        chosen = self.policy.choose(earlier, story.cast, caption) or self._of_same_group(index, story)
        weights = [(picture, self.policy.weight(place)) for place, picture in enumerate(chosen)]
        return tuple(Reference(picture, weight) for picture, weight in weights if weight > 0)

    def _of_same_group(self, index: int, story: Story) -> tuple[Picture, ...]:
        """Return pictures of a group to which the sample belongs: its first one, and the one before this one."""
        group = next((self._groups[name] for name in story.groups if len(self._groups.get(name, ())) > 1), ())
        own = self._units.get(self._index[index * 5])
        others: dict[str, int] = {}  # a picture with several captions is there once, and no reference of itself
        before: list[int] = []
        for other in group:
            unit = self._units[self._index[other * 5]]
            if unit != own and unit not in others:
                others[unit] = other
                before += [other] * (other < index)
        rest = list(others.values())
        chosen = dict.fromkeys([before[0], before[-1]] if before else [*rest[-1:], *rest[:1]])
        return tuple(map(self._picture, chosen))[: self.policy.count]

    def _picture(self, index: int) -> Picture:
        number, turn, segment, _, _ = self._index[index * 5 : index * 5 + 5]
        try:
            picture = self._story(number).turns[turn].segments[segment]
        except IndexError:
            picture = None
        if not isinstance(picture, Picture) or picture.is_open:
            raise DatasetError(
                f"{self.reader.where(self._places[number])} was changed after it was opened: start again."
            )
        return picture


def _painted(story: Story) -> Iterator[tuple[int, int, Picture]]:
    """Yield the assistant's pictures, each after the numbers of its turn and segment."""
    for turn, told in enumerate(story.turns):
        if told.role == "assistant":
            for segment, picture in enumerate(told.segments):
                if isinstance(picture, Picture):
                    yield turn, segment, picture


def _empty(report: Report, held_out: float) -> str:
    part = f" for {report.split}" if report.split else ""
    reasons = sorted(report.left_out.items(), key=lambda item: -item[1].count)[:3]
    told = "; ".join(f"{found.count} left out, because {reason}: {found.places[0]}" for reason, found in reasons)
    cure = told or "give a folder with captioned pictures or conversations"
    if report.split == "validation":
        more = "add another conversation or picture" if held_out else "choose a held_out above 0"
        cure = f'{told or more}; or set data.validation = "" to train without'
    return f"The data set {report.path} has no samples{part}: {cure}."
