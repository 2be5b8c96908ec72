"""Whether replies do what messages ask: the right subject, count, change or refusal (`messages_right`).

A message is a conversation of one or more turns with what the last reply should be; `tests/data/messages.jsonl` holds
200 that people wrote. Captions are read; nothing is painted.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..arguments import UserError
from ..conversation.conversation import Conversation, Picture, Text
from ..language.reply import FAILED_REPLY
from ..language.sampling import Sampling
from ..picturebook.reading import Reading, read
from ..picturebook.world import LIGHTS, PROPS, WEATHERS
from ..pipeline import M2Chat

MESSAGES = Path(__file__).parents[2] / "tests" / "data" / "messages.jsonl"
SHORT = 60  # words
WRITING = Sampling(temperature=0.7)

_CANNOT = re.compile(
    r"\b(can('|’)?t|cannot|can not|do(n't|n’t| not) (know|understand|have|draw|speak)|unable|not able|only|at most|"
    r"no more than|up to|sorry|not in my|no such|too (many|long|hard)|limit|nothing i know)\b",
    re.IGNORECASE,
)
_OFFER = re.compile(r"\b(animals?|stor(y|ies)|pictures?|draw)\b", re.IGNORECASE)
# What a message implies without a word for it. What it implies may be shown, but need not.
_HINTS = {
    "hour": (("night", "sunset"), r"sleep|bed|dream|tired|moon|star|dark|night|fire|lantern|evening|midnight|light"),
    "prop": (("cake", "gift", "balloon"), r"birthday|party|picnic|celebrat"),
    "food": (("apple", "cake"), r"hungry|eat|picnic|food|fruit"),
    "air": (("balloon", "kite", "rocket"), r"fly|flies|moon|sky|wings?"),
    "wet": (("umbrella", "bucket"), r"rain|wet|water"),
    "gloom": (("lantern", "book"), r"dark|night|read"),
    "music": (("drum", "guitar", "trumpet"), r"music|song|sing|play"),
    "post": (("gift",), r"parcel|surpris|post"),
}  # fmt: skip


def load(path: Path = MESSAGES) -> list[dict[str, Any]]:
    """Return the messages of a file.

    Raises:
        UserError: There is no such file, or a line of it is no message.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"The messages {path} cannot be read ({error.strerror}): they belong to the repository."
        ) from None
    messages = []
    for number, line in enumerate(lines, 1):
        try:
            message = json.loads(line)
            message["kind"], message["say"][0], message["expect"].items()  # noqa: B018
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise UserError(f"Line {number} of {path} is no message with a kind, say and expect.") from None
        messages.append(message)
    return messages


def problems(message: dict[str, Any], reply: Sequence[Text | Picture]) -> list[str]:
    """Return what is wrong with a reply, each as "kind: detail"; nothing if it is right.

    Args:
        message: As in `load`.
        reply: The segments of the last reply.
    """
    expect, said = message["expect"], " ".join(message["say"])
    captions = [segment.caption for segment in reply if isinstance(segment, Picture)]
    text = " ".join(segment.text for segment in reply if isinstance(segment, Text)).strip()
    if "says" in expect:
        return _spoken(expect, captions, text)
    if not captions:
        return ["pictures: there is none"]
    if not text:
        return ["text: there is none"]
    readings = [read(caption) for caption in captions]
    found = _subjects(expect, said, readings)
    found += _values(expect, readings, captions)
    found += _uninvited(expect, said, readings)
    for name in expect.get("names", {}):
        for where, told in (("text", text), ("caption", " ".join(captions))):
            if not re.search(rf"\b{re.escape(name)}\b", told, re.IGNORECASE):
                found.append(f"names: {name} is not in the {where}")
    if "pictures" in expect and len(captions) != expect["pictures"]:
        found.append(f"pictures: {len(captions)} instead of {expect['pictures']}")
    for name, value in expect.get("last", {}).items():
        if value not in readings[-1].of(name):
            found.append(f"last: the {name} of the last picture is not {value}")
    return found


