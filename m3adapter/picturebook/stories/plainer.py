"""The picture book's conversations for the storybook's painter, which knows fewer animals, places and things.

Its captions say what the storybook can paint: who, with what, where, when and in which weather. What somebody does or
feels is told by the text alone. What cannot be painted is refused in a sentence, as other animals are, and something
else is offered.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from ...storybook import world as storybook
from ...storybook.wording import tale
from ...storybook.wording.plot import composition_split
from ..reading import Reading, read
from ..vocabulary import PLACE_PHRASES
from ..words import article
from ..world import PLACES, PROPS, SPECIES, Scene
from . import talk_words as said
from .tale import Exchange, Panel, Split
from .talk import Talk

KEPT = 0.12  # part that is kept of what is refused: the picture book has it far more often than people ask for it
NAMED = 0.7  # part of the refusals that certainly name what is refused
_NAMING = tuple(frame for frame in said.REFUSALS if "{thing" in frame)
_WEAR = {"scarf": "a scarf", "hat": "a hat", "glasses": "a pair of glasses"}
_BEYOND = re.compile(
    r"\b(" + "|".join(
        f"{word}s?" for words, known in (
            (SPECIES, storybook.SPECIES), (PLACES, (*storybook.PLACES, "fair")), (PROPS, storybook.PROPS)
        ) for word in words if word not in known
    ) + r"|(the|a|at) (fun)?fair|circus|calves|foals|hats?|glasses|scar(f|ves)|they can sleep)\b",
    re.IGNORECASE,
)  # fmt: skip
_THREE = re.compile(r"\b(up to|one, two or|at most|are|but|for) three\b|\b[Tt]hree (at|is|animals)\b")
TWO = (
    "I cannot fit so many: two different animals are the most. Shall I draw {a} and {b}?",
    "That is too many for me. I can draw up to two animals, {a} and {b} for example.",
    "My pictures have room for two at most. May I draw {a} and {b}?",
    "I can only draw one or two at a time. How about {a} and {b}?",
    "So many do not fit into one picture, where two is the limit. {a} and {b}, perhaps?",
    "Two animals are my limit in one picture. I can draw {a} and {b} {place}.",
    "I am sorry, I can only fit two of them into a picture. Shall it be {a} and {b}?",
    "There is only room for two different animals. How about {a} and {b} {place}?",
    "No more than two at a time, please: {a} and {b}, for example.",
    "I cannot draw that many. One animal or two, {a} and {b} for example, is what I can do.",
)  # fmt: skip
ALIKE = (
    "I cannot draw two of a kind, only two different animals. How about {a} and {b}?",
    "I am not able to draw two animals of the same kind. Shall it be {a} and {b}?",
    "I can only draw one of each kind. May I draw {a} and {b} {place}?",
    "Sorry, my two animals must be different ones: {a} and {b}, for example.",
    "I cannot draw the same animal twice. I could draw {a} and {b}.",
    "I can draw one of each kind at most. Shall I draw {a} with {b}?",
    "I only know how to draw one of each kind. What about {a} and {b}?",
    "There can only be one of each kind in my pictures. How about {a} and {b}?",
    "I cannot draw more than one of a kind. {a} and {b}, perhaps?",
    "Only animals of two kinds fit together in my pictures. Shall I draw {a} and {b}?",
)  # fmt: skip
THINGS = (
    "I can only draw one thing at a time. Shall I draw {a} with one of them?",
    "I cannot fit two things into a picture. Which one shall it be?",
    "There is only room for one thing besides the animals. Which of them shall I draw?",
    "One thing is my limit. Shall I leave the other away?",
    "I am sorry, I can only draw a single thing with my animals. Which one do you like better?",
    "Two things are too many for me. Which one shall I draw?",
    "I can only manage one of these things. Which do you want to see?",
    "My pictures have room for one thing only. Which one?",
)  # fmt: skip
VIEW = (
    "I cannot choose how close they are or which way they look. Shall I draw {a} {place}?",
    "I am sorry, I cannot turn or move them. I can show them at another place, {place} for example.",
    "That I cannot do: my animals always stand in front and look as they like. How about another place, {place}?",
    "I can only draw them as they are, not closer and not from another side. Shall they go somewhere else, {place}?",
    "My pictures cannot be turned, and not brought closer. I can change the place, the time and the weather.",
    "I cannot do that. What I can change is where they are, what they have, the time of day and the weather.",
    "They only stand in one way, sorry. I can draw them {place}, or at night.",
    "I cannot move them about. Shall I draw {a} {place}?",
)  # fmt: skip


def plainer(rng: random.Random, told: Iterable[Exchange], split: Split) -> tale.Story | None:
    """Return a conversation as far as the storybook can paint it, ending with a refusal where a user asks for more.

    Args:
        rng: Chooses the words of a refusal, and which refusals are kept.
        told: The conversation, which is asked for as far as it is needed.
        split: Its split.

    Returns:
        None if nothing of it is left, or if it would show a composition that is held out from training.
    """
    talk = Talk(rng, split)
    exchanges: list[tale.Exchange] = []
    before = ""
    for exchange in told:
        shown = exchange.user_scene
        if shown and _obstacle(shown) is not None:
            break
        seen = _scene(shown) if shown else None
        if not exchange.panels:
            answer = _fewer(talk, exchange.answer)
            if _BEYOND.search(answer):
                break
            exchanges.append(tale.Exchange(exchange.message, (), seen, answer))
            continue
        obstacles = [found for found in (_obstacle(panel.scene) for panel in exchange.panels) if found]
        if obstacles:
            refusal = _refused(talk, exchange.message, *obstacles[0])
            if refusal and rng.random() < KEPT:
                exchanges.append(tale.Exchange(exchange.message, (), seen, refusal))
            break
        panels = tuple(map(_panel, exchange.panels))
        if _turned(exchange.panels[0]) and panels[0].caption == before:
            answer = _offered(talk, VIEW, here=panels[0].scene.place)
            exchanges.append(tale.Exchange(exchange.message, (), seen, answer))
            continue
        if same(before if asks_nothing(exchange.message) else "", panels):
            break
        if split == "train" and any(_held_out(panel.scene) for panel in panels):
            break
        exchanges.append(tale.Exchange(exchange.message, panels, seen))
        before = panels[-1].caption
    return tale.Story(tuple(exchanges), split) if exchanges else None


def _fewer(talk: Talk, answer: str) -> str:
    """Return an answer in which two animals are the most, where the picture book's says three."""
    if not _THREE.search(answer):
        return answer
    fewer = answer.replace("up to three of them", "up to two of them")
    return _offered(talk, TWO) if fewer == answer else fewer


