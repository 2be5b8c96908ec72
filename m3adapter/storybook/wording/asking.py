"""Messages of users, composed of the wordings in openings.py, requests.py and people.py."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..world import PLACE_PHRASES, article
from . import openings, people, requests
from .choose import Split, fill, pick, pick_fitting
from .noise import gibberish

INVENTED = 0.4  # part of the training's wishes for a number of pictures that call pictures by an invented word
FRAMED = 0.6  # part of them that stand in a frame put together on the spot
PRAISED = 0.35  # part of the training's fillers that praise pictures and wish no number of them


@dataclass(frozen=True)
class Premise:
    """What an opening names; "" or None is left to the assistant.

    Attributes:
        species: Of the hero; "" if the message does not name it.
        look: A colour that the user names.
        name: Of the hero, which the assistant will use.
        adjective: Of the hero, which the assistant will use.
        friend: The species of a companion.
        prop: As in a Scene.
        place: As in a Scene.
        light: As in a Scene.
        weather: As in a Scene.
        quest: Index into openings.QUESTS.
        stranger: A word for a being that cannot be drawn, instead of the species.
        thing: A word for a thing that cannot be drawn, instead of the prop.
        nowhere: A place that cannot be drawn, instead of the place.
    """

    species: str = ""
    look: str = ""
    name: str = ""
    adjective: str = ""
    friend: str = ""
    prop: str = ""
    place: str = ""
    light: str = ""
    weather: str = ""
    quest: int | None = None
    stranger: str = ""
    thing: str = ""
    nowhere: str = ""


def random_name(rng: random.Random) -> str:
    """Return a first name, known or invented."""
    if rng.random() < 0.6:
        return rng.choice(people.NAMES)
    return people.invented_name(rng)


def opening(rng: random.Random, split: Split, premise: Premise) -> str:
    """Return a message that asks for a story about a premise."""
    if not (premise.species or premise.stranger):
        return _opening_without_hero(rng, split, premise)
    slots = _slots(rng, split, premise)
    draw = rng.random()
    simple = not (
        premise.look or premise.friend or premise.stranger or premise.thing or premise.name or premise.adjective
    )
    if draw < 0.07 and simple and premise.quest is None:
        return _capital(rng, _keywords(rng, premise))
    if draw < 0.42 and premise.quest is None:
        does = pick(rng, openings.DOES_PROP if "a_prop" in slots else openings.DOES, split)
        sentence = _joined(slots["who"], does, slots["where"], slots["when"])
        frame = pick(rng, openings.SENTENCES, split)
        text = frame.format(s=sentence.format_map(slots))
    else:
        relation = pick(rng, openings.WITH_PROP, split) if "a_prop" in slots else ""
        phrase = _joined(slots["who"], relation, slots["quest"], slots["where"], slots["when"])
        text = pick(rng, openings.FRAMES, split).format(x=phrase.format_map(slots))
    text = _capital(rng, text)
    for _ in range(rng.choices((0, 1, 2, 3), (80, 12, 5, 3))[0]):
        text += " " + _filler(rng, split)
    return text


def drawing(rng: random.Random, split: Split, premise: Premise) -> str:
    """Return a message that asks for a picture of a premise."""
    slots = _slots(rng, split, premise, plain=True)
    relation = (
        rng.choice(("with {a_prop}", "with {a_prop}", "and {a_prop}", "holding {a_prop}")) if premise.prop else ""
    )
    phrase = _joined(slots["who"], relation, slots["where"], slots["when"]).format_map(slots)
    return _capital(rng, pick(rng, requests.DRAW, split).format(x=phrase))


def nothing_special(rng: random.Random, split: Split) -> str:
    """Return a message that names nothing: a request for any story, small talk, or gibberish."""
    draw = rng.random()
    if draw < 0.5:
        return pick(rng, requests.ANY_STORY, split)
    return pick(rng, requests.ODD, split) if draw < 0.8 else gibberish(rng)


def where(rng: random.Random, split: Split, place: str) -> str:
    """Return a phrase for a place."""
    return PLACE_PHRASES[place] if rng.random() < 0.6 else pick(rng, people.PLACE_VARIANTS[place], split)


def when(rng: random.Random, split: Split, light: str, weather: str) -> str:
    """Return a phrase for light and weather, or ""."""
    parts = [pick(rng, people.LIGHT_VARIANTS[light], split)] if light else []
    parts += [pick(rng, people.WEATHER_VARIANTS[weather], split)] if weather else []
    return " ".join(parts)


def request(
    rng: random.Random,
    split: Split,
    templates: tuple[str, ...],
    *,
    actors: tuple[str, ...],
    target: int | None = None,
    name: str = "",
    **slots: str,
) -> str:
    """Return a follow-up message by one of several templates.

    Args:
        rng: The random numbers.
        split: Which wordings may be used.
        templates: A list of requests.py.
        actors: The species in the present picture.
        target: Index of the actor that it is about; None means all of them.
        name: Of the first actor, if it has one.
        slots: Further slots: place, a_prop, look, friend...
    """
    plural = target is None and len(actors) > 1
    they, them, its = _pronouns(rng, actors, target, name)
    filled = {"they": they, "them": them, "its": its, "it": "they" if plural else "it", "its_story": "its", **slots}
    if place := slots.get("place"):
        filled |= {"the_place": f"the {place}", "where": where(rng, split, place)}
    if friend := slots.get("friend"):
        filled |= {"a_friend": article(friend), "the_friend": f"the {friend}"}
    if prop := slots.get("prop"):
        filled["a_prop"] = article(prop)
    filled |= {name.capitalize(): _first_upper(value) for name, value in filled.items()}
    return fill(pick_fitting(rng, templates, split, filled), filled, plural=plural)


def in_pictures(rng: random.Random, split: Split, count: int) -> str:
    """Return a phrase such as "in three pictures", with the number in words or digits.

    In training, the noun is often an invented word, "in three talorus", because only the number matters.
    """
    number = rng.choice(requests.COUNTS[count])
    if split == "train" and rng.random() < INVENTED:
        return f"{rng.choice(('in', 'with'))} {number} {_invented(rng)}"
    return pick(rng, requests.IN_PICTURES, split).format(n=number)


def frames(rng: random.Random, split: Split, templates: tuple[str, ...], leads: tuple[str, ...]) -> tuple[str, ...]:
    """Return templates of requests for a number of pictures; in training, some are composed at random."""
    if split != "train" or rng.random() >= FRAMED:
        return templates
    lead = rng.choice(leads) if rng.random() < 0.8 else _first_upper(f"{_invented(rng)} {_invented(rng)}")
    tail = rng.choice((".", ".", "!", ", please.", ", please!", " if you can.", ", thank you."))
    if rng.random() < 0.15:
        return (f"{{In_pictures}}: {_first_lower(lead)}{tail}",)
    return (f"{lead} {{in_pictures}}{tail}",)


def asking_pictures(rng: random.Random, split: Split, text: str, count: int) -> str:
    """Add a request for a number of pictures to a message."""
    if split == "train" and rng.random() < PRAISED / 2:
        text = f"{text} {_praise(rng)}"
    phrase = in_pictures(rng, split, count)
    draw = rng.random()
    if draw < 0.4 and text.endswith("."):
        return f"{text[:-1]} {phrase}."
    frame = pick(rng, frames(rng, split, requests.TELL_IN, requests.TELL_LEADS), split)
    wish = frame.format(in_pictures=phrase, In_pictures=_first_upper(phrase))
    if draw < 0.5:
        return f"{_first_upper(phrase)}: {text}"
    return f"{text} {wish}"


def _slots(rng: random.Random, split: Split, premise: Premise, *, plain: bool = False) -> dict[str, str]:
    pronoun, poss, obj = rng.choice(
        (("he", "his", "him"), ("she", "her", "her"), ("it", "its", "it"), ("it", "its", "it"))
    )
    slots = {
        "who": _who(rng, split, premise, poss, plain),
        "species": premise.species,
        "poss": poss,
        "Pron": pronoun.capitalize(),
        "obj": obj,
        "adj": rng.choice(
            (
                *people.OTHER_ADJECTIVES,
                "magic",
                "new",
                "old",
                "big",
                "red",
                "blue",
                "colourful",
                "shiny",
                "tiny",
                "broken",
            )
        ),
        "where": where(rng, split, premise.place) if premise.place else premise.nowhere,
        "when": when(rng, split, premise.light, premise.weather),
        "quest": pick(rng, openings.QUESTS[premise.quest][0], split) if premise.quest is not None else "",
    }
    prop = premise.prop
    if prop and prop in people.PROP_SYNONYMS and rng.random() < 0.12:
        prop = rng.choice(people.PROP_SYNONYMS[prop])
    prop = prop or premise.thing
    if prop:
        slots |= {"prop": prop, "a_prop": article(prop) if rng.random() < 0.93 else f"the {prop}"}
    return slots


def _who(rng: random.Random, split: Split, premise: Premise, poss: str, plain: bool) -> str:
    noun = premise.stranger or premise.species
    if not premise.stranger and rng.random() < 0.1:
        noun = rng.choice(people.SPECIES_SYNONYMS[premise.species])
    adjectives = [premise.adjective] if premise.adjective else []
    if rng.random() < 0.22:
        adjectives.append(rng.choice(people.OTHER_ADJECTIVES))
    if premise.look:
        adjectives.append(premise.look)
    rng.shuffle(adjectives)
    phrase = " ".join((*adjectives, noun))
    draw = rng.random()
    if premise.name and draw < 0.4 and not adjectives:
        text = f"{premise.name} the {noun}"
    elif premise.name:
        text = f"{article(phrase)} {rng.choice(('named', 'called', 'whose name is', 'named'))} {premise.name}"
    elif draw < 0.07:
        text = f"the {phrase}"
    elif draw < 0.11:
        text = f"{rng.choice(('my', 'one', 'our', 'this', 'some'))} {phrase}"
    elif draw < 0.14 and not premise.friend:
        text = phrase
    elif draw < 0.18 and not premise.stranger and noun == premise.species and not premise.friend and not plain:
        text = f"{' '.join((*adjectives, people.PLURALS.get(noun, noun + 's')))}"
    else:
        text = article(phrase)
    if premise.friend:
        link = rng.choice(
            (
                "and",
                "and",
                "and",
                "who helps",
                "who visits",
                "who races against",
                "plays with",
                "is friends with",
                "and the friend,",
                f"and {poss} friend,",
                "with",
                "together with",
                "who meets",
                f"and {poss} best friend,",
            )
        )
        text += f" {link} {article(premise.friend)}"
    return text


def _opening_without_hero(rng: random.Random, split: Split, premise: Premise) -> str:
    slots = _slots(rng, split, Premise(**{**premise.__dict__, "species": "fox"}))
    if premise.place:
        return _capital(
            rng,
            pick(rng, openings.PLACE_ONLY, split).format_map(
                {**slots, "where": _joined(slots["where"], slots["when"])}
            ),
        )
    return _capital(rng, pick(rng, openings.PROP_ONLY, split).format_map(slots))


def _keywords(rng: random.Random, premise: Premise) -> str:
    """Return what a premise names, in any order and without grammar."""
    words = [premise.species, premise.prop, premise.place, premise.light, premise.weather]
    words = [word for word in words if word and word not in ("day", "clear")]
    if rng.random() < 0.6:
        rng.shuffle(words)
    return rng.choice((" ", ", ", ", ", " + ", " and ", " / ", "; ")).join(words)


def _filler(rng: random.Random, split: Split) -> str:
    if split == "train" and rng.random() < PRAISED:
        return _praise(rng)
    pronoun, obj = rng.choice((("He", "him"), ("She", "her"), ("It", "it")))
    return pick(rng, openings.FILLERS, split).format(Pron=pronoun, obj=obj)


def _praise(rng: random.Random) -> str:
    """Return praise such as "Pretty talorus, 8k.", which resembles a request but contains no number of pictures."""
    praise = rng.sample(requests.PRAISE, rng.randint(1, 3))
    thing = _invented(rng) if rng.random() < 0.7 else rng.choice(("pictures", "images", "paintings"))
    text = f"{', '.join(praise)} {thing}"
    if rng.random() < 0.5:
        text += f", {rng.randint(1, 16)}{rng.choice(('k', 'd', ':9', ' mm', '%'))}"
    return f"{_first_upper(text)}."


def _invented(rng: random.Random) -> str:
    return "".join(rng.choice(people.NAME_SYLLABLES) for _ in range(rng.randint(2, 5))).lower() + "s"


def _pronouns(rng: random.Random, actors: tuple[str, ...], target: int | None, name: str) -> tuple[str, str, str]:
    if target is None and len(actors) > 1:
        both = f"the {actors[0]} and the {actors[1]}"
        they = rng.choice(("they", "they", both, "both"))
        return they, "them" if they == "they" else they, "their"
    noun = f"the {actors[target or 0]}"
    if len(actors) > 1:
        return noun, noun, f"{noun}'s"
    nouns = (noun, noun, f"{name} the {actors[0]}" if name else noun)
    return rng.choice(
        (
            ("it", "it", "its"),
            ("he", "him", "his"),
            ("she", "her", "her"),
            *((item, item, f"{item}'s") for item in nouns),
        )
    )


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _capital(rng: random.Random, text: str) -> str:
    return _first_upper(text) if rng.random() < 0.93 else text
