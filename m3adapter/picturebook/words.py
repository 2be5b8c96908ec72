"""How a scene of the picture book is put into words.

A caption is a sentence about some of what a picture shows: of every character what it looks like, wears, does and
feels may be said or left out. What is left out is free, or for a reference to tell.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .world import SIDEWAYS, Character, Scene, Split

T = TypeVar("T")

LONGEST = 44  # words of a caption, so that it fits the text encoders
FACTS = ("look", "accessory", "action", "mood", "facing", "near")  # of a character
SCENE_FACTS = ("place", "light", "weather", "props", "spot")

SYNONYMS = {
    "rabbit": ("bunny", "hare", "bunny rabbit"),
    "squirrel": ("chipmunk",),
    "turtle": ("tortoise",),
    "elephant": ("baby elephant",),
    "dinosaur": ("dino",),
    "duck": ("duckling",),
    "owl": ("owlet",),
    "cat": ("kitten", "kitty"),
    "dog": ("puppy", "hound", "doggy"),
    "pig": ("piglet", "piggy"),
    "sheep": ("lamb", "ewe"),
    "mouse": ("little mouse",),
    "kangaroo": ("joey",),
    "frog": ("toad",),
    "bear": ("bear cub", "grizzly"),
    "fox": ("fox cub", "vixen"),
    "lion": ("lion cub",),
    "monkey": ("ape",),
    "tiger": ("tiger cub",),
    "horse": ("pony", "foal"),
    "cow": ("calf", "bull"),
    "panda": ("panda bear",),
}
PLURALS = {"sheep": "sheep", "mouse": "mice", "fox": "foxes", "calf": "calves", "pony": "ponies", "kitty": "kitties",
           "puppy": "puppies", "bunny": "bunnies"}  # fmt: skip
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
LOOK_WORDS = {"grey": ("grey", "gray"), "purple": ("purple", "violet")}
ACCESSORY_PHRASES = {
    "scarf": ("with a scarf", "wearing a scarf", "in a scarf", "with a red scarf", "that wears a scarf"),
    "hat": ("with a hat", "wearing a hat", "in a hat", "with a top hat", "that wears a hat"),
    "glasses": ("with glasses", "wearing glasses", "in glasses", "with a pair of glasses", "that wears glasses"),
    "none": ("with nothing on", "without a hat", "without a scarf", "without glasses"),
}
ACCESSORY_WORDS = {
    "scarf": ("wears a scarf", "has a scarf"),
    "hat": ("wears a hat", "has a hat"),
    "glasses": ("wears glasses", "has glasses"),
    "none": ("wears nothing", "has nothing on"),
}
MOOD_WORDS = {
    "calm": ("calm", "quiet"),
    "happy": ("happy", "cheerful", "smiling", "glad", "joyful", "merry"),
    "sad": ("sad", "unhappy", "crying", "tearful", "weeping", "sorrowful"),
    "afraid": ("afraid", "scared", "frightened", "terrified", "fearful", "anxious"),
}
BEHIND_ONLY = frozenset(("afraid",))  # "the fox is afraid", but no "afraid fox"
# What somebody is doing: as a participle, and as a verb for one and for several.
DOING = {
    "stands": ("standing", "waiting", "standing still"),
    "sleeps": ("sleeping", "asleep", "sleeping in a bed", "taking a nap", "fast asleep", "dozing", "napping"),
    "jumps": ("jumping", "leaping", "hopping", "jumping high", "jumping up and down", "bouncing"),
    "runs": ("running", "racing", "running fast", "running along", "dashing", "hurrying"),
    "swims": ("swimming", "swimming in the water", "bathing", "in the water", "splashing in the water", "paddling"),
    "holds": ("holding {held}", "carrying {held}", "with {held} in its arms", "holding up {held}", "bringing {held}",
              "clutching {held}"),
    "hides": ("hiding", "hiding behind {cover}", "behind {cover}", "peeking out from behind {cover}", "hidden",
              "playing hide and seek"),
}  # fmt: skip
DOES = {
    "stands": (("stands", "stand"), ("waits", "wait"), ("is standing", "are standing")),
    "sleeps": (("is sleeping", "are sleeping"), ("sleeps", "sleep"), ("is asleep", "are asleep"),
               ("takes a nap", "take a nap"), ("lies in bed", "lie in bed"), ("naps", "nap")),
    "jumps": (("is jumping", "are jumping"), ("jumps", "jump"), ("leaps", "leap"), ("hops", "hop"),
              ("jumps for joy", "jump for joy"), ("bounces", "bounce")),
    "runs": (("is running", "are running"), ("runs", "run"), ("races", "race"), ("runs away", "run away"),
             ("hurries", "hurry"), ("dashes", "dash")),
    "swims": (("is swimming", "are swimming"), ("swims", "swim"), ("is in the water", "are in the water"),
              ("takes a bath", "take a bath"), ("goes for a swim", "go for a swim"), ("paddles", "paddle")),
    "holds": (("is holding {held}", "are holding {held}"), ("holds {held}", "hold {held}"),
              ("carries {held}", "carry {held}"), ("has {held} in its arms", "have {held} in their arms"),
              ("brings {held}", "bring {held}")),
    "hides": (("is hiding", "are hiding"), ("hides", "hide"), ("hides behind {cover}", "hide behind {cover}"),
              ("is hiding behind {cover}", "are hiding behind {cover}"), ("peeks out", "peek out")),
}  # fmt: skip
PLACE_PHRASES = {
    "forest": ("in the forest", "in the woods", "among the trees"),
    "beach": ("on the beach", "at the beach", "by the sea", "at the seaside"),
    "desert": ("in the desert", "among the cacti"),
    "mountains": ("in the mountains", "by the mountains"),
    "city": ("in the city", "in town", "in the street"),
    "meadow": ("on the meadow", "in the meadow", "in a field of flowers"),
    "castle": ("at the castle", "by the castle", "in front of a castle"),
    "village": ("in the village", "in a little village"),
    "volcano": ("by the volcano", "at the volcano", "near a volcano"),
    "camp": ("at the camp", "by the tent", "at the campfire", "camping"),
    "lake": ("by the lake", "at the lake"),
    "fair": ("at the fair", "at the circus", "at the funfair"),
}
PLACE_WORDS = {"mountains": ("mountains",), "beach": ("beach", "seaside"), "forest": ("forest", "woods")}
LIGHT_PHRASES = {
    "day": ("by day", "during the day", "in the daytime", "in broad daylight"),
    "sunset": ("at sunset", "in the evening", "at dusk", "as the sun sets", "in the evening light"),
    "night": ("at night", "by night", "in the dark", "under the moon", "in the moonlight", "under the stars"),
}
LIGHT_WORDS = {"day": ("day", "daytime"), "sunset": ("sunset", "evening"), "night": ("night",)}
WEATHER_PHRASES = {
    "clear": ("in fine weather", "without rain", "under a clear sky", "without snow", "with no rain or snow"),
    "rain": ("in the rain", "while it rains", "in rainy weather", "on a rainy day", "as it rains"),
    "snow": ("in the snow", "while it snows", "in snowy weather", "in winter", "as it snows"),
}
WEATHER_WORDS = {"clear": ("no rain", "no snow", "fine weather"), "rain": ("rain", "rainy"), "snow": ("snow", "snowy")}
BESIDE = ("with", "next to", "beside", "near", "by")
PROP_SYNONYMS = {"gift": ("present",), "cake": ("birthday cake",), "ball": ("football", "soccer ball"),
                 "bucket": ("pail",), "book": ("story book",), "lantern": ("paper lantern",)}  # fmt: skip
SPOT_PHRASES = {"left": ("on the left",), "middle": ("in the middle",), "right": ("on the right",)}
OPENINGS = ("a picture of", "show me", "please draw", "there is", "an illustration of", "i want to see", "paint",
            "a drawing of", "once there was", "look at", "imagine")  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a caption tells of a scene.

    Attributes:
        characters: For each character the facts of FACTS that are said; the species always is.
        scene: Those of SCENE_FACTS.
    """

    characters: tuple[frozenset[str], ...]
    scene: frozenset[str] = field(default_factory=frozenset)


