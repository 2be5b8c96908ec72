"""Random captions of a scene: how much they say, and whose names; the text encoders and the decoder learn from them."""

from __future__ import annotations

import random
import re

from .stories.lexicon import name
from .words import LONGEST, Said, aside, caption
from .world import SIDEWAYS, Scene, Split

NAMED = 0.2  # part of the captions in which characters have names of their own
# Part of the captions that say looks as the M3-Adapter adds what references tell: at the end, often of one character
# only. What is not said stays free, whatever is said of the others.
TOLD = 0.2


def draw_said(rng: random.Random, scene: Scene) -> Said:
    """Draw what to say about a scene: looks about half of the time, and nearly always what is unusual."""
    talkative = rng.random()  # some captions say much, others little
    characters = []
    for actor in scene.characters:
        said = {fact for fact in ("look", "accessory") if rng.random() < 0.25 + 0.5 * talkative}
        said |= {fact for fact in ("facing", "near") if rng.random() < 0.3 * talkative}
        for fact, plain in (("action", actor.action == "stands"), ("mood", actor.mood == "calm")):
            if rng.random() < (0.15 * talkative + 0.02 if plain else 0.97):
                said.add(fact)
        # What a caption does not say is seldom there, so that nobody gets what was not asked for.
        if actor.accessory != "none" and rng.random() < 0.85:
            said.add("accessory")
        elif actor.accessory == "none" and rng.random() < 0.7:
            said.discard("accessory")
        if actor.species not in SIDEWAYS:
            said.discard("facing")
        characters.append(frozenset(said))
    doing = {(actor.species, actor.action, actor.held) for actor in scene.characters}
    dressed = any(actor.mood != "calm" or actor.accessory != "none" for actor in scene.characters)
    if len(characters) > 1 and len(doing) == 1 and rng.random() < (0.05 if dressed else 0.7):  # "two foxes run"
        characters = [characters[0] & {"action"}] * len(characters)
    told = {"place"} if rng.random() < 0.93 else set()
    for fact, plain in (("light", scene.light == "day"), ("weather", scene.weather == "clear")):
        if rng.random() < (0.12 * talkative + 0.02 if plain else 0.97):
            told.add(fact)
    if scene.props and rng.random() < 0.97:
        told.add("props")
    if len(scene.characters) == 1 and rng.random() < 0.25 * talkative:
        told.add("spot")
    return Said(tuple(characters), frozenset(told))


def draw_names(rng: random.Random, scene: Scene, split: Split = "train") -> tuple[str, ...]:
    """Draw a name for most characters of a scene, "" for the others."""
    names: list[str] = []
    for _ in scene.characters:
        names.append(name(rng, split, *names)[0] if rng.random() < 0.85 else "")
    return tuple(names)


def captioned(rng: random.Random, scene: Scene, *, split: Split = "train") -> str:
    """Return a random caption of a scene."""
    while True:
        said = draw_said(rng, scene)
        names = draw_names(rng, scene, split) if rng.random() < NAMED else ()
        if rng.random() < TOLD:
            text = _told(rng, scene, said, names)
        else:
            text = caption(scene, said, rng, split=split, names=names)
        pieces = 2 * sum(map(bool, names))  # names are several tokens each
        if len(re.findall(r"\w+|[^\w\s]", text)) + pieces <= LONGEST:
            return text


def _told(rng: random.Random, scene: Scene, said: Said, names: tuple[str, ...]) -> str:
    """Return a canonical caption whose end tells the looks of some characters; of most others, nothing is said."""
    everyone = range(len(scene.characters))
    count = rng.choice(everyone) + 1 if rng.random() < 0.5 else 1
    known = {index: ("look", "accessory")[: rng.choice((1, 2, 2))] for index in sorted(rng.sample(everyone, count))}
    facts = []
    for index, told in enumerate(said.characters):
        if index in known:
            told = told - {"look", "accessory"}
        elif rng.random() < 0.7:
            told = told - {"look"}
        facts.append(told)
    plain = caption(scene, Said(tuple(facts), said.scene), names=names)
    return aside(scene, known, plain, names=names)
