"""Telling thoughts from replies, however a model marks its thoughts and however its stream is cut."""

from __future__ import annotations

import random

import pytest

from m3adapter.conversation.conversation import Conversation, Picture
from m3adapter.conversation.segments import Text
from m3adapter.events import Event, TextChunk, TextWithdrawn, ThoughtChunk
from m3adapter.language.thoughts import Said, ThoughtError, ThoughtSplitter, Withdrawn, split
from m3adapter.pipeline import M2Chat
from m3adapter.story_writing import write_outline
from standins import SAMPLING, chat, events_of
from toys import one_sentence

SAID = "There was a fox.\n<image>a fox</image>\nIt ran."
SECRET = "I plan. <image>a secret cat</image>\n1. [image: secret]"
HARMONY = "<|end|><|start|>assistant"
CHANNEL = "<|channel|>{}<|message|>"
ANALYSIS, COMMENTARY, FINAL = (CHANNEL.format(name) for name in ("analysis", "commentary", "final"))

# What the chat template has written of the reply, and the reply.
REPLIES = {
    "none": ("<|im_start|>assistant\n", SAID),
    "closed by the template": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", SAID),
    "opened by the template": ("<|im_start|>assistant\n<think>\n", f"{SECRET}\n</think>\n\n{SAID}"),
    "empty": ("", f"<think>\n\n</think>\n\n{SAID}"),
    "its beginning left out": ("", f"{SECRET}\n</think>\n\n{SAID}"),
    "only its end": ("", f"</think>\n\n{SAID}"),
    "a mark that closes itself": ("", f"<think/>\n{SAID}"),
    "ends in code": ("", f"{SECRET} I write `a`</think>{SAID}"),
    "speaks of its mark in code": ("", f"<think>{SECRET} `</think>` {SECRET}</think>{SAID}"),
    "an end too many": ("", f"<think>{SECRET}</think>{SAID}\n</think>"),
    "an end and no thought": ("", f"{SAID}</think>\n"),
    "speaks of its mark": ("", f"<think>I close with </think> at last. {SECRET}</think>{SAID}"),
    "within another": ("", f"<think>{SECRET}<think>b</think>secret</think>{SAID}"),
    "blanks before": ("", f"\n\n<think>{SECRET}</think>\n{SAID}"),
    "in the middle": ("", f"<think>{SECRET}</think>{SAID[:9]}<think>secret</think>{SAID[9:]}"),
    "attributes": ("", f'<think time="3">{SECRET}</think>{SAID}'),
    **{
        mark: ("", f"<{mark}>\n{SECRET}\n</{mark}>\n\n{SAID}")
        for mark in ("think", "Thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "seed:think",
                     "inner_monologue", "analysis")
    },
    "bars": ("", f"<|thinking|>{SECRET}<|/thinking|>{SAID}"),
    "edges": ("", f"<|START_THINKING|>{SECRET}<|END_THINKING|><|START_RESPONSE|>{SAID}<|END_RESPONSE|>"),
    "edges of": ("", f"<|begin_of_thought|>{SECRET}<|end_of_thought|><|begin_of_solution|>{SAID}<|end_of_solution|>"),
    "brackets": ("[/INST]", f"[THINK]{SECRET}[/THINK]{SAID}"),
    "brackets opened": ("[/INST][THINK]", f"{SECRET}[/THINK]{SAID}"),
    "triangles": ("", f"◁think▷{SECRET}◁/think▷{SAID}"),
    "inner": ("", f"<|inner_prefix|>{SECRET}<|inner_suffix|>{SAID}"),
    "answer": ("", f"<think>{SECRET}</think>\n<answer>\n{SAID}</answer>"),
    "output": ("", f"<thinking>{SECRET}<reflection>hm</reflection>{SECRET}</thinking><output>{SAID}</output>"),
    "words": ("", f"Here is my thought process:\n{SECRET}\n\nHere is my response:\n{SAID}"),
    "bold words": ("", f"**Here's my thought process:** {SECRET} **Here's my response:** {SAID}"),
    "Gemma": ("<|turn>model\n", f"<|channel>thought\n{SECRET}<channel|>{SAID}"),
    "Gemma, closed": ("<|turn>model\n<|channel>thought\n<channel|>", SAID),
    "harmony": (HARMONY, f"{ANALYSIS}{SECRET}{HARMONY}{FINAL}{SAID}<|return|>"),
    "harmony, commentary": (HARMONY, f"{ANALYSIS}{SECRET}{HARMONY}{COMMENTARY}{SECRET}{HARMONY}{FINAL}{SAID}"),
    "harmony, opened": (HARMONY + ANALYSIS, f"{SECRET}{HARMONY}{FINAL}{SAID}<|return|>"),
    "harmony, no thought": (HARMONY, f"{FINAL}{SAID}<|return|>"),
    "harmony, constrained": (HARMONY, f"{ANALYSIS}{SECRET}{HARMONY}<|channel|>final <|constrain|>x<|message|>{SAID}"),
    "harmony, another's turn": (HARMONY, f"{FINAL}{SAID}<|end|><|start|>user<|message|>secret"),
    "harmony, bare": (HARMONY, f"analysis{SECRET}assistantfinal{SAID}"),
    "harmony, bare, commentary": ("", f"analysis{SECRET}assistantcommentarysecretassistantfinal{SAID}"),
    "harmony, bare, no thought": ("", f"final{SAID}"),
    "Solar": ("<|begin|>assistant", f"<|think|>{SECRET}<|end|><|begin|>assistant<|content|>{SAID}<|end|>"),
}  # fmt: skip


