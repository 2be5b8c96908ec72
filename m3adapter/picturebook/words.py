"""Captions of the picture book.

A caption is a sentence about some of what a picture shows: of every character it may say what it looks like, wears,
does and feels. Whatever it does not say is free, or a reference may show it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .vocabulary import (
    ACCESSORY_PHRASES,
    ACCESSORY_WORDS,
    BEHIND_ONLY,
    BESIDE,
    DOES,
    DOING,
    LIGHT_PHRASES,
    LIGHT_WORDS,
    LOOK_WORDS,
    MOOD_WORDS,
    NUMBERS,
    OPENINGS,
    PLACE_PHRASES,
    PLACE_WORDS,
    PLURALS,
    PROP_SYNONYMS,
    SPOT_PHRASES,
    SYNONYMS,
    WEATHER_PHRASES,
    WEATHER_WORDS,
)
from .world import ROCKY, Character, Scene, Split

T = TypeVar("T")

LONGEST = 44  # words of a caption, so that it fits into the text encoders
FACTS = ("look", "accessory", "action", "mood", "facing", "near")  # of a character
SCENE_FACTS = ("place", "light", "weather", "props", "spot")


@dataclass(frozen=True)
class Said:
    """What a caption says about a scene.

    Attributes:
        characters: Which of FACTS are said about each character; the species always is.
        scene: Which of SCENE_FACTS are said.
    """

    characters: tuple[frozenset[str], ...]
    scene: frozenset[str] = field(default_factory=frozenset)


def article(noun: str) -> str:
    """Return a noun (or adjective and noun) with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def allowed(items: Sequence[T], split: Split) -> Sequence[T]:
    """Return the part of a list of wordings that a split may use.

    In lists of at least five, the last wording is for the test and the one before it for validation. Shorter lists are
    shared by all.
    """
    if len(items) < 5:
        return items
    return items[:-2] if split == "train" else items[-2:-1] if split == "validation" else items[-1:]


class _Voice:
    """Chooses wordings: at random among those of a split, or always the first."""

    def __init__(self, rng: random.Random | None, split: Split) -> None:
        self.rng, self.split = rng, split

    def pick(self, items: Sequence[T]) -> T:
        return self.rng.choice(allowed(items, self.split)) if self.rng else items[0]

    def chance(self, part: float) -> bool:
        return self.rng is not None and self.rng.random() < part

    def below(self, stop: int) -> int:
        return self.rng.randrange(stop) if self.rng else 0

    def shuffle(self, items: list[str]) -> None:
        if self.rng:
            self.rng.shuffle(items)


def caption(
    scene: Scene,
    said: Said,
    rng: random.Random | None = None,
    *,
    split: Split = "train",
    names: Sequence[str] = (),
) -> str:
    """Describe a scene in words.

    Args:
        scene: What to describe.
        said: What to say about it.
        rng: Chooses the wording; without it, the caption is the canonical one, as the captions of stories are:
            "a blue fox with a scarf is sleeping in the forest at night next to a key".
        split: Whose wordings to use.
        names: What the characters are called ("Milo the fox"), "" for one without a name; nobody has one by default.
    """
    voice = _Voice(rng, split)
    if voice.chance(0.08):
        return _list(scene, said, voice, names)
    behind: list[frozenset[str]] = [frozenset() for _ in scene.characters]
    if rng is not None:
        movable = ("look", "accessory", "mood")
        behind = [
            frozenset(fact for fact in movable if fact in told and rng.random() < 0.7)
            if rng.random() < 0.25
            else frozenset()
            for told in said.characters
        ]
    finite = rng is None or rng.random() < 0.5
    main = _who(scene, [told - late for told, late in zip(said.characters, behind, strict=True)], voice, finite, names)
    places = _where(scene, said, voice)
    front, back = [], places
    if voice.chance(0.25):
        cut = voice.below(len(places) + 1)
        front, back = places[:cut], places[cut:]
    text = " ".join([main, *back])
    if front:
        text = " ".join(front) + ", " + text
    elif not finite and voice.chance(0.3) or voice.chance(0.04):
        text = f"{voice.pick(OPENINGS)} {text}"
    asides = [_aside(scene, index, late, voice, names) for index, late in enumerate(behind) if late]
    if asides:
        text += (", " if voice.chance(0.6) else ". ") + " and ".join(asides)
    if voice.chance(0.18):
        text = re.sub(r"\b(a|an|the) ", "", text)
    return text + "." if voice.chance(0.15) else text


