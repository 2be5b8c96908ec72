"""What a prompt keeps of a conversation that is longer than the context: the premise always, the newest turns next."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import torch

from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.conversation.outline import CONTINUE
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.context import GAP
from m3adapter.language.prompts import Prompt, PromptError, PromptWriter

PICTURE = torch.zeros(2, 2, 3)
PREMISE = "A fox named Finn finds a kite on the beach and wants to fly to the moon."
CONFIG = LanguageModelConfig(picture_token="<pic>", picture_length=5)


class Words:
    """A tokenizer whose tokens are words, marks and single other characters."""

    all_special_ids: tuple[int, ...] = ()
    all_special_tokens: tuple[str, ...] = ()

    def __init__(self, make: str = "plain") -> None:
        self.chat_template = self.make = make
        self.known: list[str] = []
        self.added_tokens_decoder: dict[int, Any] = {}

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        parts = re.findall(r"<[^<> ]+>|\w+|\S|\s+", text)
        self.known += [part for part in dict.fromkeys(parts) if part not in self.known]
        return {"input_ids": [self.known.index(part) for part in parts]}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.known[number] for number in ids)

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = False, **_: Any) -> str:
        """As strict as Mistral's, if its name says so: no system turn, and alternating roles."""
        for number, message in enumerate(messages):
            if self.make == "strict" and message["role"] != ("user", "assistant")[number % 2]:
                raise ValueError("Conversation roles must alternate.")
        said = "".join(f"<{message['role']}>{message['content']}<end>" for message in messages)
        return said + ("<assistant>" if add_generation_prompt else "")


def writer(make: str = "plain", **changes: Any) -> PromptWriter:
    return PromptWriter(Words(make), LanguageModelConfig(**{**vars(CONFIG), **changes}))  # type: ignore[arg-type]


def read(prompts: PromptWriter, prompt: Prompt) -> str:
    return prompts.tokenizer.decode(prompt.ids)


def reply(number: int) -> list[Any]:
    return [
        Text(f"In panel {number} the fox flew on. " * 4),
        Picture(f"a fox over the sea {number}"),
        Text("So it was."),
    ]


def story(panels: int, *, premise: str = PREMISE, system: str = "", message: str = CONTINUE) -> Conversation:
    """A story in which the user has asked for another panel."""
    told = (Conversation().system(system) if system else Conversation()).user(premise)
    for number in range(panels):
        told = told.assistant(reply(number)).user(message)
    return told


def test_what_fits_stays_as_it_is() -> None:
    prompts, told = writer(), story(6, system="Be kind.")
    rendered = prompts.tokenizer.apply_chat_template(
        [{"role": turn.role, "content": "".join(prompts._written(part, turn.role) for part in turn.segments)}
         for turn in told.turns], add_generation_prompt=True,
    )  # fmt: skip
    prompt = prompts.for_reply(told, 5000)
    assert read(prompts, prompt) == rendered and prompt.note == ""
    exact = prompts.for_reply(told, len(prompt.ids))
    assert exact.ids == prompt.ids and prompts.for_reply(told, len(prompt.ids) - 1).note


@pytest.mark.parametrize("make", ["plain", "strict"])
@pytest.mark.parametrize("limit", [200, 400, 900])
def test_the_premise_stays_whatever_follows(make: str, limit: int) -> None:
    prompts = writer(make)
    for panels in range(32):
        told = story(panels, system="Be kind.")
        drawn, slot = told.assistant(reply(panels)), Slot(len(told.turns), 1)
        for prompt, newest in ((prompts.for_reply(told, limit), panels - 1),
                               (prompts.for_slot(drawn, slot, limit), panels)):  # fmt: skip
            written = read(prompts, prompt)
            assert len(prompt.ids) <= limit
            assert "Be kind." in written and PREMISE in written and written.count(PREMISE[:20]) == 1
            assert newest < 0 or f"panel {newest} " in written
            roles = re.findall(r"<(user|assistant)>", written)
            assert roles == [("user", "assistant")[number % 2] for number in range(len(roles))]


