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
from pathlib import Path
from typing import Any

import pytest

from m3adapter.picturebook import world

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