def _obstacle(scene: Scene) -> tuple[str, str] | None:
    """Return what the storybook cannot paint of a scene: its kind, and its value; None if it can paint all."""
    species = [actor.species for actor in scene.characters]
    things = {*scene.props, *(actor.held for actor in scene.characters if actor.held)}
    beyond = [
        *(("species", name) for name in species if name not in storybook.SPECIES),
        *(("place", name) for name in (scene.place,) if name not in storybook.PLACES),
        *(("prop", name) for name in sorted(things) if name not in storybook.PROPS),
        *(("accessory", actor.accessory) for actor in scene.characters if actor.accessory != "none"),
    ]
    if beyond:
        return beyond[0]
    if len(species) > 2:
        return "count", ""
    if len({*species}) < len(species):
        return "alike", species[0]
    return ("things", "") if len(things) > 1 else None


def _refused(talk: Talk, message: str, kind: str, value: str) -> str | None:
    """Return how a message is refused that asks for what cannot be painted; None if it does not ask for that."""
    asked = read(message, loose=True)
    if kind in ("count", "alike", "things"):
        if kind == "things" and len(asked.of("prop")) < 1:
            return None
        return _offered(talk, {"count": TWO, "alike": ALIKE, "things": THINGS}[kind])
    if not _asks(asked, kind, value):
        return None
    # Naming what it is teaches to look for it: a refusal that fits everything is soon the answer to everything.
    frames = _NAMING if talk.rng.random() < NAMED else said.REFUSALS
    thing = {**_WEAR, "fair": "a fair", "lake": "a lake"}.get(value) or article(value)
    return _offered(talk, frames, thing=thing)


def _asks(asked: Reading, kind: str, value: str) -> bool:
    return value in (asked.species if kind == "species" else asked.of(kind))


def _offered(talk: Talk, frames: tuple[str, ...], *, here: str = "", thing: str = "") -> str:
    """Fill an answer that offers what the storybook has.

    Args:
        talk: Fills it.
        frames: To choose from.
        here: Place where nobody is to be sent: they are there.
        thing: What is refused; it alone may be unknown to the storybook.
    """
    while True:
        answer = talk.offering(frames, thing="{thing}", thing_c="{thing_c}")
        if not _BEYOND.search(answer) and not (here and PLACE_PHRASES[here][0] in answer):
            return answer.format(thing=thing, thing_c=thing[:1].upper() + thing[1:])


def _turned(panel: Panel) -> bool:
    """Return whether somebody asked how near a character is, or where it looks."""
    return any(facts & {"near", "facing"} for facts in panel.said)


def same(before: str, panels: Sequence[tale.Panel]) -> bool:
    """Return whether a picture would be the one before again: what differs is nothing that the storybook paints."""
    captions = [before, *(panel.caption for panel in panels)]
    return any(one == other for one, other in pairwise(captions))


def asks_nothing(message: str) -> bool:
    """Return whether a message names nothing that a picture could show: "What happens next?"."""
    asked = read(message, loose=True)
    return not (asked.species or asked.facts or asked.denied)


def _held_out(scene: storybook.Scene) -> bool:
    """Return whether a picture shows a composition that the storybook's trainings must not see."""
    parts = (composition_split(actor.species, scene.place, scene.prop) for actor in scene.characters)
    return any(part != "train" for part in parts)


def _scene(scene: Scene) -> storybook.Scene:
    things = [*scene.props, *(actor.held for actor in scene.characters if actor.held)]
    actors = tuple(storybook.Character(actor.species, actor.look) for actor in scene.characters)
    return storybook.Scene(actors, things[0] if things else None, scene.place, scene.light, scene.weather)


def _panel(panel: Panel) -> tale.Panel:
    """Return a panel with the storybook's caption: with names, and with the looks that somebody asked for."""
    scene = _scene(panel.scene)
    looks = tuple(index for index, facts in enumerate(panel.said) if "look" in facts)
    text = storybook.caption(scene, looks=looks)
    for index, (actor, name) in enumerate(zip(scene.characters, panel.names, strict=True)):
        kind = f"{actor.look} {actor.species}" if index in looks else actor.species
        if name:
            text = re.sub(rf"\ban? {kind}\b", f"{name} the {kind}", text, count=1)
    return tale.Panel(panel.text, scene, text, "none", looks, panel.names if any(panel.names) else ())
