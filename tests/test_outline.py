"""The outline of a story: typed by hand, or written by a language model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import toy_llms
from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.outline import CONTINUE, beats, messages
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.story_writing import write_outline
from m3adapter.values import rerolls


class Planner:
    """A language model that says what it is told to."""

    sees = "not at all"

    def __init__(self, reply: str) -> None:
        self.said = reply

    def check_sees(self, conversation) -> None:
        pass

    def without_instructions(self) -> Planner:
        return self

    def reply(self, conversation, **how):
        yield self.said


def test_typed_lines_lose_their_numbers_and_nothing_else() -> None:
    text = "1. A fox wakes.\n\n  2) It runs.  \n- It  sleeps.\n**Scene 4:** It dreams.\n"
    text += "1984 was cold.\n-5 degrees.\nScene: a hill."
    assert beats(text) == (
        "A fox wakes.", "It runs.", "It sleeps.", "It dreams.", "1984 was cold.", "-5 degrees.", "Scene: a hill.",
    )  # fmt: skip
    for line in (
        "A fox - a red one - runs.",
        "An owl: 3. house, 2) left.",
        "<b>A fox</b> <i>ran</i>",
        "It is > 4. And # 5",
    ):
        assert beats(line) == (line,)
    assert beats(" \n\n") == ()
    with pytest.raises(ValueError, match="33 lines"):
        beats("x\n" * 33)


def test_messages_are_premise_lines_and_the_usual_question() -> None:
    assert messages("A fox.", 3) == ["A fox.", CONTINUE, CONTINUE]
    assert messages("A fox. ", 3, ["a", "b"]) == ["A fox.\na", "b", CONTINUE]
    assert messages("A fox.", 2, ["a", "b"]) == ["A fox.\na", "b"]


def test_a_model_is_asked_for_so_many_lines() -> None:
    reply = "Here are three scenes:\n\n1. A fox wakes.\n2. It runs.\n<image>a fox</image>\n3. It sleeps.\n4. The end."
    assert write_outline(Planner(reply), "A fox.", 3) == ("A fox wakes.", "It runs.", "It sleeps.")
    with pytest.raises(ValueError, match="wrote 1 of 3 lines: try another seed or a larger model, or write"):
        write_outline(Planner("A fox wakes. It runs."), "A fox.", 3)
    with pytest.raises(ValueError, match="premise is empty"):
        write_outline(Planner(reply), " ", 3)


def test_it_is_asked_without_the_instructions_about_pictures(tmp_path) -> None:
    model = LanguageModel.from_pretrained(toy_llms.qwen3(tmp_path / "model"))
    assert model.config.instructions
    asked: list[str] = []

    def watch(writer) -> None:
        original = writer.template.render
        writer.template = SimpleNamespace(
            render=lambda given: asked.append(str(given)) or original(given), shows_pictures=False
        )

    plain = model.without_instructions()
    watch(plain.prompts)
    list(plain.reply(Conversation().user("Plan."), sampling=Sampling(max_length=1)))
    assert len(asked) == 1 and "illustrated" not in asked[0] and model.prompts.instructions


def test_rerolls_are_read_as_people_write_them() -> None:
    assert rerolls(" 3: 1, 5=2\n7:0;") == {3: 1, 5: 2, 7: 0} and rerolls(" ") == {}
    for text in ("3", "3: x", "0: 1", "3: -1", "3: 1, 3: 2", "a: 1"):
        with pytest.raises(ValueError, match="write pictures and numbers like 3: 1, 5: 2"):
            rerolls(text)