def test_a_premise_longer_than_the_context_is_shortened_and_stays() -> None:
    prompts = writer()
    long = "Once there was a fox who lived at the sea. " * 160 + "It wished for wings."
    for panels in (0, 1, 5, 30):
        prompt = prompts.for_reply(story(panels, premise=long), 500)
        written = read(prompts, prompt)
        asked = re.findall(r"<user>(.*?)<end>", written)
        assert 300 < len(prompt.ids) <= 500
        assert (
            asked[0].startswith("Once there was a fox") and GAP in asked[0] and asked[0].endswith("wished for wings.")
        )
        assert len(asked[0].split()) > 80
        assert panels == 0 or (asked[-1] == CONTINUE and f"panel {panels - 1} " in written)


def test_a_long_message_is_shortened_before_it_is_dropped() -> None:
    prompts = writer()
    told = Conversation().user("A bear.").assistant(reply(0))
    told = told.user("BEGIN " + "it rains and rains " * 200 + "END").assistant(reply(1)).user("And then?")
    written = read(prompts, prompts.for_reply(told, 400))
    assert "A bear." in written and "BEGIN it rains" in written and "rains END" in written and "And then?" in written
    assert "panel 0 " in written and "panel 1 " in written and written.count(GAP) == 1
    long = Conversation().user("A bear.").assistant([Text("HEAD " + "so it went on " * 300 + "TAIL")]).user("And then?")
    written = read(prompts, prompts.for_reply(long, 300))
    assert "HEAD so it went" in written and "went on TAIL" in written and GAP in written


def test_a_reply_of_many_pictures_keeps_its_beginning_and_its_end() -> None:
    prompts = writer()
    many = [part for number in range(60) for part in (Text(f"Part {number} is told."), Picture(f"scene {number}"))]
    written = read(prompts, prompts.for_reply(Conversation().user("A bear.").assistant(many).user("And then?"), 300))
    assert "Part 0 is told." in written and "scene 59<" in written and "Part 30 " not in written and GAP in written
    assert written.count("<image>") == written.count("</image>") > 4


def test_the_newest_message_comes_before_what_was_said_long_ago() -> None:
    prompts = writer()
    told = story(20).assistant(reply(20)).user("ASK " + "please do " * 90 + "NOW")
    written = read(prompts, prompts.for_reply(told, 700))
    assert "ASK please do" in written and written.count("please do") == 90 and PREMISE in written


def test_the_premise_of_a_new_story_stays_too() -> None:
    prompts = writer()
    told = story(4).assistant(reply(4)).user("An owl named Olga learns to swim.")
    for number in range(20):
        told = told.assistant(reply(100 + number)).user(CONTINUE)
    written = read(prompts, prompts.for_reply(told, 500))
    assert PREMISE in written and "Olga learns to swim" in written and "panel 119 " in written


