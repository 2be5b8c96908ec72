"""Plots in which somebody comes to help or to play.

Each method returns the trouble and the ending in the premise's words, and the beats.
"""

from __future__ import annotations

from dataclasses import replace

from ...storybook.wording.choose import capitalised
from ..vocabulary import PLACE_PHRASES
from ..words import article
from ..world import PLACES, PROPS
from . import plots
from .plotting import ITS, THEM, Beat, Plots
from .stage import Actor, Stage


class Together(Plots):
    """Plots of two characters."""

    def _lost(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        place, home = self.rng.sample(PLACES, 2)
        helper = self._friend(hero) if self.rng.random() < 0.6 else None
        who, it = self._new(hero), self._it(hero)
        where = self._pick(PLACE_PHRASES[place])
        trouble = self._say(plots.LOST_TROUBLE, who=who, where=where)
        if "home is" in trouble:
            trouble += f" and cries {where}"
        ending = (
            self._say(plots.LOST_ENDING, friend=self._new(helper), home=home, them=THEM[it])
            if helper
            else self._say(plots.LOST_ENDING_2, it=it, home=home)
        )
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(start, after=self._say(plots.LOST_FIRST))
        tries = self._tries(max(0, count - 2 - bool(helper)), start, plots.LOST_TRIES, ("runs", "stands"), goal=home)
        if helper and count > 2:
            at = tries[-1].stage.place if tries else place
            tries.append(Beat(Stage((hero.now(action="stands"), helper), at), self._say(plots.LOST_MIDDLE)))
        actors = (hero.now(mood="happy"), helper.now(mood="happy")) if helper else (hero.now(mood="happy"),)
        return (trouble, ending, self._fit(count, first, tries, Beat(Stage(actors, home), self._say(plots.LOST_LAST))))

    def _search(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(PROPS)
        helper = self._friend(hero) if self.rng.random() < 0.35 else None
        places = self.rng.sample(PLACES, 2)
        who, it, thing = self._new(hero), self._it(hero), f"the {prop}"
        own = f"{ITS[it]} {prop}"
        where = self.rng.choice(("", f" {self._pick(PLACE_PHRASES[places[0]])}"))
        trouble = self._say(plots.SEARCH_TROUBLE, who=who, own=own, where=where, a_prop=article(prop))
        if prop in ("apple", "cake") and self.rng.random() < 0.5:
            trouble = f"{who} is hungry{where}" + self.rng.choice(
                ("", " and looks everywhere", f" and wants {article(prop)}")
            )
        ending = (
            self._say(plots.SEARCH_ENDING, friend=self._new(helper), prop=prop)
            if helper
            else self._say(plots.SEARCH_ENDING_2, it=it, prop=prop)
        )
        start = Stage((hero.now(mood="sad"),), places[0])
        name = hero.name or f"the {hero.character.species}"
        first = Beat(start, after=capitalised(self._say(plots.SEARCH_FIRST, thing=thing, name=name)))
        tries = self._tries(
            max(0, count - 2),
            start,
            self._filled(plots.SEARCH_TRIES, prop=prop, thing=thing.capitalize()),
            ("runs", "stands", "jumps"),
        )
        end_place = tries[-1].stage.place if tries and self.rng.random() < 0.5 else places[0]
        if helper:
            last = Stage((hero.now(mood="happy"), helper.now(action="holds", held=prop)), end_place)
        else:
            last = Stage((hero.now(mood="happy", action="holds", held=prop),), end_place)
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.SEARCH_LAST, thing=thing))))

    def _friendship(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, place = self._friend(hero), self.rng.choice(PLACES)
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.FRIENDSHIP_TROUBLE, who=who)
        ending = self._say(plots.FRIENDSHIP_ENDING, it=it, friend=self._new(friend))
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(start, after=self._say(plots.FRIENDSHIP_FIRST))
        tries = [
            replace(beat, stage=beat.stage.all_now(mood="sad"))
            for beat in self._tries(max(0, count - 2), start, plots.FRIENDSHIP_TRIES, ("stands", "runs"))
        ]
        at = tries[-1].stage.place if tries else place
        last = Stage((hero.now(mood="happy", action="stands"), friend.now(mood="happy")), at)
        if self.rng.random() < 0.4:
            last = last.all_now(action="jumps")
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.FRIENDSHIP_LAST))))

    def _hiding(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, place = self._friend(hero), self.rng.choice(PLACES)
        first_name, second = self._new(hero), self._new(friend)
        where = self._pick(PLACE_PHRASES[place])
        trouble = self._say(plots.HIDING_TROUBLE, first_name=first_name, second=second, where=where)
        ending = self._say(
            plots.HIDING_ENDING,
            the_friend=friend.name or "the " + friend.character.species,
            the_hero=hero.name or "the " + hero.character.species,
        )
        start = Stage((hero, friend), place)
        first = Beat(start.with_hero(hero.now(action="hides")), self._say(plots.HIDING_FIRST))
        tries: list[Beat] = []
        for index in range(max(0, count - 2)):
            seeker = replace(
                start, actors=(hero.now(action="hides"), friend.now(action="runs" if index % 2 == 0 else "stands"))
            )
            tries.append(Beat(seeker, self._say(plots.HIDING_MIDDLE)))
        last = start.all_now(mood="happy", action=self.rng.choice(("stands", "jumps")))
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.HIDING_LAST))))

    def _sharing(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        friend, prop, place = self._friend(hero), self.rng.choice(PROPS), self.rng.choice(PLACES)
        first_name, second = self._new(hero), self._new(friend)
        trouble = self._say(
            plots.SHARING_TROUBLE, first_name=first_name, a_prop=article(prop), second=second, prop=prop
        )
        ending = self._say(plots.SHARING_ENDING, prop=prop)
        start = Stage((hero.now(action="holds", held=prop), friend), place)
        first = Beat(
            replace(start, actors=(start.hero, friend.now(mood="sad"))), after=self._say(plots.SHARING_FIRST, prop=prop)
        )
        tries = self._tries(
            max(0, count - 2), replace(start, actors=(hero, friend)), plots.SHARING_TRIES, ("stands", "runs")
        )
        tries = [replace(beat, stage=replace(beat.stage, place=place, props=(prop,))) for beat in tries]
        last = Stage((hero.now(mood="happy"), friend.now(mood="happy")), place, props=(prop,))
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.SHARING_LAST, prop=prop))))