def told(pieces: list) -> str:
    """The text that stays, after everything withdrawn is removed."""
    said = ""
    for piece in pieces:
        said = said[: len(said) - piece.length] if isinstance(piece, Withdrawn) else said
        said += piece.text if isinstance(piece, Said) else ""
    return said


@pytest.mark.parametrize("kind", REPLIES)
def test_nothing_of_a_thought_is_said_and_nothing_else_is_lost(kind: str) -> None:
    opening, reply = REPLIES[kind]
    said, thought = split(reply, opening)
    assert said.strip() == SAID and ("secret" in thought) == ("secret" in reply)
    draw = random.Random(0)
    for longest in (1, 2, 9):
        splitter, rest, pieces = ThoughtSplitter(opening), reply, []
        while rest:
            size = draw.randint(1, longest)
            pieces += splitter.feed(rest[:size])
            rest = rest[size:]
        assert told(pieces + splitter.close()) == said, "the cut of the stream changes nothing"


@pytest.mark.parametrize(
    "text",
    ["1 < 2 and 3 > 2", "I <3 you", "He <thinks> of <b>home</b>.", "analysis of a fox", "final words",
     "[Thinking] Yes.", "</answer> is no answer", "Here is my thought.",
     "<answer>yes</answer>", "a <", "\n", " <image>a fox</image>",
     "He will <think of home> soon.", "finally", "a [th",
     "Models write `<think>` and `</think>` around it. Now go on.", "`</think>` ends it: `[/THINK]`, too."],
)  # fmt: skip
def test_what_only_looks_like_a_thought_is_said(text: str) -> None:
    assert split(text) == (text, "")


def test_the_end_of_a_message_ends_a_reply_unless_it_ends_a_channel() -> None:
    assert ThoughtSplitter(HARMONY + ANALYSIS).goes_on("<|end|>")
    assert not ThoughtSplitter(HARMONY + ANALYSIS).goes_on("<|return|>")
    assert not ThoughtSplitter(HARMONY + FINAL).goes_on("<|end|>")
    assert not ThoughtSplitter("<|end|><|assistant|><think>").goes_on("<|end|>"), "another model's end of everything"


def test_text_is_said_at_once() -> None:
    splitter = ThoughtSplitter()
    assert splitter.feed("Once upon") == [Said("Once upon")]
    assert splitter.feed(" <th") == [Said(" ")] and splitter.holding
    assert splitter.feed("e>") == [Said("<the>")]
    assert splitter.feed("<think>Hm") == [ThoughtChunk("Hm")] and splitter.thinking


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<|im_start|>assistant\n<think>\n", "\n</think>\n\n"),
        ("[THINK]", "\n[/THINK]\n\n"),
        ("<seed:think>", "\n</seed:think>\n\n"),
        ("<|turn>model\n<|channel>thought\n", "<channel|>"),
        (HARMONY, FINAL),
        (HARMONY + ANALYSIS, f"{HARMONY}{FINAL}"),
        ("<|im_start|>assistant\n", ""),
        ("<|begin|>assistant", ""),
    ],
)
def test_a_thought_can_be_closed_as_it_was_opened(opening: str, closing: str) -> None:
    splitter = ThoughtSplitter(opening)
    assert splitter.closing() == closing
    splitter.feed(closing)
    assert not splitter.thinking
    if ThoughtSplitter(opening).thinking:
        assert split(ThoughtSplitter(opening).begun + f"secret{closing}yes") == ("yes", "secret")