def alike(one: list[int], other: list[int]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def test_turns_go_several_at_a_time_so_that_prompts_begin_alike() -> None:
    prompts, limit = writer(), 900
    before, again = [], 0
    for panels in range(100):
        ids = prompts.for_reply(story(panels), limit).ids
        again += len(before) - alike(before, ids)
        before = ids
    exchange = len(prompts.for_reply(story(2), limit).ids) - len(prompts.for_reply(story(1), limit).ids)
    assert 0 < again < 130 * exchange, "little more than an exchange is read again per panel"


@pytest.mark.parametrize("system", ["", "Be kind."])
def test_a_slot_is_read_after_what_its_reply_was_written_after(system: str) -> None:
    prompts = writer()
    for panels in range(60):
        told = story(panels, system=system)
        drawn = told.assistant(reply(panels))
        replied = prompts.for_reply(told, 700)
        prompt = prompts.for_slot(drawn, Slot(len(told.turns), 1), 860, reply_limit=700)
        assert len(prompt.ids) <= 860
        if prompt.note:
            assert prompt.ids[: len(replied.ids)] == replied.ids and prompt.note == replied.note
    assert prompt.note
    # Where there is too little room for that, more is left out.
    assert len(prompts.for_slot(drawn, Slot(len(told.turns), 1), 400, reply_limit=700).ids) <= 400


def test_pictures_go_with_their_turns_and_the_premises_last() -> None:
    prompts = writer()
    told = Conversation().user("A bear.", [PICTURE, PICTURE])
    for number in range(10):
        told = told.assistant(reply(number)).user("And this?", [PICTURE])
    assert prompts.for_reply(told, 5000).pictures == tuple(range(12))
    prompt = prompts.for_reply(told, 250)
    assert prompt.pictures[:2] == (0, 1) and prompt.pictures[-1] == 11 and len(prompt.pictures) < 12
    assert read(prompts, prompt).count("<pic>") == 5 * len(prompt.pictures)
    many = Conversation().user("A bear with friends.", [PICTURE] * 20).assistant(reply(0)).user("Go on.", [PICTURE])
    prompt = prompts.for_reply(many, 60)
    assert prompt.pictures == (20,) and "A bear with friends." in read(prompts, prompt)


def test_what_was_left_out_is_said_in_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    prompts = writer()
    prompts.for_reply(story(3), 5000)
    assert not caplog.records
    assert prompts.for_reply(story(20), 500).note.startswith(
        "The conversation is longer than the language model's context: "
    )
    assert re.search(r"\d+ earlier turns are left out\.$", prompts.for_reply(story(20), 500).note)
    assert prompts.for_reply(story(0, premise="so it was " * 900), 500).note.endswith(": 1 turn is shortened.")
    assert len(caplog.records) == 3 and all("M2Chat: The conversation is longer" in text for text in caplog.messages)


@pytest.mark.parametrize("seed", range(60))
def test_any_conversation_fits_any_context(seed: int) -> None:
    chance = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(
            chance.choice(("fox", "sea", "<b>", "森", "🦊", "kite,")) for _ in range(chance.randint(1, most))
        )

    told = Conversation().system(f"RULE {words(60)}") if chance.random() < 0.5 else Conversation()
    for number in range(chance.randint(1, 9)):
        if number:
            told = told.assistant([part for _ in range(chance.choice((0, 1, 6)))
                                   for part in (Text(words(90)), Picture(words(chance.choice((2, 99)))))])  # fmt: skip
        told = told.user(f"Q{number} {words(chance.choice((3, 30, 600)))}", [PICTURE] * chance.choice((0, 0, 1, 3)))
    prompts, limit = writer(), chance.choice((120, 300, 900))
    whole = len(prompts.for_reply(told, 10**6).ids)
    prompt = prompts.for_reply(told, limit)
    written = read(prompts, prompt)
    assert len(prompt.ids) <= limit and bool(prompt.note) == (whole > limit)
    assert "Q0 " in written or limit == 120
    assert f"Q{sum(turn.role == 'user' for turn in told.turns) - 1} " in written
    assert ("RULE " in written) == (told.turns[0].role == "system")
    assert written.count("<pic>") == 5 * len(prompt.pictures) and prompt.pictures == tuple(sorted(prompt.pictures))
    for slot in told.slots()[-3:]:
        prompt = prompts.for_slot(told, slot, limit)
        assert len(prompt.ids) <= limit
        assert read(prompts, prompt).endswith(prompts.tokenizer.decode([prompt.ids[place] for place in prompt.caption]))


def test_a_context_too_small_for_any_message_is_reported() -> None:
    for prompts, limit in ((writer(), 6), (writer(instructions="Tell. " * 99), 90)):
        with pytest.raises(PromptError, match="too few for this message"):
            prompts.for_reply(story(3), limit)
