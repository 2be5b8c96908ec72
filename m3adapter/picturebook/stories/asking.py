"""How people describe in a message what a picture should show, from "a fox" to "Owl, castle, night"."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...storybook.wording.choose import allowed, capitalised
from ..vocabulary import LIGHT_PHRASES, NUMBERS, PLACE_PHRASES, PLURALS, SYNONYMS, WEATHER_PHRASES
from ..words import Said, article, caption
from ..world import PROPS, SPECIES
from .stage import Actor, Stage
from .tale import Split

# What a message may ask for. {what}: "a fox on the beach".
WISHES = (
    "{what}", "{what}", "{what}", "{what}.", "{what}!", "Draw {what}.", "Please draw {what}.", "Show me {what}.",
    "A picture of {what}, please.", "I want {what}.", "Can you draw {what}?",
    "Could you paint {what} for my {child}?", "I would like to see {what}.", "My {child} would love {what}.",
    "Tell me about {what}.", "Tell me a story about {what}.", "Once upon a time there was {what}.",
    "How about {what}?", "We need {what} for a birthday card.", "A story: {what}.",
    "Write a bedtime story with {what}.", "There is {what}.", "Let's have {what}.", "Imagine {what}.",
    "Start with {what}.", "Make a picture with {what}.", "It is about {what}.", "Something with {what}, please.",
    "Paint me {what}, will you?", "Do you know the one about {what}?", "Just {what}.",
    "One picture of {what}, nothing else.", "Make it funny: {what}.", "Let us begin. {what}.",
    "Today I feel like {what}.", "Could we see {what}?", "I dreamt of {what}.", "What about a tale of {what}?",
)  # fmt: skip
# What is done with a thing that is held.
USES = {
    "guitar": "plays the guitar", "drum": "plays the drum", "trumpet": "plays the trumpet", "book": "reads a book",
    "apple": "eats an apple", "cake": "eats cake", "kite": "flies a kite", "ball": "plays with a ball",
    "gift": "unwraps a gift",
    "balloon": "plays with a balloon", "key": "finds a key", "lantern": "lights a lantern",
    "umbrella": "opens an umbrella",
    "sunflower": "picks a sunflower", "bucket": "fills a bucket", "rocket": "builds a rocket",
}  # fmt: skip
CHILDREN = ("son", "daughter", "niece", "nephew", "little brother", "grandson", "kids", "class", "twins", "sister")
# {what}: a sentence, "a fox sleeps on the beach".
TOLD = (
    "{what}.", "{what}.", "{what}", "{what}!", "Show me how {what}.", "Draw how {what}.", "One day {what}.",
    "{what}...", "I want to see how {what}.", "Once {what}.", "Story: {what}.", "What does it look like when {what}?",
    "Imagine {what}.", "In my story {what}.", "It begins like this: {what}.", "And now {what}.",
    "Picture this: {what}.", "First, {what}.",
)  # fmt: skip
SEPARATORS = (", ", ",", " + ", " / ", " - ", "; ", ". ", " & ", " ", "\n")
# {name} of {a_kind} ("a little fox") or {kind} ("fox"); {it} and {its} are of the name.
NAMINGS = (
    "{name} the {kind}", "{name} the {kind}", "{a_kind} named {name}", "{a_kind} called {name}", "{name}, {a_kind},",
    "{name} ({a_kind})", "the {kind} {name}", "my {kind} {name}", "a little {kind} named {name}", "{a_kind} ({name})",
    "{a_kind} by the name of {name}", "{a_kind} that we call {name}",
)  # fmt: skip
INTRODUCTIONS = (
    "{name} is {a_kind}.", "My {kind} is called {name}.", "The {kind}'s name is {name}.",
    "There is {a_kind}. Its name is {name}.", "Call the {kind} {name}.", "This is {name}, {a_kind}.",
    "I have {a_kind} and {its} name is {name}.", "Meet {name} the {kind}.", "{name} was {a_kind}.",
    "Please name the {kind} {name}.", "Here comes {name}! {It} is {a_kind}.", "Let the {kind} be called {name}.",
)  # fmt: skip
ABOUT = (
    "Tell me about {who}.", "A story about {who}.", "{who}", "Who is {who}?", "I want to hear about {who}.", "{who}!",
    "Something about {who}, please.", "Draw {who}.", "What is {who} doing?", "A picture of {who}, please.",
    "Where is {who}?",
)  # fmt: skip


def kind_word(rng: random.Random, species: str, split: Split) -> str:
    """Return a word for a species: mostly its own, else a synonym."""
    return rng.choice(allowed(SYNONYMS[species], split)) if species in SYNONYMS and rng.random() < 0.22 else species


def plural(noun: str) -> str:
    """Return the plural of a noun: "foxes", "mice", "tiger cubs"."""
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last, last + 's')}".strip()


def listed(parts: Sequence[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def called(rng: random.Random, actor: Actor, split: Split) -> str:
    """Return how a message speaks of somebody new: "a fox", "Milo the fox", "a pink dog named Bo"."""
    kind = kind_word(rng, actor.character.species, split)
    if "look" in actor.said:
        kind = f"{actor.character.look} {kind}"
    if not actor.name:
        return article(kind)
    return rng.choice(allowed(NAMINGS, split)).format(name=actor.name, kind=kind, a_kind=article(kind)).rstrip(",")


def asked(rng: random.Random, stage: Stage, split: Split, *, place: bool) -> str:
    """Return a message that asks for a stage; it says all that is unusual, and the place if `place`."""
    text = _asked(rng, stage, split, place=place)
    return _negated(rng, text, stage, split) if rng.random() < 0.08 else text


def _negated(rng: random.Random, text: str, stage: Stage, split: Split) -> str:
    """Say what should not be seen: "..., but no snow", "not a dog, ..."."""
    species = {actor.character.species for actor in stage.actors}
    absent = rng.choice([name for name in SPECIES if name not in species])
    thing = rng.choice([prop for prop in PROPS if prop not in stage.things()])
    tails = [
        f" without {article(thing)}",
        f", but no {thing}",
        f", no {thing} please",
        f"; there is no {thing}",
        f", but without {article(absent)}",
        f", and no {absent}",
    ]
    if stage.weather == "clear":
        tails += [
            ", no rain",
            ", no snow",
            ", but it does not rain",
            ", without snow",
            "; it never snows there",
            ", but no snow this time",
        ] * 2
    if stage.light != "night":
        tails += [", but not at night", "; it isn't night", ", not in the dark"]
    if stage.light != "sunset":
        tails += [", not at sunset", ", but no sunset"]
    if all(actor.character.accessory == "none" for actor in stage.actors):
        tails += [" without a hat", ", no scarf", ", and no glasses", "; nobody wears a hat"]
    if all(actor.character.mood != "sad" for actor in stage.actors) and len(stage.actors) == 1:
        tails += [
            "; it is not sad any more",
            ", not sad",
            ", and it isn't afraid" if stage.hero.character.mood != "afraid" else ", not sad",
        ]
    heads = (
        f"not {article(absent)}, ",
        f"no {plural(absent)}, just ",
        "no animals except ",
        f"not {article(absent)} but ",
        f"I don't want {article(absent)}, I want ",
    )
    if text.lower().startswith(("a ", "an ")) and len(stage.actors) == 1 and rng.random() < 0.3:
        return capitalised(rng.choice(allowed(heads, split)) + text[:1].lower() + text[1:])
    return text.rstrip(".!?") + rng.choice(allowed(tails, split))


def _asked(rng: random.Random, stage: Stage, split: Split, *, place: bool) -> str:
    said = stage.said()
    said = Said(said.characters, said.scene if place else said.scene - {"place"})
    names = [actor.name for actor in stage.actors]
    scene = stage.scene()
    draw = rng.random()
    hero = stage.hero
    if len(names) == 1 and hero.character.held in USES and not said.characters[0] - {"action", "look"} and draw < 0.5:
        where = f" {_where(rng, stage, split)}" if place else ""
        if hero.name and rng.random() < 0.5:
            first = rng.choice(allowed(INTRODUCTIONS, split)).format_map(_introduction(rng, stage, split)).rstrip(".")
            text = f"{first} and {'she' if hero.she else 'he'} {USES[hero.character.held]}{where}"
        else:
            text = f"{called(rng, hero, split)} {USES[hero.character.held]}{where}"
        sky = [phrases[0] for phrases in (LIGHT_PHRASES[stage.light], WEATHER_PHRASES[stage.weather])]
        shown = [
            words
            for words, plain in zip(sky, (stage.light == "day", stage.weather == "clear"), strict=True)
            if not plain
        ]
        return _wished(rng, " ".join([text, *shown]), split)
    if any(names):
        if draw < 0.3 and len(names) == 1:
            return _introduced(rng, stage, said, split)
        text = caption(scene, said, rng, split=split, names=names)
        kinds = {actor.character.species for actor in stage.actors}
        if len(kinds) == 1 and len(names) > 1 and all(names) and not any(said.characters) and rng.random() < 0.6:
            number = rng.choice(NUMBERS[len(names)][:2])
            where = f" {_where(rng, stage, split)}" if place else ""
            text = f"{number} {plural(kinds.pop())}, {listed(names)},{where}".rstrip(",")
        elif len(names) == 2 and not any("action" in facts for facts in said.characters) and rng.random() < 0.3:
            verb = rng.choice((" meets ", " plays with ", " visits ", " says hello to ", " is a friend of "))
            text = text.replace(" and ", verb, 1)
        return _wished(rng, _renamed(rng, text, stage.actors, split), split)
    if draw < 0.16:
        return _keywords(rng, stage, said, split)
    if draw < 0.2 and stage.props and len(stage.actors) == 1 and len(stage.props) == 1 and not said.characters[0]:
        owner = kind_word(rng, stage.hero.character.species, split)
        where = f" {_where(rng, stage, split)}" if place else ""
        return _wished(rng, f"{rng.choice(('the', 'a'))} {owner}'s {stage.props[0]}{where}", split)
    return _wished(rng, _counted(rng, stage, caption(scene, said, rng, split=split)), split)


def _counted(rng: random.Random, stage: Stage, text: str) -> str:
    """Count some alike in other ways, or leave it to the plural: "foxes at the lake"."""
    for actor in stage.actors:
        species = actor.character.species
        text = text.replace(f"{article(species)}, another {species}", f"two {plural(species)}")
    if len(stage.actors) != 2:
        return text
    for number in NUMBERS[2]:
        if f"{number} " in text and rng.random() < 0.5:
            return text.replace(f"{number} ", rng.choice(("", "", "a couple of ", "both ", "Two ", "some ")), 1)
    return text


def _wished(rng: random.Random, text: str, split: Split) -> str:
    """Put the description into a sentence that suits it."""
    bare = text.rstrip(".")
    finite = any(
        f" {word} " in f" {bare} " for word in ("is", "are", "sleeps", "jumps", "runs", "hides", "holds", "carries")
    )
    if rng.random() < 0.35 or ". " in bare or bare.split(" ")[0] in _HEADED:
        return capitalised(text) if rng.random() < 0.5 else text
    frame = rng.choice(allowed(TOLD if finite else WISHES, split))
    return capitalised(frame.format(what=bare, child=rng.choice(CHILDREN)))


_HEADED = frozenset(("show", "please", "paint", "look", "imagine", "i", "there", "once"))


def _renamed(rng: random.Random, text: str, actors: Sequence[Actor], split: Split) -> str:
    """Introduce those with names in other ways than "Milo the fox"."""
    for actor in actors:
        plain = f"{actor.name} the {actor.character.species}"
        if actor.name and plain in text and rng.random() < 0.6:
            text = text.replace(plain, called(rng, Actor(0, actor.character, actor.name), split), 1)
    return text


def _introduced(rng: random.Random, stage: Stage, said: Said, split: Split) -> str:
    """Introduce a character by name in one sentence, and say in another one what it does."""
    slots = _introduction(rng, stage, split)
    it = slots["It"].lower()
    hero = stage.hero
    if said.scene or said.characters[0]:
        first = rng.choice(allowed(INTRODUCTIONS, split)).format(**slots)
        return f"{first} {capitalised(_of_name(rng, stage, said, it))}."
    return rng.choice(allowed(ABOUT, split)).format(who=called(rng, hero, split))


def _introduction(rng: random.Random, stage: Stage, split: Split) -> dict[str, str]:
    """Return the slots of a sentence that introduces the hero by name."""
    hero = stage.hero
    kind = kind_word(rng, hero.character.species, split)
    it = ("she" if hero.she else "he") if rng.random() < 0.7 else "it"
    its = {"she": "her", "he": "his", "it": "its"}[it]
    return {"name": hero.name, "kind": kind, "a_kind": article(kind), "It": it.capitalize(), "its": its}


def _of_name(rng: random.Random, stage: Stage, said: Said, it: str) -> str:
    """Say what the hero does: "Pip is sleeping in the forest", "she is at the fair"."""
    text = caption(stage.scene(), said, names=[stage.hero.name])
    who = stage.hero.name if rng.random() < 0.5 else it
    plain = f"{stage.hero.name} the {stage.hero.character.species}"
    if plain not in text:  # its look or mood stands in between
        return text
    rest = text.replace(plain, "", 1).strip()
    verb = "" if "action" in said.characters[0] and rest.split(" ")[0] != "with" else "is "
    return f"{who} {verb}{rest}".strip()


def _where(rng: random.Random, stage: Stage, split: Split) -> str:
    return rng.choice(allowed(PLACE_PHRASES[stage.place], split))


def _keywords(rng: random.Random, stage: Stage, said: Said, split: Split) -> str:
    """List what should be seen: "Owl. Castle. Night."."""
    actors = [actor.character for actor in stage.actors]
    words = []
    if len(actors) > 1 and len({actor.species for actor in actors}) == 1:
        words.append(f"{rng.choice(NUMBERS[len(actors)][:2])} {plural(actors[0].species)}")
    else:
        for actor, told in zip(actors, said.characters, strict=True):
            words.append(f"{actor.look} {actor.species}" if "look" in told else kind_word(rng, actor.species, split))
    for actor, told in zip(actors, said.characters, strict=True):
        words += [actor.mood] if "mood" in told else []
        words += [{"none": "no hat"}.get(actor.accessory, actor.accessory)] if "accessory" in told else []
        if "action" in told:
            words.append({"stands": "standing", "sleeps": "asleep", "jumps": "jumping", "runs": "running",
                "swims": "swimming",
                          "hides": "hiding", "holds": f"holding {actor.held}"}[actor.action])  # fmt: skip
        words += [f"facing {actor.facing}"] if "facing" in told else []
        words += ["close up" if actor.near else "far away"] if "near" in told else []
    words += [stage.place] if "place" in said.scene else []
    words += [stage.light] if "light" in said.scene else []
    words += [stage.weather] if "weather" in said.scene and stage.weather != "clear" else []
    words += [f"{rng.choice(('with ', '', 'w/ '))}{prop}" for prop in stage.props] if "props" in said.scene else []
    separator = rng.choice(SEPARATORS)
    text = separator.join(dict.fromkeys(words))
    return ". ".join(word.capitalize() for word in words) + "." if separator == ". " else text