def article(noun: str) -> str:
    """The noun (or adjective and noun) with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def allowed(items: Sequence[T], split: Split) -> Sequence[T]:
    """The part of a list of wordings that a split may use.

    Of lists of five and more the last is the test's and the one before it the validation's; shorter ones are shared.
    """
    if len(items) < 5:
        return items
    return items[:-2] if split == "train" else items[-2:-1] if split == "validation" else items[-1:]


def draw_said(rng: random.Random, scene: Scene) -> Said:
    """Which facts to tell. Looks are free as often as said; what nobody would expect is seldom left out."""
    talkative = rng.random()  # of some pictures much is said, of others little
    characters = []
    for actor in scene.characters:
        said = {fact for fact in ("look", "accessory") if rng.random() < 0.25 + 0.5 * talkative}
        said |= {fact for fact in ("facing", "near") if rng.random() < 0.3 * talkative}
        for fact, plain in (("action", actor.action == "stands"), ("mood", actor.mood == "calm")):
            if rng.random() < (0.15 * talkative + 0.02 if plain else 0.92):
                said.add(fact)
        if actor.accessory == "none" and rng.random() < 0.7:
            said.discard("accessory")
        if actor.species not in SIDEWAYS:
            said.discard("facing")
        characters.append(frozenset(said))
    told = {"place"} if rng.random() < 0.93 else set()
    for fact, plain in (("light", scene.light == "day"), ("weather", scene.weather == "clear")):
        if rng.random() < (0.12 * talkative + 0.02 if plain else 0.97):
            told.add(fact)
    if scene.props and rng.random() < 0.97:
        told.add("props")
    if len(scene.characters) == 1 and rng.random() < 0.25 * talkative:
        told.add("spot")
    return Said(tuple(characters), frozenset(told))


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


def caption(scene: Scene, said: Said, rng: random.Random | None = None, *, split: Split = "train") -> str:
    """The scene in words.

    Args:
        scene: What to describe.
        said: What to tell of it.
        rng: Chooses the wording; without it the caption is the canonical one, in which stories' captions are written:
            "a blue fox with a scarf is sleeping in the forest at night next to a key".
        split: Whose wordings to use.
    """
    voice = _Voice(rng, split)
    if voice.chance(0.08):
        return _list(scene, said, voice)
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
    main = _who(scene, [told - late for told, late in zip(said.characters, behind, strict=True)], voice, finite)
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
    asides = [_aside(actor, late, voice) for actor, late in zip(scene.characters, behind, strict=True) if late]
    if asides:
        text += (", " if voice.chance(0.6) else ". ") + " and ".join(asides)
    if voice.chance(0.18):
        text = re.sub(r"\b(a|an|the) ", "", text)
    return text + "." if voice.chance(0.15) else text


def aside(scene: Scene, known: Sequence[int], plain: str) -> str:
    """A caption with the looks that only references tell: "..., the fox is blue and wears a scarf"."""
    voice = _Voice(None, "train")
    parts = [_aside(scene.characters[index], frozenset(("look", "accessory")), voice) for index in known]
    return f"{plain}, {' and '.join(parts)}" if parts else plain


def captioned(rng: random.Random, scene: Scene, *, split: Split = "train") -> str:
    """One of the scene's captions."""
    while True:
        text = caption(scene, draw_said(rng, scene), rng, split=split)
        if len(re.findall(r"\w+|[^\w\s]", text)) <= LONGEST:
            return text