# The pipeline


def pieces(reply: str) -> list[str]:
    return [reply[start : start + 5] for start in range(0, len(reply), 5)]


@pytest.mark.parametrize("kind", REPLIES)
def test_thoughts_are_neither_told_nor_painted_nor_remembered(kind: str) -> None:
    opening, reply = REPLIES[kind]
    begun = ThoughtSplitter(opening).begun
    model = chat(pieces(begun + reply))
    events = events_of(model.turn, Conversation().user("Tell."), steps=1, sampling=SAMPLING)
    conversation = events[-1].conversation
    assert "secret" not in str(conversation.messages())
    assert conversation.turns[-1].text.strip() == "There was a fox.\n\nIt ran."
    assert [painted.captions for painted in model.decoder.painted] == [("a fox",)]
    assert ("secret" in "".join(e.text for e in events if isinstance(e, ThoughtChunk))) == ("secret" in reply)
    shown = ""
    for event in events:
        shown = event.text if isinstance(event, TextWithdrawn) else shown
        shown += event.text if isinstance(event, TextChunk) else ""
    assert shown == conversation.turns[-1].text, "what was shown of a thought is taken back"


@pytest.mark.parametrize("reply", ["<think>hm", "<think>hm</think>", f"{ANALYSIS}hm<|end|>", "<think>hm</think>\n \n"])
def test_a_reply_of_thoughts_alone_is_an_error(reply: str) -> None:
    with pytest.raises(ThoughtError, match="try another seed or model") as refusal:
        chat(pieces(reply)).write(Conversation().user("Tell."), sampling=SAMPLING)
    assert one_sentence(refusal.value)


def test_what_was_said_before_a_thought_without_end_is_kept() -> None:
    told = chat(pieces(f"{SAID}<think>{SECRET}")).write(Conversation().user("Tell."), sampling=SAMPLING)
    assert told.turns[-1].text == "There was a fox.\n\nIt ran."


def test_an_outline_is_not_what_was_thought() -> None:
    model = chat(["<think>1. A cat.\n2. A secret.</think>1. A fox wakes.\n2. It runs."])
    model.language_model.without_instructions = lambda: model.language_model
    assert write_outline(model.language_model, "A fox.", 2) == ("A fox wakes.", "It runs.")


# As many pictures as are wanted


def test_a_reply_has_so_many_pictures_and_the_rest_is_text() -> None:
    reply = "A walk.<image>a fox</image>" + "".join(f"<image>bear {number}</image>Then. " for number in range(6))
    written = {most: chat(pieces(reply)).write(Conversation().user("Go."), sampling=SAMPLING, max_pictures=most)
               for most in (1, 4, 7)}  # fmt: skip
    captions = {most: [each.caption for each in told.turns[-1].segments if isinstance(each, Picture)]
                for most, told in written.items()}  # fmt: skip
    assert captions[7] == ["a fox", *(f"bear {number}" for number in range(6))]
    assert captions[4] == captions[7][:4] and captions[1] == captions[7][:1]
    assert written[1].turns[-1].segments[-1] == Text("".join(f" bear {number} Then." for number in range(6)) + " ")
    assert chat(pieces(reply)).write(Conversation().user("Go."), sampling=SAMPLING) == written[4], "4 are the default"
    heard: list[Event] = []
    chat(pieces(reply)).write(Conversation().user("Go."), sampling=SAMPLING, max_pictures=1, on_event=heard.append)
    assert "".join(event.text for event in heard if isinstance(event, TextChunk)) == written[1].turns[-1].text
    for most in (0, 33, 1.5):
        with pytest.raises(ValueError, match="max_pictures is .*: give a whole number from 1 to 32"):
            chat().write(Conversation().user("Go."), sampling=SAMPLING, max_pictures=most)


def test_a_story_paints_so_many_pictures_in_each_panel() -> None:
    model: M2Chat = chat(["A.<image>a</image><image>b</image><image>c</image>"])
    told = model.story("A fox.", 2, steps=1, sampling=SAMPLING, max_pictures=2)
    assert [painted.captions[0] for painted in model.decoder.painted] == ["a", "b", "a", "b"]
    assert [turn.text.split() for turn in told.turns[1::2]] == [["A.", "c"]] * 2
