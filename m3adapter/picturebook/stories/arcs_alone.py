"""Plots of one character: a journey, a comfort, courage, rest, learning, shelter, a flight.

Each method returns the trouble and the ending in the premise's words, and the beats.
"""

from __future__ import annotations

from dataclasses import replace

from ...storybook.wording.choose import capitalised
from ..words import article
from ..world import PLACES, PROPS
from . import plots
from .plotting import THEM, Beat, Plots
from .stage import Actor, Stage, other, place_for


class Alone(Plots):
    """Plots of one character."""

    def _journey(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        home, goal = self.rng.sample(PLACES, 2)
        who, it, spot = self._new(hero), self._it(hero), f"the {goal}"
        trouble = self._say(plots.JOURNEY_TROUBLE, who=who, spot=spot)
        ending = self._say(plots.JOURNEY_ENDING, it=it, spot=spot)
        start = Stage((hero,), home)
        name = hero.name or f"the {hero.character.species}"
        first = Beat(start, after=capitalised(self._say(plots.JOURNEY_FIRST, name=name, spot=spot)))
        tries = self._tries(max(0, count - 2), start, plots.JOURNEY_TRIES, ("runs", "jumps", "stands"), goal=goal)
        last = Beat(
            replace(start, place=goal).all_now(mood="happy", action=self.rng.choice(("stands", "jumps"))),
            self._say(plots.JOURNEY_LAST),
        )
        return trouble, ending, self._fit(count, first, tries, last)

    def _comfort(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(PROPS)
        place = self.rng.choice(PLACES)
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.COMFORT_TROUBLE, who=who)
        ending = self._say(plots.COMFORT_ENDING, it=it, a_prop=article(prop), them=THEM[it])
        start = Stage((hero.now(mood="sad"),), place)
        first = Beat(start, after=self._say(plots.COMFORT_FIRST))
        tries = [
            replace(beat, stage=beat.stage.all_now(mood="sad"))
            for beat in self._tries(max(0, count - 2), start, plots.COMFORT_TRIES, ("stands", "runs", "hides"))
        ]
        last = replace(start, actors=(hero.now(mood="happy", action="holds", held=prop),))
        return (
            trouble,
            ending,
            self._fit(count, first, tries, Beat(last, self._say(plots.COMFORT_LAST, a_prop=article(prop)))),
        )

    def _courage(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        fear = self.rng.choice(("rain", "snow", "dark"))
        light, weather = "night" if fear == "dark" else "day", "clear" if fear == "dark" else fear
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.COURAGE_TROUBLE, who=who, fear=fear)
        ending = self._say(plots.COURAGE_ENDING, it=it, fear=fear)
        start = Stage(
            (hero.now(mood="afraid", action=self.rng.choice(("hides", "stands"))),),
            self.rng.choice(PLACES),
            light=light,
            weather=weather,
        )
        first = Beat(start, after=self._say(plots.COURAGE_FIRST))
        steps = (
            "One small step.",
            "Perhaps it is not so bad.",
            "A deep breath, and on.",
            "Brave, braver, bravest!",
            "Nothing bad happens.",
        )
        tries = [
            replace(beat, stage=replace(beat.stage, place=start.place))
            for beat in self._tries(max(0, count - 2), start, steps, ("stands", "runs", "jumps"))
        ]
        last = start.all_now(mood="happy", action=self.rng.choice(("jumps", "runs", "stands")))
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.COURAGE_LAST, fear=fear))))

    def _rest(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        place = self.rng.choice(PLACES)
        night = self.rng.random() < 0.4
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.REST_TROUBLE, who=who) + (" at night" if night else "")
        ending = self._say(plots.REST_ENDING, it=it)
        start = Stage((hero,), place, light="night" if night else "day")
        first = Beat(start, after=self._say(plots.REST_FIRST))
        tries = self._tries(max(0, count - 2), start, plots.REST_TRIES, ("jumps", "runs", "jumps", "stands"))
        return (
            trouble,
            ending,
            self._fit(count, first, tries, Beat(start.all_now(action="sleeps"), self._say(plots.REST_LAST))),
        )

    def _learning(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        action = self.rng.choice(("swims", "jumps", "runs"))
        verb = {"swims": "swim", "jumps": "jump", "runs": "run fast"}[action]
        place = place_for(self.rng, action)
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.LEARNING_TROUBLE, who=who, verb=verb)
        ending = self._say(plots.LEARNING_ENDING, it=it, action=action, verb=verb)
        start = Stage((hero,), place)
        name = hero.name or f"the {hero.character.species}"
        first = Beat(start, after=capitalised(self._say(plots.LEARNING_FIRST, name=name, verb=verb)))
        steps = (
            "The first try fails.",
            "Once more!",
            "Nearly!",
            "Practice makes perfect.",
            "It is not as easy as it looks.",
            "Do not give up!",
        )
        moods = ("afraid", "sad", "calm")
        tries = [
            replace(beat, stage=replace(beat.stage, place=place).all_now(mood=self.rng.choice(moods)))
            for beat in self._tries(max(0, count - 2), start, steps, ("stands", "stands", "hides"))
        ]
        return (
            trouble,
            ending,
            self._fit(
                count, first, tries, Beat(start.all_now(action=action, mood="happy"), self._say(plots.LEARNING_LAST))
            ),
        )

    def _shelter(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        weather, place = self.rng.choice(("rain", "snow")), self.rng.choice(PLACES)
        cover = other(self.rng, PLACES, place)
        verb = {"rain": "rains", "snow": "snows"}[weather]
        who, it = self._new(hero), self._it(hero)
        trouble = self._say(plots.SHELTER_TROUBLE, verb=verb, who=who, weather=weather)
        ending = self._say(plots.SHELTER_ENDING, it=it, cover=cover)
        start = Stage((hero.now(action="runs"),), place, weather=weather)
        first = Beat(start, self._say(plots.SHELTER_FIRST))
        tries = [
            replace(beat, stage=replace(beat.stage, weather=weather))
            for beat in self._tries(
                max(0, count - 2), start, plots.SHELTER_TRIES, ("runs", "runs", "jumps"), goal=cover
            )
        ]
        last = replace(start, place=cover).all_now(action="sleeps" if "sleeps" in ending else "hides")
        last = replace(last, light="night") if "night" in ending else last
        return (trouble, ending, self._fit(count, first, tries, Beat(last, self._say(plots.SHELTER_LAST))))

    def _flight(self, hero: Actor, count: int) -> tuple[str, str, list[Beat]]:
        prop = self.rng.choice(("balloon", "kite", "rocket", "umbrella"))
        who, it = self._new(hero), self._it(hero)
        sky = self.rng.choice(("the moon", "the stars", "the clouds", "the sky"))
        trouble = self._say(plots.FLIGHT_TROUBLE, who=who, sky=sky)
        ending = self._say(plots.FLIGHT_ENDING, it=it, a_prop=article(prop), them=THEM[it])
        start = Stage((hero,), self.rng.choice(PLACES))
        name = hero.name or f"the {hero.character.species}"
        first = Beat(start, after=capitalised(self._say(plots.FLIGHT_FIRST, name=name, sky=sky)))
        tries = self._tries(max(0, count - 2), start, plots.FLIGHT_TRIES, ("jumps", "runs"))
        last = Stage(
            (hero.now(action="holds", held=prop, mood="happy"),), tries[-1].stage.place if tries else start.place
        )
        return (
            trouble,
            ending,
            self._fit(
                count,
                first,
                tries,
                Beat(last, self._say(plots.FLIGHT_LAST, a_prop=article(prop), sky=sky.capitalize())),
            ),
        )