def _spoken(expect: dict[str, Any], captions: list[str], text: str) -> list[str]:
    """Judge a reply that should be no story."""
    found = []
    if captions:
        found.append(f"{expect['says']}: there are {len(captions)} pictures")
    if not text:
        found.append(f"{expect['says']}: there is no text")
    elif expect["says"] == "answer":
        if read(text, loose=True).species and re.match(r"(once|one day)\b", text, re.IGNORECASE):
            found.append("answer: it is a story")
    elif not _CANNOT.search(text):
        found.append(f"{expect['says']}: it does not say what cannot be done")
    if expect.get("offers") and not (read(text).species or _OFFER.search(text)):
        found.append("offers: it offers nothing")
    if (expect.get("short") or expect["says"] != "answer") and len(text.split()) > SHORT:
        found.append(f"short: it has {len(text.split())} words")
    return found


def _subjects(expect: dict[str, Any], said: str, readings: list[Reading]) -> list[str]:
    """Judge who is in the pictures."""
    found = []
    who = Counter(expect["who"])
    most = Counter[str]()
    for reading in readings:
        most |= reading.species
    for species, count in who.items():
        if most[species] != count:
            what = "who" if not most[species] else "count"
            found.append(f"{what}: {most[species]} {species} instead of {count}")
    if not found and not any(
        all(reading.species[species] == count for species, count in who.items()) for reading in readings
    ):
        found.append(f"who: {' and '.join(who)} are never together")
    mentioned = {*read(said, loose=True).species}
    for species in most:
        if species not in who and species not in mentioned:
            found.append(f"stranger: a {species} that nobody asked for")
    return found


def _values(expect: dict[str, Any], readings: list[Reading], captions: list[str]) -> list[str]:
    """Judge what is shown, how, where and when."""
    found = []
    for name in ("place", "light", "weather", "prop", "action", "mood", "facing", "accessory"):
        value = expect.get(name)
        if value is None:
            continue
        shown = [reading.of(name) for reading in readings]
        plain = {"light": "day", "weather": "clear", "accessory": "none"}.get(name)
        if value == plain:
            if any(values - {plain} for values in shown):
                found.append(f"{name}: it is not {value}")
        elif not any(value in values for values in shown):
            found.append(f"{name}: {value} is not shown")
    looks = dict(expect.get("looks", {}))
    if "look" in expect:
        looks |= {species: expect["look"] for species in expect["who"]}
    for species, look in looks.items():
        if not any(reading.looks.get(species) == {look} for reading in readings):
            found.append(f"look: the {species} is not {look}")
    for thing in expect.get("without", ()):
        if any(
            thing in reading.species or any(thing in values for values in reading.facts.values())
            for reading in readings
        ):
            found.append(f"without: {thing} is there")
    return found


def _uninvited(expect: dict[str, Any], said: str, readings: list[Reading]) -> list[str]:
    """Judge whether a thing, a weather or a light is there that nobody asked for."""
    mentioned = read(said, loose=True)
    implied = {value for values, hint in _HINTS.values() if re.search(hint, said, re.IGNORECASE) for value in values}
    found = []
    for name, values in (("prop", PROPS), ("weather", WEATHERS[1:]), ("light", LIGHTS[1:])):
        last = {expect.get(name), expect.get("last", {}).get(name)}
        allowed = {*last, *mentioned.of(name), *implied}
        for value in values:
            if value not in allowed and any(value in reading.of(name) for reading in readings):
                found.append(f"uninvited: {value}")
    return found


def figures(results: Iterable[tuple[dict[str, Any], list[str]]]) -> dict[str, Any]:
    """Return the fraction of messages without problems, and the same by kind of message."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for message, found in results:
        kinds[message["kind"]].append(not found)
    right = [value for values in kinds.values() for value in values]
    share = {kind: round(sum(values) / len(values), 4) for kind, values in sorted(kinds.items())}
    return {"messages_right": round(sum(right) / max(1, len(right)), 4), "messages_right_by_kind": share}


def answered(
    model: M2Chat, messages: Sequence[dict[str, Any]], seed: int = 0
) -> list[tuple[dict[str, Any], list[str]]]:
    """Let a model reply to messages, each a conversation of its own, and return what is wrong with the last replies."""
    results = []
    for number, message in enumerate(messages):
        conversation = Conversation()
        try:
            for turn, said in enumerate(message["say"]):
                conversation = model.write(conversation.user(said), sampling=WRITING, seed=seed + 1000 * turn + number)
            found = problems(message, conversation.turns[-1].segments)
        except FAILED_REPLY as error:
            found = [f"reply: {error}"]
        results.append((message, found))
    return results
