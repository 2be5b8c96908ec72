"""Tells a whole conversation: an opening or a plot, changes and questions, and what cannot be drawn in between."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...conversation.outline import CONTINUE
from ...storybook.wording.choose import allowed, capitalised
from ...values import shown
from ..words import article
from ..world import MOST_CHARACTERS, PLACES, SPECIES, Scene
from . import lexicon
from .arcs import Plotter
from .asking import asked
from .edits import Editor
from .openings import opening
from .plotting import NUMBERS, Beat, Plot
from .rewording import reworded
from .stage import Stage, other
from .tale import SPLITS, Exchange, Panel, Split, Story
from .talk import Talk
from .telling import ACKS, Teller
from .typing import typed

GO_ON = (
    "And then?", "go on", "Continue", "what happens then", "Tell me more", "more", "next", "and now?",
    "Please go on.", "Go on with the story", "keep going", "What comes next?", "one more picture",
    "How does it go on?", "then what", "And after that?", "don't stop", "another picture",
    "I want to know how it ends", "what does {it} do now?", "and what happened to {it}", "what next for {it}?", "...",
)  # fmt: skip
SHOWN = (
    "{name} is mine. Draw {them} {where}.", "this one {where}", "Draw this {where}, please.",
    "Look! What does it do {where}?", "Put my friend {where}.", "Here is a picture. Now {where}.",
    "A story about this one {where}", "the same one {where}", "and {where}?", "Tell me about this one.",
    "What is it doing?", "this is {name}", "Can you draw {name} {where}?", "",
)  # fmt: skip
NEW_BEATS = (
    "The day goes on.", "There is more to see.", "But that is not all.", "What a day!", "And the story goes on.",
    "On to something new!", "Who would have thought it?",
)  # fmt: skip
TWICE = (
    "{n} pictures: {a}, then {b}", "{n} pictures, first {a}, then {b}", "first {a} and then {b}, {n} pictures",
    "{a}, then {b}. {n} pictures please", "draw {n} pictures: {a}; {b}",
)  # fmt: skip
MORE = (
    "add {a}", "and {a}", "with {a}, too", "now make it {n}", "{n} of them", "they meet {a}", "{a} comes along",
    "give them a friend, {a}",
)  # fmt: skip
FULL = (
    "I cannot fit anybody else in: three is the most. Shall one of the animals go home?",
    "There are three already, and that is my limit. Which of the animals shall go home?",
    "My pictures have room for three at most. Who shall go, and who shall stay?",
    "I can only draw three at a time. Shall one of the animals go home?",
    "Three is the limit in one picture. I can put somebody else in the next one: which animal?",
)  # fmt: skip
_TRIES = 400


def story(rng: random.Random, split: Split, *, exchanges: int | None = None) -> Story:
    """Tell a story that depends only on the state of `rng`.

    In "train", no picture shows a composition (species, place, action) of another split,
        and no wording of another split
    is used. In "validation" and "test", the composition of the first picture and all wordings belong to the split.

    Args:
        rng: The random numbers.
        split: "train", "validation" or "test".
        exchanges: Their number; a random one by default, mostly one to five.

    Raises:
        ValueError: There is no such split.
    """
    return Story(tuple(told(rng, split, exchanges=exchanges)), split)


def told(rng: random.Random, split: Split, *, exchanges: int | None = None) -> Iterator[Exchange]:
    """Yield the exchanges of a story as `story` tells it, each when it is asked for."""
    if split not in SPLITS:
        raise ValueError(f"the split is {shown(split)}, but must be one of {', '.join(SPLITS)}")
    count = exchanges or rng.choices((1, 2, 3, 4, 5, 6, 8), (30, 28, 18, 12, 6, 4, 2))[0]
    yield from _Conversation(rng, split).tell(count)


class _Conversation:
    """A conversation so far: its exchanges, what the last picture showed, and what is still to be told."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split
        self.teller, self.talk = Teller(rng, split), Talk(rng, split)
        self.editor, self.plotter = Editor(rng, split), Plotter(rng, split)
        self.exchanges: list[Exchange] = []
        self.stage: Stage | None = None
        self.known: set[int] = set()
        self.coming: list[Beat] = []

    def tell(self, count: int) -> Iterator[Exchange]:
        """Add exchanges until there are `count`, and yield each."""
        while len(self.exchanges) < count:
            self.exchanges.append(self._exchange())
            yield self.exchanges[-1]

    def _exchange(self) -> Exchange:
        rng = self.rng
        if rng.random() < (0.16 if self.stage is None else 0.1):
            return self.talk.any(begun=self.stage is not None)
        if self.stage is None or rng.random() < 0.07:
            return self._begin()
        if self.coming and rng.random() < 0.85:
            return self._continue()
        return self._continue() if rng.random() < 0.22 else self._edit(self.stage)

    # Beginnings

    def _begin(self) -> Exchange:
        """Begin with new characters; in a running conversation they replace the old ones."""
        self.known, self.coming = set(), []
        self.teller.forget()
        draw = self.rng.random()
        if draw < 0.4:
            return self._plotted()
        if draw < 0.47:
            return self._shown()
        if draw < 0.52:
            return self._two()
        for _ in range(_TRIES):
            stage = opening(self.rng, self.split)
            if stage.fits(self.split):
                break
        message = asked(self.rng, stage, self.split, place=self.rng.random() < 0.75)
        count = self.rng.random()
        if count < 0.06:
            message = self.rng.choice(
                ("One picture: {x}", "{x}, just one picture", "1 picture. {x}", "a single picture of this: {x}")
            ).format(x=message.rstrip("."))
        return Exchange(self._typed(message, stage), (self._panel(stage),))

    def _plotted(self) -> Exchange:
        for _ in range(_TRIES):
            plot = self.plotter.plot()
            if self._all_fit([beat.stage for beat in plot.beats]):
                break
        return self._told(plot)

    def _told(self, plot: Plot) -> Exchange:
        message = self._typed(plot.premise, *(beat.stage for beat in plot.beats))
        now = plot.beats if plot.count_said else plot.beats[:1]
        self.coming = list(plot.beats[len(now) :])
        return Exchange(message, tuple(self._beat(beat) for beat in now))

    def _shown(self) -> Exchange:
        """Answer a user's picture of somebody."""
        rng = self.rng
        for _ in range(_TRIES):
            stage = opening(rng, self.split)
            hero = replace(stage.hero, said=frozenset(), name="").now(action="stands", mood="calm", accessory="none")
            stage = Stage((hero,), stage.place)
            if stage.fits(self.split):
                break
        name, she = lexicon.name(rng, self.split)
        message = rng.choice(allowed(SHOWN, self.split))
        where = rng.choice(allowed(_phrases(stage.place), self.split))
        if "{name}" in message:
            stage = stage.with_hero(replace(hero, name=name, she=she))
        message = message.format(name=name, where=where, them="her" if she else "him")
        shown_as = Scene((replace(hero.character, action="stands"),), other(rng, PLACES, stage.place))
        return Exchange(self._typed(message, stage), (self._panel(stage),), shown_as)

    def _two(self) -> Exchange:
        """Draw two pictures that one message describes: "2 pictures: a fox in the forest, then the fox at the lake"."""
        rng = self.rng
        for _ in range(_TRIES):
            first = opening(rng, self.split)
            first = replace(first, actors=(first.hero,), spoken=frozenset())
            edit = self.editor.message(first, 1)
            second = edit.stage if edit else first
            if (
                second != first
                and len(second.actors) == 1
                and second.hero.number == first.hero.number
                and self._all_fit([first, second])
            ):
                break
        again = re.sub(r"^an? ", "the ", second.caption())
        message = rng.choice(allowed(TWICE, self.split)).format(n=rng.choice(NUMBERS[2]), a=first.caption(), b=again)
        return Exchange(self._typed(message, first), (self._panel(first), self._panel(second)))

    # What follows

    def _continue(self) -> Exchange:
        """Go on with the plot, or with a small new event."""
        rng = self.rng
        assert self.stage is not None
        one = len(self.stage.actors) == 1
        it = (self.stage.hero.name or rng.choice(("it", "he", "she"))) if one else "them"
        fitting = GO_ON if one else tuple(item for item in GO_ON if "{it}" not in item)
        message = (
            CONTINUE
            if rng.random() < 0.5
            else self._typed(rng.choice(allowed(fitting, self.split)).format(it=it), self.stage)
        )
        if self.coming:
            return Exchange(message, (self._beat(self.coming.pop(0)),))
        stage = self.stage
        for _ in range(_TRIES):
            stage = replace(self.stage.later(), place=other(rng, PLACES, self.stage.place))
            stage = stage.all_now(
                action=rng.choice(("stands", "runs", "jumps", "sleeps", "hides")),
                mood=rng.choice(("calm", "calm", "happy")),
            )
            if self._follows(stage):
                break
        return Exchange(message, (self._panel(stage, before=self.teller.pick(NEW_BEATS)),))

    def _edit(self, stage: Stage) -> Exchange:
        before = stage.later()
        if len(stage.actors) == MOST_CHARACTERS and self.rng.random() < 0.2:
            message = self.teller.pick(MORE).format(
                a=article(self.rng.choice(SPECIES)), n=self.rng.choice(NUMBERS[self.rng.randrange(4, 9)])
            )
            return Exchange(self._typed(message, stage), answer=self.teller.pick(FULL))
        for _ in range(_TRIES):
            edit = self.editor.message(before, self.rng.choices((1, 2, 3), (68, 25, 7))[0])
            if edit and self._follows(edit.stage):
                ack = self.teller.pick(ACKS) if self.rng.random() < 0.25 else ""
                self.coming = []
                return Exchange(self._typed(edit.clause, edit.stage), (self._panel(edit.stage, before=ack),))
        return self._continue()

    # Parts

    def _beat(self, beat: Beat) -> Panel:
        return self._panel(beat.stage.normal(), before=beat.before, after=beat.after)

    def _panel(self, stage: Stage, *, before: str = "", after: str = "") -> Panel:
        text = self.teller.paragraph(stage, self.known, before=capitalised(before), after=after)
        self.stage = stage.later()
        self.known |= {actor.number for actor in stage.actors}
        return stage.panel(text)

    def _follows(self, stage: Stage) -> bool:
        """Return whether a later picture may show a stage: only training must never see other compositions."""
        return self.split != "train" or stage.fits("train")

    def _all_fit(self, stages: Sequence[Stage]) -> bool:
        return stages[0].fits(self.split) and all(self._follows(stage) for stage in stages)

    def _typed(self, message: str, *stages: Stage) -> str:
        message = reworded(self.rng, message, self.split)
        return typed(
            self.rng,
            message,
            names=tuple(dict.fromkeys(actor.name for stage in stages for actor in stage.actors if actor.name)),
        )


def _phrases(place: str) -> tuple[str, ...]:
    from ..vocabulary import PLACE_PHRASES

    return PLACE_PHRASES[place]
