"""Invents stories: what the user asks, what happens, and how it is told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from ..world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS, Character, Scene, caption
from . import asking, people, requests
from .choose import Split, allowed, pick
from .noise import noisy
from .openings import QUESTS
from .paragraphs import Telling, paragraph
from .plot import Stage, moved, other, with_looks
from .tale import Exchange, Panel, Task

WISHED = 3  # factor by which users ask for several pictures more often in training


class Teller:
    """Tells one story; keeps track of the stage, of what has been seen, and of the hero's name."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        """Begin without a stage."""
        self.rng, self.split = rng, split
        self.seen: set[str] = set()
        self.props: set[str] = set()
        self.name = self.adjective = ""
        self.quest: int | None = None

    def tell(self, length: int) -> Iterator[Exchange]:
        """Yield the exchanges of a story of `length`; each is invented when it is asked for."""
        yield self._first()
        for _ in range(1, length):
            yield self._next()

    # The first exchange

    def _first(self) -> Exchange:
        kind = self.rng.choices(("premise", "draw", "who", "picture", "any"), (66, 8, 4, 13, 9))[0]
        premise = self._premise(kind)
        self.stage = self._first_stage(premise, kind)
        rng, split, stage = self.rng, self.split, self.stage
        if kind == "picture":
            return self._first_with_picture(premise)
        if kind == "who":
            message, event = self._ask(requests.ASK_WHO, place=stage.place), "answer"
        elif kind == "draw":
            message, event = asking.drawing(rng, split, self._said(premise)), "draw"
        elif kind == "any":
            message, event = asking.nothing_special(rng, split), "open"
        else:
            message, event = asking.opening(rng, split, self._said(premise)), "open"
        self.stage = stage = replace(stage, event=event)  # type: ignore[arg-type]
        first = self._panel(thing=premise.thing, stranger=bool(premise.stranger))
        return self._answered(message, first, more=kind != "draw", keep=kind == "any")

    def _premise(self, kind: str) -> asking.Premise:
        """Choose what the user will name; `_first_stage` fills in species, place and prop."""
        rng, split = self.rng, self.split
        if kind == "any":
            return asking.Premise()
        if kind == "who":
            return asking.Premise(place="?")
        full = asking.Premise(
            species="?",
            place="?" if rng.random() < 0.55 else "",
            prop="?" if rng.random() < 0.55 else "",
            light=rng.choices(("", "sunset", "night", "day"), (74, 10, 13, 3))[0],
            weather=rng.choices(("", "rain", "snow", "clear"), (78, 10, 10, 2))[0],
        )
        if kind == "picture":
            return replace(full, light="", weather="")
        if kind == "draw":
            return replace(
                full, look=rng.choice(LOOKS) if rng.random() < 0.08 else "", friend="?" if rng.random() < 0.12 else ""
            )
        draw = rng.random()
        if draw < 0.07:  # only a place, or only a prop
            return replace(
                full,
                species="",
                place="?" if draw < 0.04 else "",
                prop="" if draw < 0.04 else "?",
                light="",
                weather="",
            )
        if draw < 0.13:
            full = replace(full, species="", stranger=pick(rng, people.STRANGERS, split))
        else:
            self.name = asking.random_name(rng) if rng.random() < 0.2 else ""
            self.adjective = pick(rng, people.ADJECTIVES, split) if rng.random() < 0.4 else ""
            full = replace(
                full,
                name=self.name,
                adjective=self.adjective,
                look=rng.choice(LOOKS) if rng.random() < 0.05 else "",
                friend="?" if rng.random() < 0.16 else "",
            )
        if not full.prop and rng.random() < 0.12:
            full = replace(full, thing=pick(rng, people.THINGS, split))
        elif not full.prop and rng.random() < 0.35 and not full.friend:
            self.quest = rng.randrange(len(QUESTS))
            full = replace(full, quest=self.quest)
        if not full.place and rng.random() < 0.08:
            full = replace(full, nowhere=pick(rng, people.UNKNOWN_PLACES, split))
        return full

    def _first_stage(self, premise: asking.Premise, kind: str) -> Stage:
        rng = self.rng
        asked_draw = kind == "draw"
        while True:
            hero = rng.choice(SPECIES)
            actors = (hero, other(rng, SPECIES, hero)) if premise.friend else (hero,)
            # An answer to "draw a fox" adds nothing; a story may add a prop.
            with_prop = bool(premise.prop) or (not premise.thing and not asked_draw and rng.random() < 0.45)
            free = not asked_draw and rng.random() < 0.25
            stage = Stage(
                hero=hero,
                actors=actors,
                prop=rng.choice(PROPS) if with_prop else None,
                place=rng.choice(PLACES),
                light=premise.light or (rng.choice(LIGHTS) if free else "day"),
                weather=premise.weather or (rng.choice(WEATHERS) if free else "clear"),
                looks={hero: premise.look} if premise.look else {},
                named=frozenset({hero}) if premise.look else frozenset(),
            )
            if stage.belongs_to(self.split):
                return with_looks(rng, stage)

    def _said(self, premise: asking.Premise) -> asking.Premise:
        """Return the premise with the values of the stage for everything that it names."""
        stage = self.stage
        return replace(
            premise,
            species=stage.hero if premise.species else "",
            friend=stage.actors[-1] if premise.friend else "",
            prop=(stage.prop or "") if premise.prop else "",
            place=stage.place if premise.place else "",
        )

    def _first_with_picture(self, premise: asking.Premise) -> Exchange:
        rng, split, stage = self.rng, self.split, self.stage
        hero = stage.hero
        shown = Scene((Character(hero, stage.looks[hero]),), None, rng.choice(PLACES))
        self.seen.add(hero)
        draw = rng.random()
        if draw < 0.12:
            message = asking.opening(rng, split, replace(self._said(premise), species=hero))
        elif premise.place and draw < 0.5:
            message = self._ask(requests.PICTURE_WHERE, place=stage.place)
        elif premise.prop:
            message = self._ask(requests.PICTURE_PROP, prop=stage.prop or "")
        elif draw < 0.95:
            message = self._ask(requests.PICTURE)
        else:
            message = ""
        event = "open" if draw < 0.12 else "welcome"
        self.stage = stage = replace(stage, event=event)  # type: ignore[arg-type]
        if draw >= 0.9 and message and rng.random() < 0.5:  # a picture, and at once another colour
            self.stage = moved(rng, split, stage, "change") or stage
            message = self._ask(requests.CHANGE, look=self.stage.looks[hero], species=hero, target=0, neutral=True)
        return replace(self._answered(message, self._panel(), more=bool(message)), user_scene=shown)

    # What follows

    def _next(self) -> Exchange:
        rng = self.rng
        if rng.random() < 0.45:
            return self._continued()
        kinds = {
            "go": 9, "sky": 8, "meet": 7, "part": 8, "find": 8, "drop": 3, "change": 12, "vary": 8, "return": 30,
            "elsewhere": 6, "draw": 5, "answer": 3, "friend_picture": 3, "stay": 2,
        }  # fmt: skip
        for _ in range(8):
            made = self._asked(rng.choices(list(kinds), list(kinds.values()))[0])
            if made is not None:
                return made
        return self._continued()

    def _continued(self) -> Exchange:
        rng, split = self.rng, self.split
        self.stage = self._moved(None)
        count = self._count(93, 3, 3, 1)
        if count > 1:
            frames = asking.frames(rng, split, requests.CONTINUE_IN, requests.CONTINUE_LEADS)
            message = self._ask(frames, in_pictures=asking.in_pictures(rng, split, count))
            return Exchange(noisy(rng, message), self._panels(self._panel(), count))
        message = requests.NEXT if rng.random() < 0.5 else noisy(rng, self._ask(requests.CONTINUE))
        return Exchange(message, (self._panel(),))

    def _asked(self, kind: str) -> Exchange | None:
        """Return an exchange in which the user asks for a move, or None if it makes no sense now."""
        rng, split, before = self.rng, self.split, self.stage
        if kind == "stay":
            self.stage = self._moved("stay")
            return Exchange(noisy(rng, asking.nothing_special(rng, split)), (self._panel(),))
        vary = rng.choice(("vary_sky", "vary_place", "vary_prop"))
        after = moved(rng, split, before, {"vary": vary, "friend_picture": "meet"}.get(kind, kind))
        if after is None:
            return None
        self.stage = after
        user_scene = None
        friend = after.actors[-1]
        if kind == "go":
            message = self._ask(requests.GO, before=before, place=after.place)
        elif kind == "sky":
            message = self._ask(requests.LET[after.turned[0]], before=before)
        elif kind == "meet":
            message = self._ask(requests.JOIN, before=before, friend=friend, target=0)
        elif kind == "part":
            message = self._ask(requests.LEAVE, before=before, friend=before.actors[1])
        elif kind == "find":
            message = self._ask(requests.GIVE, before=before, prop=after.prop or "")
        elif kind == "drop":
            message = self._ask(requests.DROP, before=before, prop=before.prop or "")
        elif kind == "change":
            changed = after.actors[after.changed]
            message = self._ask(requests.CHANGE, look=after.looks[changed], species=changed, target=after.changed)
        elif kind == "vary":
            message = self._ask(requests.SAME_BUT, how=self._difference(before))
        elif kind == "return":
            message = self._ask(requests.AGAIN, the_hero=f"the {after.hero}")
        elif kind == "elsewhere":
            message = self._ask(requests.OTHER, friend=friend)
            if rng.random() < 0.3:
                message = message.rstrip(".?!") + " " + asking.where(rng, split, after.place) + message[-1]
        elif kind == "draw":
            self.stage = replace(after, prop=after.prop, light="day", weather="clear")
            said = rng.random() < 0.6
            premise = asking.Premise(species=friend, place=after.place if said else "", prop=after.prop or "")
            message = asking.drawing(rng, split, premise)
        elif kind == "answer":
            message = self._ask(requests.ASK_WHO, place=after.place)
        else:
            user_scene = Scene((Character(friend, after.looks[friend]),), None, rng.choice(PLACES))
            message = self._ask(requests.PICTURE_FRIEND)
            self.seen.add(friend)
        count = self._count(95, 3, 2)
        if count > 1 and kind not in ("draw", "answer"):
            message = asking.asking_pictures(rng, split, message, count)
        else:
            count = 1
        return Exchange(noisy(rng, message), self._panels(self._panel(), count), user_scene)

    def _difference(self, before: Stage) -> str:
        after = self.stage
        if after.place != before.place:
            return asking.where(self.rng, self.split, after.place)
        if after.prop != before.prop:
            return f"without the {before.prop}"
        light = after.light if after.light != before.light else ""
        return asking.when(self.rng, self.split, light, "" if light else after.weather)

    # Helpers

    def _moved(self, kind: str | None) -> Stage:
        return moved(self.rng, self.split, self.stage, kind) or replace(self.stage, event="stay", turned=())

    def _ask(
        self,
        templates: tuple[str, ...],
        *,
        before: Stage | None = None,
        neutral: bool = False,
        target: int | None = None,
        **slots: str,
    ) -> str:
        stage = before or self.stage
        if neutral:  # the words must not say what the picture shows
            templates = tuple(item for item in allowed(templates, self.split) if "{species}" not in item)
            return asking.request(self.rng, "train", templates[:4] * 2, actors=("animal",), target=0, **slots)
        name = self.name if stage.actors[0] == stage.hero else ""
        return asking.request(self.rng, self.split, templates, actors=stage.actors, target=target, name=name, **slots)

    def _answered(self, message: str, first: Panel, *, more: bool, keep: bool = False) -> Exchange:
        rng = self.rng
        count = self._count(88, 4, 5, 3) if more else 1
        if count > 1:
            message = asking.asking_pictures(rng, self.split, message, count)
        panels = self._panels(first, count)
        return Exchange(message if keep else noisy(rng, message), panels)

    def _count(self, one: int, *more: int) -> int:
        """Draw the number of requested pictures by weights; several are the hardest, and more frequent in training."""
        often = WISHED if self.split == "train" else 1
        weights = (one, *(often * weight for weight in more))
        return self.rng.choices(range(1, len(weights) + 1), weights)[0]

    def _panels(self, first: Panel, count: int) -> tuple[Panel, ...]:
        panels = [first]
        while len(panels) < count:
            self.stage = self._moved(None)
            panels.append(self._panel())
        return tuple(panels)

    def _panel(self, *, thing: str = "", stranger: bool = False) -> Panel:
        """Tell the present stage."""
        stage, scene = self.stage, self.stage.scene()
        leads = stage.actors[0] == stage.hero
        begins = stage.event in ("open", "welcome", "draw", "answer")
        telling = Telling(
            event=stage.event,
            scene=scene,
            adjective=(self.adjective or self._own_adjective(begins)) if leads else "",
            name=self.name if leads and (begins or self.rng.random() < 0.7) else "",
            turned=stage.turned,
            look=stage.looks[stage.actors[stage.changed]] if stage.event == "change" else "",
            changed=stage.changed,
            quest=self.quest if leads else None,
            begins=begins,
            thing=thing,
            stranger=stranger,
            new_prop=stage.prop not in self.props,
            brief=stage.event in ("draw", "answer", "vary", "vary_sky", "change") and self.rng.random() < 0.7,
        )
        text = paragraph(self.rng, self.split, telling)
        task = self._task()
        self.seen.update(stage.actors)
        self.props.update([stage.prop] if stage.prop else [])
        named = stage.named_indices()
        return Panel(text, scene, caption(scene, looks=named), task, named)

    def _own_adjective(self, begins: bool) -> str:
        if begins and self.rng.random() < 0.6:
            self.adjective = pick(self.rng, people.ADJECTIVES, self.split)
        return self.adjective

    def _task(self) -> Task:
        stage = self.stage
        if not self.seen:
            return "none"
        if stage.event == "change":
            return "change"
        if len(stage.actors) > 1:
            return "join"
        return "same" if stage.actors[0] in self.seen else "other"
