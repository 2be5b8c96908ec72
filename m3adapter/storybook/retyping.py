"""Captions as people type them: without articles, in capitals, as lists, in other words and with names.

The captions of stories have one wording. Whoever edits a caption, or writes their own, has others; an adapter that has
never read them paints another animal and leaves the look of a known one behind.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from .dataset import Sample
from .wording.people import LIGHT_VARIANTS, NAMES, PLACE_VARIANTS, WEATHER_VARIANTS, invented_name
from .world import LIGHT_PHRASES, PLACE_PHRASES, WEATHER_PHRASES, Scene, article, caption

TEST_NAMES = ("Milo", "Rosie", "Bruno", "Luna", "Oscar", "Daisy")  # on which nothing is trained
TRAINING_NAMES = tuple(name for name in NAMES if name not in TEST_NAMES)
CALLED = ("The {species} is named {name}.", "{name} is the {species}.", "Call the {species} {name}.",
          "The {species}'s name is {name}.", "{name} is what we call the {species}.", "My {species} is {name}.",
          "I call the {species} {name}.", "The name of the {species} is {name}.", "Meet {name} the {species}!",
          "This is {name}, a {species}.", "Our {species} is {name}.")  # fmt: skip
INVENTED = 0.3  # part of the names that nobody has: a name is whoever it was given to, not a word to be learned
# Part of the captions whose characters have names, where a user can have given them, by the number of characters: two
# names are much harder than one.
NAMED = {1: 0.3, 2: 0.6}
NAME_ALONE = 0.5  # part of the names that stand alone: "Pip" for "Pip the fox"
NOT_CALLED = 0.2  # part of those with their kinds in the caption for which no message says so
LISTED = 0.2  # part of the captions that are lists
OTHER_WORDS = 0.25  # part of the phrases of place, light and weather that users' words replace
DETERMINERS = ("a", "a", "the", "the", "", "", "one", "my", "this", "our", "a little", "the same")
BEGINNINGS = ("a drawing of ", "an illustration of ", "draw ", "please paint ", "now: ", "here is ", "we see ")
SEPARATORS = (", ", ", ", ", ", " / ", "; ", " + ", " - ", " ")


def retyped(rng: random.Random, sample: Sample) -> Sample:
    """Return a sample whose caption says the same as somebody might type it.

    Looks that the caption tells stay in it. Names are given by the user's last message before the picture.
    """
    scene = sample.scene
    aside = sample.caption.removeprefix(caption(scene, looks=sample.named))
    before = sample.conversation.turns[sample.slot.turn - 1]
    names: Sequence[str] = ()
    alone: Sequence[bool] = ()
    conversation = sample.conversation
    if rng.random() < NAMED[len(scene.characters)] and before.role == "user" and before.text:
        names = different_names(rng, len(scene.characters))
        alone = [rng.random() < NAME_ALONE for _ in names]
        said = [
            rng.choice(CALLED).format(species=actor.species, name=name)
            for name, actor in zip(names, scene.characters, strict=True)
        ]
        if any(alone) or rng.random() >= NOT_CALLED:
            conversation = conversation.with_text(sample.slot.turn - 1, " ".join([before.text, *said]))
    text = _listed(rng, scene, sample.named) if not names and rng.random() < LISTED else None
    text = _cased(rng, (text or _sentence(rng, scene, sample.named, names, alone)) + aside)
    return replace(sample, conversation=conversation.with_caption(sample.slot, text), caption=text)


def different_names(rng: random.Random, count: int) -> list[str]:
    """Return different names, some of them invented."""
    found = rng.sample(TRAINING_NAMES, count)
    for place in range(count):
        if rng.random() < INVENTED:
            invented = invented_name(rng)
            if invented not in (*found, *TEST_NAMES):
                found[place] = invented
    return found


def _sentence(
    rng: random.Random, scene: Scene, looks: Sequence[int], names: Sequence[str], alone: Sequence[bool]
) -> str:
    """Say a scene in the order, with the articles and in the words of somebody."""
    determiner = rng.choice(DETERMINERS)

    def noun(kind: str) -> str:
        return article(kind) if determiner == "a" else f"{determiner} {kind}".strip()

    who = []
    for index, actor in enumerate(scene.characters):
        kind = f"{actor.look} {actor.species}" if index in looks else actor.species
        if not names:
            who.append(noun(kind))
        elif alone[index]:
            who.append(names[index] if index not in looks else f"the {actor.look} {names[index]}")
        else:
            who.append(rng.choice(("{0} the {1}", "the {1} {0}", "{0}, the {1},")).format(names[index], kind))
    prop = f" {rng.choice(('with', 'with', 'and', 'holding'))} {noun(scene.prop)}" if scene.prop else ""
    actors = rng.choice((" and ", " and ", " & ", ", ", " with ")).join(who) + prop
    around = [
        rng.choice(variants) if variants and rng.random() < OTHER_WORDS else phrase
        for phrase, variants in (
            (PLACE_PHRASES[scene.place], PLACE_VARIANTS[scene.place]),
            (LIGHT_PHRASES[scene.light], LIGHT_VARIANTS[scene.light] if scene.light != "day" else ()),
            (WEATHER_PHRASES[scene.weather], WEATHER_VARIANTS[scene.weather] if scene.weather != "clear" else ()),
        )
        if phrase
    ]
    if not determiner:
        around = [phrase.replace(" the ", " ") for phrase in around]
    rng.shuffle(around)
    if rng.random() < 0.3:
        return f"{' '.join(around)}{rng.choice((', ', ': ', ' '))}{actors}"
    beginning = rng.choice(BEGINNINGS) if rng.random() < 0.2 else ""
    return f"{beginning}{actors}{rng.choice((' ', ' ', ' ', ', '))}{' '.join(around)}"


def _listed(rng: random.Random, scene: Scene, looks: Sequence[int]) -> str:
    """Say a scene as a list of words."""
    who = [
        f"{actor.look} {actor.species}" if index in looks else actor.species
        for index, actor in enumerate(scene.characters)
    ]
    around = [scene.prop or "", scene.place, LIGHT_PHRASES[scene.light], WEATHER_PHRASES[scene.weather]]
    words = [phrase.split(" ")[-1] for phrase in around if phrase]
    rng.shuffle(words)
    parts = [*who, *words] if rng.random() < 0.7 else [*words, *who]
    return rng.choice(SEPARATORS).join(parts)


def _cased(rng: random.Random, text: str) -> str:
    """Return a text as it is, or begun with a capital, or in capitals, and perhaps with an end."""
    draw = rng.random()
    if draw < 0.3:
        text = text[:1].upper() + text[1:]
    elif draw < 0.4:
        text = text.upper()
    elif draw < 0.45:
        text = text.title()
    return text + rng.choice(("", "", ".", "!"))
