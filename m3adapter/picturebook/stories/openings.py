"""The first picture of a conversation: what is asked for, and nothing that is not."""

from __future__ import annotations

import random
from dataclasses import replace

from ..world import ACTIONS, FACINGS, LOOKS, PROPS, SIDEWAYS, SPECIES, Split
from . import lexicon
from .stage import Actor, Stage, new_actor, other, place_for

_DOING = tuple(action for action in ACTIONS if action != "stands")
_FELT = ("happy", "sad", "afraid")
_WORN = ("scarf", "hat", "glasses")


def opening(rng: random.Random, split: Split) -> Stage:
    """Return a random first stage; whatever is unusual in it is asked for."""
    count = rng.choices((1, 2, 3), (66, 25, 9))[0]
    alike = count > 1 and rng.random() < 0.4
    species = [rng.choice(SPECIES)] * count if alike else rng.sample(SPECIES, count)
    if count == 3 and rng.random() < 0.35:
        alike, species = False, [species[0], species[0], other(rng, SPECIES, species[0])]  # two and one
    named = rng.random() < 0.28
    actors: list[Actor] = []
    for number, kind in enumerate(species):
        actor = new_actor(rng, number, kind)
        if named and rng.random() < 0.9:
            name, she = lexicon.name(rng, split, *(other.name for other in actors))
            actor = replace(actor, name=name, she=she)
        actors.append(actor)
    together = alike or rng.random() < 0.6
    acts = _acts(rng, 1) * count if together else _acts(rng, count)
    things = rng.sample(PROPS, 4)
    held = things[0]
    for index, action in enumerate(acts):
        own = held if alike else things[index]
        actors[index] = actors[index].now(action=action, held=own if action == "holds" else None)
    if len({(actor.character.species, actor.name) for actor in actors}) == count:
        actors = [_dressed(rng, actor) for actor in actors]
    elif rng.random() < 0.12:
        mood = rng.choice(_FELT)
        actors = [actor.now(mood=mood) for actor in actors]
    standing = "holds" not in acts and rng.random() < 0.22
    return Stage(
        actors=tuple(actors),
        place=place_for(rng, *acts),
        light=rng.choices(("day", "sunset", "night"), (74, 11, 15))[0],
        weather=rng.choices(("clear", "rain", "snow"), (76, 12, 12))[0],
        props=tuple(things[3 : 3 + (1 if standing else 0)]),
        spoken=frozenset(["light"] if rng.random() < 0.03 else ["weather"] if rng.random() < 0.05 else []),
    ).normal()


def _acts(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(_DOING) if rng.random() < 0.4 else "stands" for _ in range(count)]


def _dressed(rng: random.Random, actor: Actor) -> Actor:
    """Ask for a mood, a colour, clothes or a direction, or for nothing special."""
    if rng.random() < 0.17:
        actor = actor.now(mood=rng.choice(_FELT))
    if rng.random() < 0.17:
        actor = actor.now(look=rng.choice(LOOKS)).saying("look")
    if rng.random() < 0.13:
        actor = actor.now(accessory=rng.choice(_WORN)).saying("accessory")
    if rng.random() < 0.03 and actor.character.species in SIDEWAYS:
        actor = actor.now(facing=rng.choice(FACINGS)).saying("facing")
    if rng.random() < 0.04:
        actor = actor.now(near=rng.random() < 0.5).saying("near")
    return actor
