"""What a user changes in the picture before: each change as clauses that can be said alone or together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...storybook.wording.choose import allowed
from ..vocabulary import PLACE_PHRASES, PROP_SYNONYMS
from ..words import article
from ..world import FACINGS, LOOKS, MOST_CHARACTERS, PLACES, PROPS, SIDEWAYS, SPECIES
from . import edit_words as said
from . import lexicon
from .asking import kind_word, plural
from .stage import Actor, Stage, new_actor, other
from .tale import Split


@dataclass(frozen=True)
class Edit:
    """A change: what is said, and the stage after it."""

    clause: str
    stage: Stage


class Editor:
    """Changes the stage as users do.

    Args:
        rng: The random numbers.
        split: Whose wordings to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split

    def message(self, stage: Stage, count: int) -> Edit | None:
        """Return up to `count` changes in one message, or None if none of them makes sense."""
        kinds = (
            "place",
            "light",
            "weather",
            "prop",
            "action",
            "mood",
            "look",
            "wear",
            "face",
            "near",
            "more",
            "friend",
            "leave",
            "swap",
            "name",
        )
        weights = (18, 12, 11, 11, 16, 8, 7, 8, 2, 3, 4, 7, 6, 8, 3)
        clauses: list[str] = []
        done: set[str] = set()
        for _ in range(3 * count):
            kind = self.rng.choices(kinds, weights)[0]
            clashes = {
                "more": {"friend", "leave", "swap"},
                "swap": {"look", "name", "more", "friend", "leave"},
                "leave": {"friend", "more", "swap"},
            }
            if kind in done or done & clashes.get(kind, set()) or any(kind in clashes.get(one, ()) for one in done):
                continue
            edit = getattr(self, f"_{kind}")(stage)
            if edit is None:
                continue
            done.add(kind)
            clauses.append(edit.clause)
            stage = edit.stage
            if len(clauses) == count:
                break
        if not clauses:
            return None
        text = clauses[0]
        for clause in clauses[1:]:
            joint = self.rng.choice(said.JOINTS)
            text = text.rstrip("?!.") + joint + clause
        return Edit(self.pick(said.OPENERS).format(x=text), stage.normal())

    def pick(self, items: Sequence[str]) -> str:
        """Return a random wording of those that the split may use."""
        return self.rng.choice(allowed(items, self.split))

    def _say(self, items: Sequence[str], stage: Stage, after: Stage, **slots: str) -> Edit:
        """Fill a clause about all actors, or about the first one."""
        rng, hero, several = self.rng, stage.hero, len(stage.actors) > 1
        pronoun = rng.choice(("it", "she", "he")) if not hero.name else "she" if hero.she else "he"
        species = hero.character.species
        same = len({actor.character.species for actor in stage.actors}) == 1
        one = hero.name if hero.name else f"the {species}"
        base = {
            "it": "they" if several else one if rng.random() < 0.3 else pronoun,
            "them": "them" if several else one if rng.random() < 0.3 else {"it": "it", "she": "her",
            "he": "him"}[pronoun],
            "who": "everybody" if several else one, "kind": "ones" if several and not same else species,
            "the_one": one if several or rng.random() < 0.7 else "it", "species": species, "spot": after.place,
            "old_spot": stage.place,
            "place": rng.choice(allowed(PLACE_PHRASES[after.place], self.split)),
            "old_place": PLACE_PHRASES[stage.place][0],
        }  # fmt: skip
        clause = self.pick(items).format_map({**base, **slots})
        return Edit(_agree(clause) if several else clause, after)

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

    def _look(self, stage: Stage) -> Edit | None:
        hero = stage.hero
        if _twins(stage):
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
        if _twins(stage):
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
        if len(stage.actors) != 2 or _twins(stage):
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


def _twins(stage: Stage) -> bool:
    """Return whether the hero's kind would not tell whom a change is about."""
    alike = [actor for actor in stage.actors if actor.character.species == stage.hero.character.species]
    return len(alike) > 1 and not stage.hero.name


def _twin(rng: random.Random, actor: Actor, number: int) -> Actor:
    return Actor(number, replace(actor.character, look=rng.choice(LOOKS)))


def _agree(clause: str) -> str:
    """Let the verb agree with "they"."""
    words = clause.split(" ")
    fixed = {"goes": "go", "wants": "want", "is": "are", "has": "have", "sleeps": "sleep", "jumps": "jump",
    "runs": "run", "swims": "swim", "hides": "hide",
             "finds": "find", "takes": "take", "hurries": "hurry", "plays": "play", "waits": "wait", "meets": "meet",
             "smiles": "smile", "cries": "cry",
             "gets": "get", "weeps": "weep", "trembles": "tremble", "hears": "hear", "bounces": "bounce",
             "races": "race", "loses": "lose", "leaps": "leap",
             "does": "do", "carries": "carry", "doesn't": "don't", "brings": "bring", "picks": "pick",
             "holds": "hold"}  # fmt: skip
    for index in range(1, len(words)):
        if words[index - 1] == "they" and words[index] in fixed:
            words[index] = fixed[words[index]]
        if index > 1 and words[index - 2] == "does" and words[index - 1] == "they":
            words[index - 2] = "do"
    return " ".join(words).replace("what does they", "what do they")