def _name(actor: Character, voice: _Voice) -> str:
    return voice.pick(SYNONYMS[actor.species]) if actor.species in SYNONYMS and voice.chance(0.15) else actor.species


def _plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def _prop(name: str, voice: _Voice) -> str:
    return article(voice.pick(PROP_SYNONYMS[name]) if name in PROP_SYNONYMS and voice.chance(0.15) else name)


def _noun_phrase(actor: Character, told: frozenset[str], voice: _Voice, other: bool) -> str:
    """A character with what is said of it, but for what it does."""
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
    return " ".join([f"another {noun}" if other else article(noun), *after])


def _doing(actor: Character, place: str, voice: _Voice, verb: bool, several: bool) -> str:
    chosen = voice.pick((DOES if verb else DOING)[actor.action])
    text = chosen[several] if verb else chosen
    from .render import ROCKY

    cover = voice.pick(("a rock", "a stone")) if place in ROCKY else voice.pick(("a bush", "the bushes"))
    return text.format(held=_prop(actor.held, voice) if actor.held else "", cover=cover)


def _who(scene: Scene, told: list[frozenset[str]], voice: _Voice, finite: bool) -> str:
    """All characters with what they do."""
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
    if len(actors) > 1 and alike and plain and same_held:
        names = f"{voice.pick(NUMBERS[len(actors)])} {_plural(_name(actors[0], voice))}"
        return f"{names} {_doing(actors[0], scene.place, voice, finite, True)}" if "action" in told[0] else names
    parts, seen = [], set()
    acts = [actor.action if "action" in said else None for actor, said in zip(actors, told, strict=True)]
    together = (
        len(actors) > 1 and len(set(acts)) == 1 and acts[0] and same_held and (voice.rng is None or voice.chance(0.6))
    )
    for actor, said, act in zip(actors, told, acts, strict=True):
        part = _noun_phrase(actor, said, voice, actor.species in seen)
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


def _aside(actor: Character, facts: frozenset[str], voice: _Voice) -> str:
    """Facts of a character behind the caption: "the fox is blue and sad and wears a hat"."""
    words = [actor.look] if "look" in facts else []
    if "mood" in facts:
        words.append(voice.pick(MOOD_WORDS[actor.mood]))
    parts = [f"is {' and '.join(words)}"] if words else []
    if "accessory" in facts:
        parts.append(voice.pick(ACCESSORY_WORDS[actor.accessory]))
    return f"the {actor.species} {' and '.join(parts)}"


def _list(scene: Scene, said: Said, voice: _Voice) -> str:
    """The facts one after the other: "fox, blue, sleeping, beach, sunset"."""
    parts = []
    for actor, told in zip(scene.characters, said.characters, strict=True):
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
