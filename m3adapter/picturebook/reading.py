"""Reads what a caption or a message says: which animals, how many, where, when, and what they do, wear and feel.

It knows the words of `vocabulary`. With `loose`, it knows those, too, that only messages have.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from . import vocabulary as words
from .message_words import OTHER_WORDS
from .world import LIGHTS, LOOKS, PLACES, PROPS, SPECIES, WEATHERS

_ACTIONS = {
    "sleeps": ("sleep", "sleeps", "sleeping", "asleep", "nap", "naps", "napping", "doze", "dozes", "dozing", "in bed",
    "in a bed"),
    "jumps": ("jump", "jumps", "jumping", "leap", "leaps", "leaping", "hop", "hops", "hopping", "bounce", "bounces",
              "bouncing"),
    "runs": ("run", "runs", "running", "race", "races", "racing", "dash", "dashes", "dashing", "hurry", "hurries",
             "hurrying", "sprints", "sprinting"),
    "swims": ("swim", "swims", "swimming", "bath", "bathing", "in the water", "splash", "splashes", "splashing",
    "paddle",
              "paddles", "paddling"),
    "holds": ("hold", "holds", "holding", "carry", "carries", "carrying", "clutching", "bring", "brings", "bringing",
              "in its arms", "in their arms", "in his arms", "in her arms"),
    "hides": ("hide", "hides", "hiding", "hidden", "hide and seek", "peek", "peeks", "peeking", "behind a bush",
              "behind the bushes", "behind a rock", "behind a stone", "behind"),
}  # fmt: skip
_MOODS = {
    "happy": (*words.MOOD_WORDS["happy"], "happily", "smile", "smiles", "laughing", "laughs"),
    "sad": (*words.MOOD_WORDS["sad"], "cries", "weeps", "sadly", "tears"),
    "afraid": (*words.MOOD_WORDS["afraid"], "fear", "trembling"),
    "calm": words.MOOD_WORDS["calm"],
}
_ACCESSORIES = {"scarf": ("scarf", "scarves"), "hat": ("hat", "top hat", "hats"), "glasses": ("glasses", "spectacles")}
_NUMBERS = {"two": 2, "2": 2, "pair": 2, "couple": 2, "both": 2, "three": 3, "3": 3, "trio": 3, "four": 4, "4": 4,
            "five": 5, "5": 5, "six": 6, "6": 6, "seven": 7, "7": 7, "eight": 8, "8": 8}  # fmt: skip
_NOT = frozenset(("no", "not", "without", "never", "isn't", "doesn't", "don't", "nobody"))
# Where a denial ends: "it does not like the rain" and "do not forget the drum" have rain and a drum.
_AND_YET = frozenset((",", ".", ";", "!", "?", "but", "like", "likes", "forget", "forgets"))
_BEFORE = frozenset(("a", "an", "the", "another", "one", "of", *_NUMBERS))
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+|[.;,!?]")


@dataclass(frozen=True)
class Reading:
    """What a text says.

    Attributes:
        species: How many of each there are.
        looks: The colours that are said of each species.
        facts: By field ("place", "light", "weather", "prop", "action", "mood", "accessory", "facing"): the values.
        denied: As `facts`, for what the text says is not so.
    """

    species: Counter[str] = field(default_factory=Counter)
    looks: dict[str, set[str]] = field(default_factory=dict)
    facts: dict[str, set[str]] = field(default_factory=dict)
    denied: dict[str, set[str]] = field(default_factory=dict)

    def of(self, name: str) -> set[str]:
        """Return the values of a field."""
        return self.facts.get(name, set())


@lru_cache
def _phrases(loose: bool) -> dict[tuple[str, ...], tuple[str, str]]:
    """Return the field and the value that every known phrase names."""
    known: dict[tuple[str, ...], tuple[str, str]] = {}

    def add(name: str, value: str, phrases: tuple[str, ...]) -> None:
        for phrase in phrases:
            known.setdefault(tuple(token.lower() for token in _TOKEN.findall(phrase)), (name, value))

    for species in SPECIES:
        add("species", species, (species, *words.SYNONYMS.get(species, ())))
    for place in PLACES:
        add("place", place, (place, *words.PLACE_PHRASES[place], *words.PLACE_WORDS.get(place, ())))
    for light in LIGHTS:
        add("light", light, (*words.LIGHT_PHRASES[light], *words.LIGHT_WORDS[light]))
    for weather in WEATHERS:
        add("weather", weather, (*words.WEATHER_PHRASES[weather], *words.WEATHER_WORDS[weather]))
    add("light", "night", ("moon", "stars", "dark", "midnight", "moonlight"))
    add("light", "day", ("sun is up",))
    add("light", "sunset", ("dusk", "twilight", "evening sun", "sun is setting", "sun sets"))
    add("weather", "clear", ("fine", "sky is clear", "not a cloud", "sunny", "nice weather"))
    add("weather", "rain", ("raining", "rains", "raindrops"))
    add("weather", "snow", ("snowing", "snows", "snowflakes", "winter"))
    for prop in PROPS:
        add("prop", prop, (prop, prop + "s", *words.PROP_SYNONYMS.get(prop, ())))
    add("place", "camp", ("tent", "campfire", "campsite"))
    add("place", "fair", ("circus", "funfair"))
    for name, table in (("action", _ACTIONS), ("mood", _MOODS), ("accessory", _ACCESSORIES)):
        for value, phrases in table.items():
            add(name, value, phrases)
    for side in ("left", "right"):
        add(
            "facing",
            side,
            (f"facing {side}", f"looking {side}", f"looking to the {side}", f"facing the {side}", f"looks {side}"),
        )
    for look in LOOKS:
        add("look", look, words.LOOK_WORDS.get(look, (look,)))
    if loose:
        for word, others in OTHER_WORDS.items():
            found = known.get(tuple(_TOKEN.findall(word)))
            if found:
                add(found[0], found[1], others)
    return known


@lru_cache
def _plurals(loose: bool) -> dict[tuple[str, ...], str]:
    """Return the species that every plural names."""
    plurals = {}
    for phrase, (name, value) in _phrases(loose).items():
        if name == "species":
            last = phrase[-1]
            plural = (*phrase[:-1], words.PLURALS.get(last, last + "s"))
            plurals[plural] = value
    return plurals


@lru_cache
def _lengths(loose: bool) -> dict[str, int]:
    """Return the number of words of the longest phrase that begins with each word."""
    found: dict[str, int] = {}
    for phrase in (*_phrases(loose), *_plurals(loose)):
        found[phrase[0]] = max(found.get(phrase[0], 0), len(phrase))
    return found


def read(text: str, *, loose: bool = False) -> Reading:
    """Return what a text says.

    Args:
        text: A caption, or a message.
        loose: Whether the words that only messages have are known, too.
    """
    typed = _TOKEN.findall(text.replace("’", "'"))
    tokens = [re.sub(r"'s?$", "", token.lower()) if token.lower() not in _NOT else token.lower() for token in typed]
    phrases, plurals = _phrases(loose), _plurals(loose)
    lengths = _lengths(loose)
    reading = Reading()
    at = 0
    while at < len(tokens):
        for size in range(min(lengths.get(tokens[at], 0), len(tokens) - at), 0, -1):
            phrase = tuple(tokens[at : at + size])
            if phrase in phrases or phrase in plurals:
                name, value = phrases.get(phrase) or ("species", plurals[phrase])
                several = phrase in plurals and phrase not in phrases or _count(tokens, at) > 1
                _take(reading, name, value, tokens, typed, at, size, several)
                at += size
                break
        else:
            at += 1
    return reading


def _take(
    reading: Reading, name: str, value: str, tokens: list[str], typed: list[str], at: int, size: int, several: bool
) -> None:
    """Add what the phrase at a position says."""
    if _denied(tokens, at):
        reading.denied.setdefault(name, set()).add(value)
        return
    if name == "look":
        return  # it belongs to the species beside it
    if name != "species":
        reading.facts.setdefault(name, set()).add(value)
        return
    start = at
    adjectives: list[str] = []
    while start > 0 and at - start < 5 and tokens[start - 1] not in _BEFORE and tokens[start - 1].isalpha():
        if (
            _phrases(False).get((tokens[start - 1],), ("",))[0] not in ("look", "mood")
            and tokens[start - 1] != "little"
        ):
            break
        start -= 1
        adjectives.append(tokens[start])
    looks = {value for word in adjectives for kind, value in [_phrases(False).get((word,), ("", ""))] if kind == "look"}
    after = tokens[at + size : at + size + 4]
    if after[:1] in (["is"], ["are"], ["becomes"], ["turns"]):
        found = [_phrases(False).get((word,), ("", "")) for word in after[1:]]
        looks |= {look for kind, look in found[: 1 if after[1:2] else 0] if kind == "look"}
        if not looks and after[2:3] == ["and"]:
            looks |= {look for kind, look in found if kind == "look"}
    if looks:
        reading.looks.setdefault(value, set()).update(looks)
    before = tokens[start - 1] if start else ""
    named = before == "the" and start > 1 and typed[start - 2][:1].isupper() and tokens[start - 2].isalpha()
    if before == "the" and not named and value in reading.species:
        return  # told of before
    if not before and value in reading.species:
        return
    reading.species[value] += max(_count(tokens, start), 2 if several else 1)


def _count(tokens: list[str], at: int) -> int:
    """Return the number before a noun, 1 if there is none."""
    for token in reversed(tokens[max(0, at - 3) : at]):
        if token in _NUMBERS:
            return _NUMBERS[token]
        if token in ("a", "an", "the", "another", "and", ",", ".", ";"):
            return 1
    return 1


def _denied(tokens: list[str], at: int) -> bool:
    """Return whether a phrase follows a "no", "not" or "without" closely."""
    for token in reversed(tokens[max(0, at - 3) : at]):
        if token in _NOT:
            return True
        if token in _AND_YET:
            return False
    return False
