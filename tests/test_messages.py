"""The 200 messages that the next starter is to understand: written by hand before it is trained, not generated.

Each line of ``data/messages.jsonl`` is a conversation (``say``, one message a turn) with what its last reply should be.
``who`` tells which species its pictures show and how often; ``place``, ``light``, ``weather`` and ``prop`` are those
of the pictures, ``action``, ``mood``, ``look``, ``accessory`` and ``facing`` a character's, ``looks`` and ``names``
those of several. ``pictures`` is their number; ``without`` lists what they must not show, and ``last`` what differs in
the last one. If the reply is no story, it ``says`` that something cannot be drawn (a refusal, a limit) or answers,
``offers`` what can be drawn, or is ``short``.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m3adapter.arguments import UserError
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.evaluation import messages as messages_module
from m3adapter.evaluation.messages import problems
from m3adapter.language.prompts import PromptError
from m3adapter.picturebook import world
from m3adapter.picturebook.reading import read
from m3adapter.picturebook.stories.stage import Actor, Stage
from m3adapter.picturebook.stories.talk import Talk
from m3adapter.picturebook.stories.teller import story

MESSAGES = Path(__file__).with_name("data") / "messages.jsonl"
VALUES = {
    "place": world.PLACES,
    "light": world.LIGHTS,
    "weather": world.WEATHERS,
    "prop": world.PROPS,
    "action": world.ACTIONS,
    "mood": world.MOODS,
    "look": world.LOOKS,
    "accessory": world.ACCESSORIES,
    "facing": world.FACINGS,
    "says": ("refusal", "limit", "answer"),
}


@pytest.fixture(scope="module")
def messages() -> list[dict[str, Any]]:
    return [json.loads(line) for line in MESSAGES.read_text("utf-8").splitlines()]


def test_there_are_two_hundred_and_each_is_different(messages: list[dict[str, Any]]) -> None:
    assert len(messages) == len({tuple(message["say"]) for message in messages}) == 200


def test_they_expect_what_the_picture_book_has(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        expected = message["expect"]
        species = {*expected.get("who", ()), *expected.get("names", {}).values(), *expected.get("looks", ())}
        assert species <= {*world.SPECIES}, message
        assert {*expected.get("looks", {}).values()} <= {*world.LOOKS}, message
        for key, value in {**expected, **expected.get("last", {})}.items():
            assert value in VALUES.get(key, (value,)), message
        assert expected.get("says") or expected.get("who"), message


def test_names_are_in_what_was_said(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        for name in message["expect"].get("names", ()):
            assert name in " ".join(message["say"])


# What is wrong with a reply


def right(message: dict[str, Any]) -> list[Text | Picture]:
    """A reply that does what a message asks."""
    expect = message["expect"]
    if "says" in expect:
        if expect["says"] == "answer":
            return [Text("Hello! I am M²Chat and can draw a fox or an owl.")]
        return [Text("I am sorry, I cannot draw that. Shall I draw a fox or three owls?")]
    names = {
        species: [name for name, kind in expect.get("names", {}).items() if kind == species]
        for species in world.SPECIES
    }
    looks = {
        **({species: expect["look"] for species in expect["who"]} if "look" in expect else {}),
        **expect.get("looks", {}),
    }
    stages = []
    for last in (False, True):
        facts = {**expect, **(expect.get("last", {}) if last else {})}
        actors = []
        for species, count in expect["who"].items():
            for index in range(count):
                actor = Actor(len(actors), world.Character(species, looks.get(species, "red")))
                actor = replace(actor, name=names[species][index] if index < len(names[species]) else "")
                actor = actor.saying("look") if species in looks else actor
                actors.append(actor)
        action = facts.get("action", "stands")
        action = "stands" if action == "holds" and "prop" not in facts else action
        actors = [actor.now(action=action, held=facts.get("prop") if action == "holds" else None) for actor in actors]
        first = actors[0].now(mood=facts.get("mood", "calm"), facing=facts.get("facing", "left"))
        first = first.now(accessory=facts.get("accessory", "none"))
        actors[0] = first.saying(*[name for name in ("facing", "accessory") if name in facts])
        props = (facts["prop"],) if "prop" in facts and action != "holds" else ()
        place, light = facts.get("place", "meadow"), facts.get("light", "day")
        stages.append(Stage(tuple(actors), place, light, facts.get("weather", "clear"), props))
    count = expect.get("pictures", 1 if "last" not in expect else 2)
    told = [*[stages[0]] * (count - 1), stages[1 if "last" in expect else 0]]
    text = " and ".join(expect.get("names", {"somebody": ""}))
    return [part for stage in told for part in (Text(f"Once there was {text}."), Picture(stage.caption()))]


def test_right_replies_are_right(messages: list[dict[str, Any]]) -> None:
    wrong = {tuple(message["say"]): found for message in messages if (found := problems(message, right(message)))}
    assert not wrong


def wrongs(message: dict[str, Any]) -> Iterator[tuple[str, list[Text | Picture]]]:
    """Replies that are wrong, each with what is wrong about it."""
    expect, good = message["expect"], right(message)
    if "says" in expect:
        yield expect["says"], [*good, Picture("a fox")]
        yield expect["says"], []
        yield "offers" if expect.get("offers") else "", [Text("I am sorry, I cannot do that.")]
        if expect["says"] != "answer":
            yield expect["says"], [Text("Once upon a time there was a fox. Shall it be an owl?")]
            yield "short", [Text("I am sorry, I cannot draw that. Shall I draw a fox?" + " Or an owl?" * 30)]
        return
    yield "pictures", [Text("Once upon a time.")]
    yield "text", [part for part in good if isinstance(part, Picture)]
    first = good[1]
    assert isinstance(first, Picture)
    known = {*expect["who"], *read(" ".join(message["say"]), loose=True).species}
    absent = next(kind for kind in world.SPECIES if kind not in known)
    yield "stranger", [good[0], Picture(f"{first.caption} and a {absent}"), *good[2:]]
    yield "who", [good[0], Picture(f"a {absent} on the meadow"), *[Picture(f"a {absent}") for _ in good[3::2]]]
    some = next(iter(expect["who"]))
    yield (
        "count",
        [good[0], Picture(f"{first.caption} with another {some} and another {some} and another {some}"), *good[2:]],
    )
    for name in ("place", "light", "weather", "prop", "action", "mood", "facing", "look"):
        plain = expect.get(name) in ("day", "clear", "left")
        if name in expect and not plain:
            less = {key: value for key, value in expect.items() if key != name}
            elsewhere = {"place": "desert" if expect.get("place") == "meadow" else "meadow"} if name == "place" else {}
            yield name, right({"say": message["say"], "expect": {**less, **elsewhere}})
    for name, value, plain in (
        ("light", "at night", "day"),
        ("weather", "in the rain", "clear"),
        ("accessory", "with a hat", "none"),
    ):
        if expect.get(name) == plain:
            yield name, [good[0], Picture(f"{first.caption} {value}"), *good[2:]]
    for thing in expect.get("without", ()):
        yield "without", [good[0], Picture(f"{first.caption} and a {thing}"), *good[2:]]
    if "names" in expect:
        nameless = [Picture("a red thing") if isinstance(part, Picture) else part for part in good]
        yield "names", nameless
        yield "names", [Text("Once.") if isinstance(part, Text) else part for part in good]
    if "pictures" in expect:
        yield "pictures", [*good, *good[-2:]]
    if "last" in expect:
        yield "last", [*good[:-2], good[0], first]
    thing = next((prop for prop in ("trumpet", "bucket") if prop not in str(message)), "")
    if thing and not re.search("music|song|sing|play|water|wet|rain", " ".join(message["say"]).lower()):
        yield "uninvited", [good[0], Picture(f"{first.caption} next to a {thing}"), *good[2:]]


def test_wrong_replies_are_wrong_of_every_kind(messages: list[dict[str, Any]]) -> None:
    seen: Counter[str] = Counter()
    for message in messages:
        for kind, reply in wrongs(message):
            if not kind:
                continue
            found = {problem.partition(":")[0] for problem in problems(message, reply)}
            assert kind in found, (message, kind, found, reply)
            seen[kind] += 1
    assert {*seen} == {
        "refusal", "limit", "answer", "offers", "short", "pictures", "text", "stranger", "who", "count", "place",
        "light", "weather", "prop", "action", "mood", "facing", "look", "accessory", "without", "names", "last",
        "uninvited",
    }  # fmt: skip


def test_the_figure_is_the_part_of_the_messages_without_problems() -> None:
    asked = [{"kind": kind, "say": ["x"], "expect": {}} for kind in ("a", "a", "b", "b")]
    figures = messages_module.figures(zip(asked, [[], ["who: 0 fox instead of 1"], [], []], strict=True))
    assert figures == {"messages_right": 0.75, "messages_right_by_kind": {"a": 0.5, "b": 1.0}}


def test_every_turn_is_answered_and_the_last_reply_judged() -> None:
    heard: list[tuple[str, ...]] = []

    class Chat:
        def write(self, conversation: Conversation, **how: object) -> Conversation:
            heard.append(tuple(turn.text for turn in conversation.turns if turn.role == "user"))
            if len(heard) == 3:
                raise PromptError("too long")
            return conversation.assistant([Text("A fox."), Picture("a fox at the lake")])

    asked = [
        {"kind": "a", "say": ["a fox", "at the lake"], "expect": {"who": {"fox": 1}, "place": "lake"}},
        {"kind": "b", "say": ["an owl"], "expect": {"who": {"owl": 1}}},
    ]
    results = messages_module.answered(Chat(), asked)  # type: ignore[arg-type]
    assert heard == [("a fox",), ("a fox", "at the lake"), ("an owl",)]
    assert [found for _, found in results] == [[], ["reply: too long"]]


@pytest.mark.parametrize("line", ["{", "{}", '{"kind": "a", "say": [], "expect": {}}', "[]"])
def test_a_file_that_holds_no_messages_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "messages.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        messages_module.load(path)
    path.write_text(line)
    with pytest.raises(UserError, match=r"Line 1 of .*messages.jsonl is no message"):
        messages_module.load(path)


@pytest.mark.parametrize("split", world.SPLITS)
def test_what_the_model_learns_to_say_is_right(split: world.Split) -> None:
    talk = Talk(random.Random(1), split)
    kinds = {
        "refusal": (talk.unknown, talk.question, talk.foreign, talk.senseless),
        "limit": (talk.crowd, talk.long, talk.coat),
        "answer": (talk.able,),
    }
    for says, makers in kinds.items():
        for make in makers * 30:
            exchange = make()
            asked = {"kind": says, "say": [exchange.message], "expect": {"says": says, "offers": True, "short": True}}
            assert not problems(asked, [Text(exchange.answer)]), exchange
    for make in (talk.hello, talk.name, talk.thanks, talk.farewell):
        assert not problems({"say": [""], "expect": {"says": "answer", "pictures": 0}}, [Text(make().answer)])


def test_true_stories_show_nobody_and_nothing_that_was_not_asked_for() -> None:
    asked = 0
    for seed in range(400):
        exchange = story(random.Random(seed), "train", exchanges=1).exchanges[0]
        if not exchange.panels or exchange.user_scene:
            continue
        asked += 1
        who = Counter(actor.species for actor in exchange.panels[0].scene.characters)
        message = {"say": [exchange.message], "expect": {"who": dict(who)}}
        reply = [part for panel in exchange.panels for part in (Text(panel.text), Picture(panel.caption))]
        unasked = [found for found in problems(message, reply) if found.startswith(("uninvited", "stranger"))]
        assert not unasked, (exchange.message, unasked)
    assert asked > 250


def test_what_is_not_forgotten_is_there() -> None:
    for text in ("Nobody forgets the drum.", "Do not forget the drum!", "It does not like the drum."):
        assert read(text, loose=True).of("prop") == {"drum"}, text
    assert not read("It has no drum.").of("prop") and read("It has no drum.").denied == {"prop": {"drum"}}
