"""Paragraphs of the assistant, whose sentences name everything that a picture shows in plain words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..world import LIGHT_PHRASES, PLACE_PHRASES, WEATHER_PHRASES, Scene, article
from . import places, props, telling
from .choose import Split, fill, fits, pick, pick_fitting, slot_names
from .openings import QUESTS

Event = Literal[
    "open", "welcome", "draw", "answer", "go", "stay", "find", "drop", "sky", "meet", "part", "elsewhere",
    "return", "change", "vary", "vary_sky",
]  # fmt: skip

# The main sentence of an event: (plain templates, templates that may name the prop or the sky as well).
_MAIN: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "open": (telling.OPENING, telling.OPENING_RICH),
    "welcome": (telling.WELCOMING, ()),
    "draw": (telling.DRAWING, telling.DRAWING_RICH),
    "answer": (telling.ANSWERING, ()),
    "go": (telling.GOING, telling.GOING_RICH),
    "stay": (telling.STAYING, ()),
    "find": (props.FINDING, ()),
    "drop": (telling.EMPTY_HANDED, ()),
    "sky": (telling.STAYING, ()),
    "meet": (telling.MEETING, ()),
    "part": (telling.PARTING, ()),
    "elsewhere": (telling.ELSEWHERE, ()),
    "return": (telling.RETURNING, ()),
    "change": (telling.CHANGING, ()),
    "vary": (telling.VARYING_PLAIN, ()),
    "vary_sky": (telling.VARYING_PLAIN, telling.VARYING),
}


@dataclass(frozen=True)
class Telling:
    """What a paragraph should say.

    Attributes:
        event: What happens.
        scene: The picture it belongs to.
        adjective: Of the first character, or "".
        name: Of the first character, or "".
        turned: What the sky has just become: keys of places.TURNING.
        look: With "change": the colour that the text names.
        changed: With "change": the index of the character that changes.
        quest: Index into openings.QUESTS, or None.
        begins: Whether the quest is told for the first time.
        thing: Something the user named that pictures cannot show, or "".
        stranger: Whether the user asked for a being that cannot be drawn.
        new_prop: Whether the story has not mentioned the prop before.
        brief: Whether there should be only one or two sentences.
    """

    event: Event
    scene: Scene
    adjective: str = ""
    name: str = ""
    turned: tuple[str, ...] = ()
    look: str = ""
    changed: int = 0
    quest: int | None = None
    begins: bool = False
    thing: str = ""
    stranger: bool = False
    new_prop: bool = True
    brief: bool = False


def paragraph(rng: random.Random, split: Split, telling_: Telling) -> str:
    """Return one to four short sentences that name every character, the place, the prop and an unusual sky."""
    scene = telling_.scene
    slots = _slots(rng, split, telling_)
    plural = len(scene.characters) > 1
    # While somebody is just being met or painted, the sentence is about one of the two.
    main_plural = plural and telling_.event not in ("meet", "change")
    template, main = _main(rng, split, telling_, slots)
    named = slot_names(template)

    before: list[str] = []
    after: list[str] = []
    if "other" in slots:
        after.append(pick(rng, telling.WITNESSING, split))
    if telling_.stranger:
        before.append(pick(rng, telling.UNKNOWN, split))
    if telling_.thing:
        after.append(pick(rng, props.HAVING, split).replace("{a_prop}", article(telling_.thing)))
    if scene.prop and not named & {"prop", "a_prop"} and not _acts_on_prop(named, slots):
        after.append(_prop_sentence(rng, split, slots, new=telling_.new_prop))
    if telling_.turned:
        before += [pick(rng, places.TURNING[what], split) for what in telling_.turned]
    if "sky" in slots and "sky" not in named and not _turned_says(telling_):
        line = pick(rng, places.SKY[scene.light, scene.weather], split)
        (before if rng.random() < 0.35 and not before else after).append(line)
    closing = _closing(rng, split, telling_, room=3 - len(before) - len(after), sky="sky" in slots)

    text = [fill(line, slots, plural=plural) for line in before]
    text.append(fill(main, slots, plural=main_plural))
    text += [fill(line, slots, plural=plural) for line in (*after, *closing)]
    return " ".join(text)


def _slots(rng: random.Random, split: Split, telling_: Telling) -> dict[str, str]:
    scene, names = telling_.scene, [actor.species for actor in telling_.scene.characters]
    plural = len(names) > 1
    adjective = telling_.adjective
    first = f"{adjective} {names[0]}" if adjective and rng.random() < 0.8 else names[0]
    a_first = article(first) + (f" called {telling_.name}" if telling_.name else "")
    draw = rng.random()
    the_first = (
        f"{telling_.name} the {names[0]}"
        if telling_.name and draw < 0.6
        else f"the {first if draw > 0.85 else names[0]}"
    )
    slots = {
        "species": names[0],
        "hero": the_first,
        "a_hero": a_first,
        "it": "they" if plural else "it",
        "its": "their" if plural else "its",
        "them": "them" if plural else "it",
        "place": PLACE_PHRASES[scene.place],
        "the_place": f"the {scene.place}",
    }
    if plural:
        slots["friend"] = f"the {names[1]}"
        slots["a_friend"] = article(names[1])
        if telling_.event == "change":
            slots["hero"] = f"the {names[telling_.changed]}"
            slots["other"] = f"the {names[1 - telling_.changed]}"
        elif telling_.event != "meet":
            slots["hero"] = f"{the_first} and the {names[1]}"
            slots["a_hero"] = f"{article(first)} and {article(names[1])}"
    if telling_.look:
        slots["look"] = telling_.look
    if scene.prop:
        slots["prop"] = scene.prop
        slots["a_prop"] = article(scene.prop)
    sky = " ".join(filter(None, (LIGHT_PHRASES[scene.light], WEATHER_PHRASES[scene.weather])))
    if sky:
        slots["sky"] = sky
    # One does something with "the kite" only after "a kite" has been spoken of.
    with_prop = scene.prop and not telling_.new_prop and rng.random() < 0.75
    actions = props.PROP_ACTIONS[scene.prop or ""] if with_prop else telling.ACTIONS
    slots["act"] = pick(rng, actions, split)
    return slots


def _main(rng: random.Random, split: Split, telling_: Telling, slots: dict[str, str]) -> tuple[str, str]:
    """Return the template of the main sentence, and the same with its action, whose alternatives are still open."""
    plain, rich = _MAIN[telling_.event]
    usable = {name: value for name, value in slots.items() if name != "sky" or not telling_.turned}
    likely = 1.0 if telling_.event == "vary_sky" else 0.45
    use_rich = (
        rich
        and rng.random() < likely
        and any(fits(item, usable) and slot_names(item) & {"sky", "a_prop"} for item in rich)
    )
    template = pick_fitting(rng, rich if use_rich else plain, split, usable)
    return template, template.replace("{act}", slots["act"])


def _acts_on_prop(named: frozenset[str], slots: dict[str, str]) -> bool:
    return "act" in named and slots["prop"] in slots["act"].replace(",", " ").replace(":", " ").split()


def _prop_sentence(rng: random.Random, split: Split, slots: dict[str, str], *, new: bool) -> str:
    if new:
        return pick_fitting(rng, props.HAVING, split, slots)
    if rng.random() < 0.4:
        return pick_fitting(rng, props.KEEPING, split, slots)
    return "[it|they] " + pick(rng, props.PROP_ACTIONS[slots["prop"]], split) + "."


def _turned_says(telling_: Telling) -> bool:
    """Return whether the change of the sky says everything about it."""
    scene = telling_.scene
    unusual = {scene.light} - {"day"} | {scene.weather} - {"clear"}
    return bool(telling_.turned) and unusual <= set(telling_.turned)


def _closing(rng: random.Random, split: Split, telling_: Telling, *, room: int, sky: bool) -> list[str]:
    if telling_.brief or room <= 0:
        return []
    if telling_.quest is not None and rng.random() < (0.9 if telling_.begins else 0.35):
        _, at_once, later = QUESTS[telling_.quest]
        return [pick(rng, at_once if telling_.begins else later, split)]
    draw = rng.random()
    if draw < 0.4:
        return [pick(rng, telling.CLOSING, split)]
    if draw < 0.65 and not sky:
        return [pick(rng, places.PLACE_DETAILS[telling_.scene.place], split)]
    if draw < 0.7 and not sky:
        return [pick(rng, places.SKY["day", "clear"], split)]
    return []