def aside(scene: Scene, known: Mapping[int, Collection[str]], plain: str, *, names: Sequence[str] = ()) -> str:
    """Append what only references show to a caption: "..., the fox is blue and wears a scarf".

    Args:
        scene: What the caption describes.
        known: For each character that references show, by its index: which of "look" and "accessory" they tell.
        plain: The caption.
        names: As `caption` takes them; they tell apart characters of one species.
    """
    voice = _Voice(None, "train")
    parts = [_aside(scene, index, facts, voice, names) for index, facts in known.items() if facts]
    return f"{plain}, {' and '.join(parts)}" if parts else plain


def listing(scene: Scene, said: Said) -> str:
    """List the facts in the plainest words: "fox, blue, sleeping, beach, sunset"."""
    return _list(scene, said, _Voice(None, "train"))


def _whom(scene: Scene, index: int, names: Sequence[str], voice: _Voice) -> str:
    """Return how a clause speaks of a character: "the fox", or, among several foxes, "Milo" or "the second fox"."""
    species = scene.characters[index].species
    alike = [place for place, actor in enumerate(scene.characters) if actor.species == species]
    name = names[index] if index < len(names) else ""
    if name and (len(alike) > 1 or voice.chance(0.5)):
        return name
    rank = f"{('first', 'second', 'third')[alike.index(index)]} " if len(alike) > 1 else ""
    return f"the {rank}{species}"


def _name(actor: Character, voice: _Voice) -> str:
    return voice.pick(SYNONYMS[actor.species]) if actor.species in SYNONYMS and voice.chance(0.15) else actor.species


def _plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def _prop(name: str, voice: _Voice) -> str:
    return article(voice.pick(PROP_SYNONYMS[name]) if name in PROP_SYNONYMS and voice.chance(0.15) else name)


def _noun_phrase(actor: Character, told: frozenset[str], voice: _Voice, other: bool, name: str = "") -> str:
    """Describe a character, but not what it does."""
    adjectives, after = [], []
    if "mood" in told:
        word = voice.pick(MOOD_WORDS[actor.mood])
        adjectives.append("scared" if word in BEHIND_ONLY else word)
    if voice.chance(0.06):
        adjectives.append("little")
    if "look" in told:
        adjectives.append(voice.pick(LOOK_WORDS.get(actor.look, (actor.look,))))
    if "accessory" in told:
        after.append(voice.pick(ACCESSORY_PHRASES[actor.accessory]))
    if "facing" in told:
        after.append(
            voice.pick((f"facing {actor.facing}", f"looking {actor.facing}", f"looking to the {actor.facing}"))
        )
    if "near" in told:
        after.append(
            voice.pick(("close up", "up close", "in front") if actor.near else ("far away", "in the distance"))
        )
    noun = " ".join([*adjectives, _name(actor, voice)])
    if name:
        forms = (f"{name} the {noun}", f"{article(noun)} named {name}", f"{article(noun)} called {name}")
        return " ".join([forms[voice.chance(0.2) + voice.chance(0.1)], *after])
    return " ".join([f"another {noun}" if other else article(noun), *after])


def _doing(actor: Character, place: str, voice: _Voice, verb: bool, several: bool) -> str:
    text = voice.pick(DOES[actor.action])[several] if verb else voice.pick(DOING[actor.action])
    cover = voice.pick(("a rock", "a stone")) if place in ROCKY else voice.pick(("a bush", "the bushes"))
    return text.format(held=_prop(actor.held, voice) if actor.held else "", cover=cover)


