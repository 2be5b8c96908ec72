"""Stories: what the pipeline says, paints and counts from panel to panel, with stand-ins for the four models."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from m3adapter.conversation.conversation import Conversation, ConversationError, ReferencePolicy, Text
from m3adapter.conversation.outline import CONTINUE
from m3adapter.conversation.seeds import picture_seed, story_seeds, turn_seed
from m3adapter.events import (
    Interrupted,
    NotFinite,
    PictureStarted,
    ReplyWritten,
    SoFar,
    StoryEnded,
    TextChunk,
    TurnDone,
)  # fmt: skip
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.prompts import PromptError
from m3adapter.language.reply import Declined
from m3adapter.language.streamed_reply import Course, StreamedReply
from m3adapter.language.thoughts import ThoughtError
from m3adapter.pipeline import M2Chat
from m3adapter.story_writing import write_story
from standins import REPLY, SAMPLING, chat, events_of, shape


def test_a_story_asks_what_happens_next_with_seeds_of_its_own() -> None:
    model = chat()
    events = events_of(model.story, "A fox.", 3, seed=2**64 - 1, steps=1, sampling=SAMPLING)
    assert shape(events) == "tw" * 3 + "psd." * 3, "all words, then the pictures"
    written = [event.conversation for event in events if isinstance(event, ReplyWritten)]
    assert [len(story.open_slots()) for story in written] == [1, 2, 3]
    told = [event.conversation for event in events if isinstance(event, TurnDone)]
    assert [(len(story.turns), story.open_slots()) for story in told] == [(2, ()), (4, ()), (6, ())]
    conversation = events[-1].conversation
    assert [t.text for t in conversation.turns if t.role == "user"] == ["A fox.", CONTINUE, CONTINUE]
    assert len(conversation.pictures()) == 3
    seeds = [turn_seed(2**64 - 1, panel) for panel in range(3)]
    assert seeds == [2**64 - 1, 0x9E3779B97F4A7C14, 0x3C6EF372FE94F829]
    assert [asked.seed for asked in model.language_model.asked] == seeds
    assert [painted.seed for painted in model.decoder.painted] == seeds
    second = chat().turn(Conversation(conversation.turns[:3]), seed=seeds[1], steps=1, sampling=SAMPLING)
    assert second.turns[3].text == conversation.turns[3].text, "a panel can be repeated as a turn"


def seeds_of(model: M2Chat, **how) -> list[int]:
    """The seeds of the pictures of a story of three panels with two pictures each."""
    model.story("A fox.", 3, seed=5, steps=1, sampling=SAMPLING, **how)
    return [painted.seed for painted in model.decoder.painted]


def test_a_reroll_changes_the_seed_of_its_picture_only() -> None:
    two = ["<image>one</image><image>two</image>"]
    before, after = seeds_of(chat(two)), seeds_of(chat(two), rerolls={3: 1, 6: 2})
    assert [new != old for new, old in zip(after, before, strict=True)] == [False, False, True, False, False, True]
    assert after[2] == picture_seed(turn_seed(5, 1), 0, 1) and after[5] == picture_seed(turn_seed(5, 2), 1, 2)
    assert picture_seed(turn_seed(5, 1), 0) == turn_seed(5, 1) == before[2]
    assert picture_seed(2**64 - 1, 1, 1) == 0xD1B54A32D192ED03
    with pytest.raises(ValueError, match="rerolls has picture 9, and the story has only 6: leave it out"):
        seeds_of(chat(two), rerolls={9: 1})


def test_a_story_follows_its_outline() -> None:
    model = chat()
    events = events_of(model.story, "A fox.", 3, steps=1, sampling=SAMPLING, outline=["It wakes.", "It runs."])
    said = [turn.text for turn in events[-1].conversation.turns if turn.role == "user"]
    assert said == ["A fox.\nIt wakes.", "It runs.", CONTINUE]
    with pytest.raises(ValueError, match="The outline has 2 lines for 1 panel"):
        model.story("A fox.", 1, outline=["It wakes.", "It runs."])


def test_a_story_goes_on_where_a_conversation_ended() -> None:
    model = chat()
    grey = torch.full((2, 2, 3), 0.5)
    start = Conversation().system("Be kind.").with_character("fox", [grey])
    first = model.story("A fox.", 1, steps=1, sampling=SAMPLING, start=start)
    again = model.story("It snows.", 1, steps=1, sampling=SAMPLING, start=first, rerolls={1: 1})
    assert [turn.text for turn in again.turns if turn.role != "assistant"] == ["Be kind.", "A fox.", "It snows."]
    assert again.cast == start.cast and model.decoder.painted[1].seed == picture_seed(0, 0, 1)
    looks = [features.vision[0, :, 0, 0, 0].tolist() for features, _ in model.adapter.fused]
    assert looks == [pytest.approx([0.5]), pytest.approx([0.5, 0.1])], "the cast's picture comes first"
    with pytest.raises(ConversationError, match="Two user messages"):
        model.story("A fox.", 1, start=again.user("And?"))


def test_every_panel_of_a_story_has_a_picture() -> None:
    model = chat(["A red fox ran away. ", "Then night fell."], [], ["It rained all day.<image>", " "])
    events = events_of(model.story, "A fox in the snow. It is cold.", 3, steps=1, sampling=SAMPLING)
    captions = [event.caption for event in events if isinstance(event, PictureStarted)]
    assert captions == ["A red fox ran away.", "A fox in the snow.", "It rained all day."]
    assert len(events[-1].conversation.pictures()) == 3


def test_the_words_of_a_story_can_be_written_alone() -> None:
    replies = ["One.<image>a</image>Two.<image>b</image>"], ["Then night fell."], []
    told = chat(*replies).story("A fox. It is cold.", 3, seed=5, steps=1, sampling=SAMPLING)
    model, heard = chat(*replies), []
    how = {"seed": 5, "sampling": SAMPLING, "on_event": heard.append}
    written = write_story(model.language_model, "A fox. It is cold.", 3, **how)
    panels = [event.conversation for event in heard if isinstance(event, TurnDone)]
    assert [len(conversation.slots()) for conversation in panels] == [2, 3, 4] and panels[-1] is written
    assert [turn.text for turn in written.turns] == [turn.text for turn in told.turns]
    pictures = [told.at(slot) for slot in told.slots()]
    assert [written.at(slot).caption for slot in written.open_slots()] == [picture.caption for picture in pictures]
    assert story_seeds(written, 5) == [picture.seed for picture in pictures]
    assert "".join(event.text for event in heard if isinstance(event, TextChunk)) == "One.Two.Then night fell."
    assert not model.decoder.painted
    with pytest.raises(ValueError, match="The premise is empty"):
        write_story(model.language_model, " ", 3)


def trained(*replies: list[str]) -> M2Chat:
    """A chat whose language model was trained for pictures, needs no instructions, and ends its replies."""
    model = chat(*replies)
    model.language_model.config = LanguageModelConfig()
    write = model.language_model.reply
    model.language_model.reply = lambda *given, **how: StreamedReply(write(*given, **how), Course(ended=True))
    return model


def test_what_a_trained_model_answers_without_a_picture_is_no_story() -> None:
    refusal = ["I cannot draw a tiger. ", "How about a fox?"]
    for tell in (trained(refusal).story, partial(write_story, trained(refusal).language_model)):
        with pytest.raises(Declined) as declined:
            tell("A tiger.", 3, sampling=SAMPLING)
        assert str(declined.value) == (
            "The language model answers in words alone: “I cannot draw a tiger. How about a fox?” "
            "Ask for something that it can draw."
        )
    events = events_of(trained(REPLY, refusal).story, "A fox.", 3, steps=1, sampling=SAMPLING)
    assert isinstance(events[-1], StoryEnded) and (events[-1].told, events[-1].panels) == (1, 3)
    assert (
        "“I cannot draw a tiger. How about a fox?”" in events[-1].text and len(events[-1].conversation.pictures()) == 1
    )
    answered = trained(refusal).turn(Conversation().user("A tiger."), steps=1, sampling=SAMPLING)
    assert answered.turns[-1].text == "".join(refusal) and not answered.slots(), "in a conversation it is an answer"
    assert len(trained([]).story("A fox.", 2, steps=1, sampling=SAMPLING).pictures()) == 2, "silence is no answer"
    cut = chat(refusal)
    cut.language_model.config = LanguageModelConfig()
    assert len(cut.story("A fox.", 2, steps=1, sampling=SAMPLING).pictures()) == 2, "nor is what was cut off"


class FailsAt:
    """A stand-in for the language model whose reply number `number` (from 1) cannot be used."""

    def __init__(self, model: M2Chat, number: int, error: Exception) -> None:
        self.model, self.number, self.error = model.language_model, number, error

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def reply(self, conversation, **how):
        yield from self.model.reply(conversation, **how)
        if len(self.model.asked) == self.number:
            raise self.error


ERRORS = [
    ThoughtError("The language model thought, and then said nothing: try another seed or model."),
    PromptError("The language model's context leaves 3 tokens, too few for this message."),
    NotFinite("The UNet computed NaN: choose another dtype."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_was_told_and_painted_stays_where_a_later_panel_fails(error: Exception) -> None:
    whole = chat(REPLY).story("A fox.", 2, steps=1, sampling=SAMPLING)
    model = chat(REPLY)
    model.language_model = FailsAt(model, 3, error)
    events = events_of(model.story, "A fox.", 4, steps=1, sampling=SAMPLING)
    end = events[-1]
    assert isinstance(end, StoryEnded) and shape(events[:-1]) == "twtwt" + "psd.psd.", "its text had begun"
    assert (end.told, end.panels) == (2, 4)
    assert end.text == f"The story ends after 2 of 4 panels, for the {str(error)[4:]}"
    assert end.conversation is [event for event in events if isinstance(event, TurnDone)][-1].conversation
    assert [turn.text for turn in end.conversation.turns] == [turn.text for turn in whole.turns]
    assert len(end.conversation.pictures()) == len(whole.pictures()) > 0
    heard: list = []
    writer = chat(REPLY)
    writer.language_model = FailsAt(writer, 3, error)
    written = write_story(writer.language_model, "A fox.", 4, sampling=SAMPLING, on_event=heard.append)
    assert len(written.turns) == 4 and heard[-1] == StoryEnded(written, 2, 4, str(error))


def test_a_story_that_fails_at_its_first_panel_is_an_error() -> None:
    model = chat(REPLY)
    model.language_model = FailsAt(model, 1, ERRORS[0])
    with pytest.raises(ThoughtError):
        model.story("A fox.", 4, steps=1, sampling=SAMPLING)
    model.language_model = FailsAt(chat(REPLY), 1, ERRORS[0])
    with pytest.raises(ThoughtError):
        write_story(model.language_model, "A fox.", 4, sampling=SAMPLING)


def test_a_defect_is_no_end_of_a_story() -> None:
    model = chat(REPLY)
    model.language_model = FailsAt(model, 2, ValueError("shapes do not fit"))
    with pytest.raises(ValueError, match="shapes do not fit"):
        model.story("A fox.", 4, steps=1, sampling=SAMPLING)


class PaintsBadly:
    """A stand-in for the decoder whose picture number `number` (from 1) cannot be used."""

    def __init__(self, model: M2Chat, number: int, error: Exception) -> None:
        self.decoder, self.number, self.error = model.decoder, number, error
        self.vae, self.unet, self.native_size = self.decoder.vae, self.decoder.unet, self.decoder.native_size

    def decode(self, *arguments, **how):
        image = self.decoder.decode(*arguments, **how)
        if len(self.decoder.painted) == self.number:
            raise self.error
        return image


TWO = ["Words. <image>one</image><image>two</image>"]


def test_a_story_ends_before_the_panel_whose_picture_fails() -> None:
    model = chat(TWO)
    model.decoder = PaintsBadly(model, 6, NotFinite("The UNet computed NaN: choose another dtype."))
    events = events_of(model.story, "A fox.", 4, steps=1, sampling=SAMPLING)
    end = events[-1]
    assert isinstance(end, StoryEnded) and (end.told, end.panels) == (2, 4)
    assert len(end.conversation.turns) == 4 and len(end.conversation.pictures()) == 4
    assert end.conversation == [event for event in events if isinstance(event, TurnDone)][-1].conversation
    model = chat(TWO)
    model.language_model = FailsAt(model, 4, ERRORS[0])
    model.decoder = PaintsBadly(model, 3, ERRORS[2])
    end = events_of(model.story, "A fox.", 5, steps=1, sampling=SAMPLING)[-1]
    assert (end.told, end.reason, len(end.conversation.turns)) == (1, str(ERRORS[2]), 2), "what comes first counts"
    model = chat(TWO)
    model.decoder = PaintsBadly(model, 2, ERRORS[2])
    with pytest.raises(NotFinite):
        model.story("A fox.", 4, steps=1, sampling=SAMPLING)


class CountsSlots(FailsAt):
    """Cannot read the slot number `number`."""

    def encode_slot(self, *arguments, **how):
        if len(self.model.encoded) + 1 == self.number:
            raise self.error
        return self.model.encode_slot(*arguments, **how)


def test_a_panel_whose_slot_cannot_be_read_is_not_told() -> None:
    model = chat(TWO)
    model.language_model = CountsSlots(model, 4, ERRORS[1])
    events = events_of(model.story, "A fox.", 4, steps=1, sampling=SAMPLING)
    assert shape(events[:-1]) == "twt" + "psdpsd." and events[-1].told == 1
    assert len(model.language_model.asked) == 2, "nothing is written behind a panel that failed"


@pytest.mark.parametrize(
    ("at", "turns", "painted"),
    [("t1", 0, 0), ("t2", 2, 0), ("w2", 4, 0), ("p1", 6, 0), ("d1", 6, 1), ("s3", 6, 1), ("d4", 6, 4)],
)
@pytest.mark.parametrize("how", ["should_stop", "exception"])
def test_whoever_stops_a_story_keeps_what_was_told_and_painted(at: str, turns: int, painted: int, how: str) -> None:
    model, heard, stop = chat(TWO), [], False

    def on_event(event) -> None:
        nonlocal stop
        heard.append(event)
        so_far.hear(event)
        if shape(heard).count(at[0]) == int(at[1]):
            stop = True
            if how == "exception":
                raise KeyboardInterrupt

    so_far = SoFar()
    with pytest.raises(Interrupted if how == "should_stop" else KeyboardInterrupt) as caught:
        model.story("A fox.", 3, steps=2, sampling=SAMPLING, on_event=on_event, should_stop=lambda: stop)
    if how == "should_stop":
        assert caught.value.conversation is so_far.conversation
    kept = so_far.conversation or Conversation()
    assert (len(kept.turns), len(kept.pictures())) == (turns, painted)
    whole = chat(TWO).story("A fox.", 3, steps=2, sampling=SAMPLING)
    assert all(kept.at(slot) == whole.at(slot) for slot in kept.pictures())


def test_language_model_and_decoder_change_places_once_in_a_story() -> None:
    model, ready = chat(TWO), []
    model.prepare = ready.append
    model.story(
        "A fox.", 8, steps=1, sampling=SAMPLING, start=Conversation().with_character("fox", [torch.rand(2, 2, 3)])
    )
    order = [part for part in ready if part in ("language_model", "decoder")]
    assert sum(one != other for one, other in zip(order, order[1:], strict=False)) == 1


def test_what_the_user_shows_is_looked_at_once_in_a_story() -> None:
    model, ready = chat(TWO), []
    model.prepare = ready.append
    shown = Conversation().user("Look.", [torch.rand(2, 2, 3)]).assistant([Text("A fox.")])
    model.story("It runs.", 3, steps=1, sampling=SAMPLING, start=shown, references=ReferencePolicy(count=0))
    assert ready.count("vision_encoder") == 1 and len(model.language_model.encoded) == 6
    assert all(len(each.visual) == 1 for each in (*model.language_model.asked, *model.language_model.encoded))
