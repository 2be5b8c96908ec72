"""Changes of the characters: their looks and clothes, where they look, who joins, leaves or gets a name."""

from __future__ import annotations

import random
from dataclasses import replace

from ...storybook.wording.choose import allowed
from ..words import article
from ..world import FACINGS, LOOKS, MOST_CHARACTERS, SIDEWAYS, SPECIES
from . import edit_words as said
from . import lexicon
from .asking import kind_word, plural
from .edit_clauses import Clauses, Edit, twins
from .stage import Actor, Stage, new_actor, other


class CharacterEdits(Clauses):
    """Changes who is there, and what everybody looks like."""

    def _look(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if twins(stage):
            return None
        look = other(self.rng, LOOKS, hero.character.look)
        word = (
            "gray"
            if look == "grey" and self.rng.random() < 0.3
            else "violet"
            if look == "purple" and self.rng.random() < 0.2
            else look
        )
        return self._say(said.TO_LOOK, stage, stage.with_hero(hero.now(look=look).saying("look")), look=word)

    def _wear(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if twins(stage):
            return None
        worn = hero.character.accessory
        if worn != "none":
            after = stage.with_hero(hero.now(accessory="none").saying("accessory"))
            return self._say(said.TO_BARE, stage, after, worn=worn, a_worn=worn if worn == "glasses" else f"a {worn}")
        new = self.rng.choice(("scarf", "hat", "glasses"))
        words = {"scarf": ("a scarf",), "hat": ("a hat", "a top hat"), "glasses": ("glasses", "a pair of glasses")}[new]
        return self._say(
            said.TO_WEAR,
            stage,
            stage.with_hero(hero.now(accessory=new).saying("accessory")),
            a_worn=self.rng.choice(words),
        )

    def _face(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if (
            len(stage.actors) > 1
            or hero.character.species not in SIDEWAYS
            or "facing" not in hero.said
            and self.rng.random() < 0.5
        ):
            return None
        side = other(self.rng, FACINGS, hero.character.facing)
        return self._say(said.TO_FACE, stage, stage.with_hero(hero.now(facing=side).saying("facing")), side=side)

    def _near(self, stage: Stage) -> Edit:
        near = self.rng.random() < 0.6
        after = replace(stage, actors=tuple(actor.now(near=near).saying("near") for actor in stage.actors))
        return self._say(said.CLOSER if near else said.FARTHER, stage, after)

    def _more(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if len(stage.actors) > 1 or hero.name or hero.said:
            return None
        count = self.rng.choice((2, 2, 3))
        twins = [_twin(self.rng, hero, hero.number + 50 + index) for index in range(1, count)]
        items = [item for item in allowed(said.MORE, self.split) if ("{number}" in item) == (count == 3)] or [
            said.MORE[5]
        ]
        number = self.rng.choice({2: ("two", "2"), 3: ("three", "3")}[count])
        species = hero.character.species
        after = replace(stage, actors=(hero, *twins))
        return self._say(
            items if len(items) < 5 else [self.rng.choice(items)], stage, after, number=number, plural=plural(species)
        )

    def _friend(self, stage: Stage) -> Edit | None:
        rng = self.rng
        if len(stage.actors) == MOST_CHARACTERS:
            return None
        species = other(rng, SPECIES, *(actor.character.species for actor in stage.actors))
        friend = new_actor(rng, 100 + max(actor.number for actor in stage.actors), species)
        word = article(kind_word(rng, species, self.split))
        if rng.random() < 0.25 or stage.hero.name and rng.random() < 0.4:
            name, she = lexicon.name(rng, self.split, *(actor.name for actor in stage.actors))
            friend = replace(friend, name=name, she=she)
            word = rng.choice((f"{name} the {species}", f"{name}, {word}", f"{word} named {name}"))
        if len(stage.actors) == 1 and rng.random() < 0.15:
            hidden = stage.hero.now(action=rng.choice(("hides", "runs")))
            verb = {"hides": ("hides from", "is hiding from"), "runs": ("runs away from", "runs from")}[
                hidden.character.action
            ]
            clause = f"{stage.hero.name or 'the ' + stage.hero.character.species} {rng.choice(verb)} {word}"
            return Edit(clause, replace(stage, actors=(hidden, friend)))
        actors = stage.actors if rng.random() < 0.5 else tuple(actor.now(action="stands") for actor in stage.actors)
        return self._say(said.FRIEND, stage, replace(stage, actors=(*actors, friend)), a_friend=word)

    def _leave(self, stage: Stage) -> Edit | None:
        if len(stage.actors) != 2 or twins(stage):
            return None
        gone, stays = self.rng.sample(stage.actors, 2)
        slots = {"gone": gone.character.species, "stays": stays.character.species}
        return self._say(said.LEAVE, stage, replace(stage, actors=(stays,)), **slots)

    def _swap(self, stage: Stage) -> Edit | None:
        rng, hero = self.rng, stage.hero
        if len(stage.actors) > 1 or hero.name:
            return None
        species = other(rng, SPECIES, hero.character.species)
        new = new_actor(rng, hero.number + 200, species)
        kept = replace(hero.character, species=species, look=new.character.look)
        slots = {
            "a_new": article(kind_word(rng, species, self.split)),
            "old": hero.character.species,
            "an_old": article(hero.character.species),
        }
        return self._say(
            said.SWAP,
            stage,
            stage.with_hero(Actor(new.number, kept, said=hero.said - {"look", "facing"})),
            **slots,
        )

    def _name(self, stage: Stage) -> Edit | None:
        if len(stage.actors) > 1 or stage.hero.name:
            return None
        name, she = lexicon.name(self.rng, self.split)
        return self._say(said.NAME_IT, stage, stage.with_hero(replace(stage.hero, name=name, she=she)), name=name)


def _twin(rng: random.Random, actor: Actor, number: int) -> Actor:
    return Actor(number, replace(actor.character, look=rng.choice(LOOKS)))