def _who(scene: Scene, told: list[frozenset[str]], voice: _Voice, finite: bool, names: Sequence[str] = ()) -> str:
    """Describe all characters and what they do."""
    actors = scene.characters
    alike = (
        len(
            {
                (actor.species, actor.action if "action" in said else None)
                for actor, said in zip(actors, told, strict=True)
            }
        )
        == 1
    )
    plain = all(said <= {"action"} for said in told) and len(set(told)) == 1
    same_held = len({actor.held for actor in actors}) == 1
    if len(actors) > 1 and alike and plain and same_held and not any(names):
        group = f"{voice.pick(NUMBERS[len(actors)])} {_plural(_name(actors[0], voice))}"
        return f"{group} {_doing(actors[0], scene.place, voice, finite, True)}" if "action" in told[0] else group
    parts, seen = [], set()
    acts = [actor.action if "action" in said else None for actor, said in zip(actors, told, strict=True)]
    together = (
        len(actors) > 1 and len(set(acts)) == 1 and acts[0] and same_held and (voice.rng is None or voice.chance(0.6))
    )
    called = [*names, *[""] * (len(actors) - len(names))]
    for actor, said, act, name in zip(actors, told, acts, called, strict=True):
        part = _noun_phrase(actor, said, voice, actor.species in seen, name)
        seen.add(actor.species)
        if act and not together:
            part += " " + _doing(actor, scene.place, voice, finite, False)
        parts.append(part)
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text} {_doing(actors[0], scene.place, voice, finite, True)}" if together else text


def _where(scene: Scene, said: Said, voice: _Voice) -> list[str]:
    parts = []
    if "spot" in said.scene:
        parts.append(voice.pick(SPOT_PHRASES[scene.spot]))
    if "place" in said.scene:
        parts.append(voice.pick(PLACE_PHRASES[scene.place]))
    if "light" in said.scene:
        parts.append(voice.pick(LIGHT_PHRASES[scene.light]))
    if "weather" in said.scene:
        parts.append(voice.pick(WEATHER_PHRASES[scene.weather]))
    if "props" in said.scene:
        beside = voice.pick(BESIDE) if voice.rng else "next to"
        parts.append(f"{beside} {' and '.join(_prop(name, voice) for name in scene.props)}")
    if voice.chance(0.4):
        voice.shuffle(parts)
    return parts


def _aside(scene: Scene, index: int, facts: Collection[str], voice: _Voice, names: Sequence[str] = ()) -> str:
    """State facts about a character in a clause of their own: "the fox is blue and sad and wears a hat"."""
    actor = scene.characters[index]
    words = [actor.look] if "look" in facts else []
    if "mood" in facts:
        words.append(voice.pick(MOOD_WORDS[actor.mood]))
    parts = [f"is {' and '.join(words)}"] if words else []
    if "accessory" in facts:
        parts.append(voice.pick(ACCESSORY_WORDS[actor.accessory]))
    return f"{_whom(scene, index, names, voice)} {' and '.join(parts)}"


def _list(scene: Scene, said: Said, voice: _Voice, names: Sequence[str] = ()) -> str:
    """List the facts: "fox, blue, sleeping, beach, sunset"."""
    parts = []
    for index, (actor, told) in enumerate(zip(scene.characters, said.characters, strict=True)):
        name = _name(actor, voice)
        words = []
        if "look" in told:
            name = f"{actor.look} {name}"
        if "mood" in told:
            words.append(voice.pick(MOOD_WORDS[actor.mood]))
        if "accessory" in told:
            words.append(actor.accessory if actor.accessory != "none" else "nothing on")
        if "action" in told:
            words.append(_doing(actor, scene.place, voice, False, False))
        if "facing" in told:
            words.append(f"facing {actor.facing}")
        if "near" in told:
            words.append("close up" if actor.near else "far away")
        if index < len(names) and names[index]:
            name = f"{names[index]} the {name}"
        parts += [name, *words]
    if "spot" in said.scene:
        parts.append(voice.pick(SPOT_PHRASES[scene.spot]))
    if "place" in said.scene:
        parts.append(voice.pick(PLACE_WORDS.get(scene.place, (scene.place,))))
    if "light" in said.scene:
        parts.append(voice.pick(LIGHT_WORDS[scene.light]))
    if "weather" in said.scene:
        parts.append(voice.pick(WEATHER_WORDS[scene.weather]))
    if "props" in said.scene:
        parts += scene.props
    return ", ".join(parts)
