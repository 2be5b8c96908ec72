"""Changes of the picture and of what happens in it: place, light, weather, things, actions and moods."""

from __future__ import annotations

from dataclasses import replace

from ..vocabulary import PROP_SYNONYMS
from ..words import article
from ..world import PLACES, PROPS
from . import edit_words as said
from .edit_clauses import Clauses, Edit
from .stage import Stage, other


class SceneEdits(Clauses):
    """Changes what happens, and where."""

    def _place(self, stage: Stage) -> Edit:
        after = replace(stage, place=other(self.rng, PLACES, stage.place))
        if stage.hero.character.action == "swims" and self.rng.random() < 0.7:
            after = after.all_now(action="stands")
        return self._say(said.TO_PLACE, stage, after)

    def _light(self, stage: Stage) -> Edit:
        light = other(self.rng, ("day", "day", "sunset", "night", "night"), stage.light)
        after = replace(stage, light=light, spoken=stage.spoken | {"light"})
        return self._say({"day": said.TO_DAY, "sunset": said.TO_SUNSET, "night": said.TO_NIGHT}[light], stage, after)

    def _weather(self, stage: Stage) -> Edit:
        if stage.weather == "clear" and self.rng.random() < 0.15:  # it has stopped already, or never began
            after = replace(stage, spoken=stage.spoken | {"weather"})
            return self._say(said.TO_CLEAR, stage, after, weather=self.rng.choice(("rain", "snow")))
        weather = other(self.rng, ("clear", "clear", "clear", "rain", "snow"), stage.weather)
        after = replace(stage, weather=weather, spoken=stage.spoken | {"weather"})
        return self._say(
            {"clear": said.TO_CLEAR, "rain": said.TO_RAIN, "snow": said.TO_SNOW}[weather],
            stage,
            after,
            weather=stage.weather,
        )

    def _prop(self, stage: Stage) -> Edit | None:
        rng = self.rng
        new = other(rng, PROPS, *stage.things())
        word = rng.choice(PROP_SYNONYMS[new]) if new in PROP_SYNONYMS and rng.random() < 0.2 else new
        slots = {"a_prop": article(word), "the_prop": f"the {word}"}
        if not stage.things():
            return self._say(said.ADD_PROP, stage, replace(stage, props=(new,)), **slots)
        if len(stage.things()) > 1:
            return None
        old = next(iter(stage.things()))
        slots |= {"old_prop": old, "an_old_prop": article(old)}
        if rng.random() < 0.5:
            held = tuple(actor.now(held=new) if actor.character.held else actor for actor in stage.actors)
            return self._say(
                said.SWAP_PROP, stage, replace(stage, actors=held, props=(new,) if stage.props else ()), **slots
            )
        dropped = tuple(actor.now(action="stands") if actor.character.held else actor for actor in stage.actors)
        return self._say(said.DROP_PROP, stage, replace(stage, actors=dropped, props=()), **slots)

    def _action(self, stage: Stage) -> Edit | None:
        rng, now = self.rng, stage.hero.character.action
        action = other(rng, ("sleeps", "jumps", "runs", "swims", "hides", "holds", "stands"), now)
        if action == "stands" and (now == "holds" or len({actor.character.action for actor in stage.actors}) > 1):
            return None
        if action == "holds":
            if len(stage.actors) > 1:
                return None
            prop = next(iter(stage.things())) if stage.things() else rng.choice(PROPS)
            after = replace(stage.with_hero(stage.hero.now(action="holds", held=prop)), props=())
            return self._say(said.HOLDING, stage, after, a_prop=f"the {prop}" if stage.things() else article(prop))
        return self._say(said.TO_ACTION[action], stage, stage.all_now(action=action))

    def _mood(self, stage: Stage) -> Edit | None:
        now = stage.hero.character.mood
        if len({actor.character.mood for actor in stage.actors}) > 1:
            return None
        mood = other(
            self.rng,
            ("happy", "happy", "sad", "afraid", "calm"),
            now,
            *(() if now in ("sad", "afraid", "happy") else ("calm",)),
        )
        if mood == "happy" and now in ("sad", "afraid") or len(stage.actors) == 1 or mood == "calm":
            return self._say(said.TO_MOOD[mood], stage, stage.all_now(mood=mood), mood=now)
        rank = self.rng.randrange(2)  # one of several: "the first one is sad"
        actor = stage.actors[rank]
        if (
            any(one.character.species == actor.character.species for one in stage.actors if one is not actor)
            and not actor.name
        ):
            return None
        last = "last" if len(stage.actors) == 2 and rank == 1 else ("first", "second")[rank]
        whom = self.pick((f"the {last} one", actor.name or f"the {actor.character.species}"))
        actors = tuple(one.now(mood=mood) if one is actor else one for one in stage.actors)
        return Edit(f"{whom} {self.rng.choice(('is', 'should be', 'gets'))} {mood}", replace(stage, actors=actors))
