"""The pipeline's own logic (events, seeds, references, interruption), with stand-ins for the four models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import toys
from m3adapter import stages
from m3adapter.adapter.features import SlotFeatures
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot, Text
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.events import Event, Interrupted, PictureStarted, Step, TextChunk
from m3adapter.gate import GateSetting
from m3adapter.pipeline import M2Chat
from m3adapter.settings import TurnSettings
from standins import SAMPLING, ToyAdapterStandIn, chat, events_of, shape


def test_a_turn_is_text_then_pictures_then_done() -> None:
    model = chat(["Hello. ", "<image>a fox</image>", " And", "<image>a bear</image>"])
    asked = Conversation().user("Tell.")
    events = events_of(model.turn, asked, gate=0.5, seed=7, steps=2, guidance=4.0, sampling=SAMPLING)
    assert shape(events) == "ttwpssdpssd."
    started = [event for event in events if isinstance(event, PictureStarted)]
    assert started == [PictureStarted(Slot(1, 1), "a fox", 0, 2), PictureStarted(Slot(1, 3), "a bear", 1, 2)]
    steps = [(event.slot, event.step, event.total) for event in events if isinstance(event, Step)]
    assert steps == [(Slot(1, 1), 1, 2), (Slot(1, 1), 2, 2), (Slot(1, 3), 1, 2), (Slot(1, 3), 2, 2)]
    done = events[-1].conversation
    assert done.open_slots() == () and done.turns[1].text == "Hello.  And"
    assert done.at(Slot(1, 1)) == Picture("a fox", torch.full((4, 4, 3), 0.1), seed=7, gate=0.5)
    assert done.at(Slot(1, 3)) == Picture("a bear", torch.full((4, 4, 3), 0.2), seed=8, gate=0.5)
    assert [(p.seed, p.guidance) for p in model.decoder.painted] == [(7, 4.0), (8, 4.0)]
    assert model.language_model.asked[0].seed == 7 and model.language_model.asked[0].sampling is SAMPLING
    assert {gate for _, gate in model.adapter.fused} == {GateSetting(strength=0.5)}
    assert asked.turns == done.turns[:1], "the conversation given must stay as it was"


def test_a_turn_without_pictures_paints_none() -> None:
    events = events_of(chat(["Just text."]).turn, Conversation().user("hi"), sampling=SAMPLING)
    assert shape(events) == "tw." and events[-1].conversation.turns[1].segments == (Text("Just text."),)


def test_open_slots_of_earlier_turns_stay_open() -> None:
    conversation = Conversation().user("a").assistant([Picture("not painted")]).user("b")
    done = chat().turn(conversation, steps=1, sampling=SAMPLING)
    assert done.open_slots() == (Slot(1, 0),) and done.pictures() == (Slot(3, 1),)


def test_where_the_turn_is_taken_it_paints_what_is_open() -> None:
    model = chat()
    told = model.turn(Conversation().user("hi"), seed=5, steps=1, sampling=SAMPLING)
    slots = told.slots()
    asked = len(model.language_model.asked)
    events = events_of(model.turn, told.without_picture(slots[-1]), seed=9, steps=1, sampling=SAMPLING)
    again = events[-1].conversation
    assert [event.slot for event in events if isinstance(event, PictureStarted)] == [slots[-1]]
    assert again.at(slots[-1]).seed == 9 and not again.open_slots()
    assert [again.at(slot) == told.at(slot) for slot in slots[:-1]] == [True] * (len(slots) - 1)
    assert len(model.language_model.asked) == asked, "no word was written"


def test_previews_belong_to_their_step_and_no_step_runs_ahead() -> None:
    model = chat()
    seen = []

    def on_event(event: Event) -> None:
        if isinstance(event, Step):
            assert model.decoder.steps_begun == event.step
            seen.append(event.preview())

    model.turn(Conversation().user("hi"), steps=3, sampling=SAMPLING, on_event=on_event)
    assert seen == ["a fox at 1", "a fox at 2", "a fox at 3"]


def test_every_slot_sees_its_references_and_the_user_pictures_before_it() -> None:
    model = chat(["<image>one</image><image>two</image>"])
    grey = torch.full((2, 2, 3), 0.5)
    conversation = Conversation().user("look", [grey])
    conversation = model.turn(conversation, steps=1, sampling=SAMPLING)
    seen = [features.vision[0, :, 0, 0, 0].tolist() for features, _ in model.adapter.fused]
    assert seen == [pytest.approx([0.5]), pytest.approx([0.5, 0.1])]
    assert [v.shape for v in model.language_model.asked[0].visual] == [(4, 5)]
    assert [len(encoded.visual) for encoded in model.language_model.encoded] == [1, 1]
    assert model.language_model.encoded[0].tokens is model.adapter.image_tokens
    later = conversation.user("more", [grey, grey])
    model.encode(later, Slot(1, 1))
    assert len(model.language_model.encoded[-1].visual) == 1, "what was shown later was not there yet"


def test_pictures_of_a_turn_and_of_a_story_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    model = chat()
    model.decoder = DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path))
    model.adapter = ToyAdapterStandIn()
    how = {"steps": 1, "sampling": SAMPLING}
    for given, sides in (({"width": 48, "height": 16}, (16, 48, 3)), ({"width": 40}, (32, 40, 3)), ({}, (32, 32, 3))):
        for told in (model.turn(Conversation().user("hi"), **how, **given), model.story("hi", 1, **how, **given)):
            assert told.at(told.pictures()[0]).image.shape == sides
    asked = len(model.language_model.asked)
    for given, words in (
        ({"width": 30}, "width is 30: give a multiple of 8"),
        ({"height": -8}, "height is -8: give a whole number from 0 to 8192"),
        ({"width": 2**62}, "width is 4611686018427387904: give a whole number from 0 to 8192"),
        ({"width": True}, "width is True"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            model.turn(Conversation().user("hi"), **how, **given)
        assert toys.one_sentence(caught.value)
        with pytest.raises(ValueError, match=words):
            model.story("hi", 1, **how, **given)
    assert len(model.language_model.asked) == asked, "it is refused before a word is written"


def test_no_reference_is_a_valid_case() -> None:
    model = chat()
    model.turn(Conversation().user("hi"), steps=1, sampling=SAMPLING)
    ((features, _),) = model.adapter.fused
    assert not features.vision_mask.any() and features.captions == ("a fox",)
    assert list(model.language_model.asked[0].visual) == []


def test_references_follow_their_rule_up_to_what_the_adapter_takes() -> None:
    conversation = Conversation().user("look", [torch.full((2, 2, 3), value / 10) for value in range(6)])
    conversation, slot = conversation.assistant([Picture("p")]), Slot(1, 0)
    model = chat()

    def looks(references) -> list[float]:
        return model.encode(conversation, slot, references=references).vision[0, :, 0, 0, 0].tolist()

    assert looks(2) == pytest.approx([0.0, 0.5]) and looks(ReferencePolicy("last", 3)) == pytest.approx([0.3, 0.4, 0.5])
    assert len(looks(ReferencePolicy("first", 9))) == 4 == len(looks(9))
    assert looks(ReferencePolicy("first", 3, weights=(1, 0))) == pytest.approx([0.0, 0.2]), "weight 0 is to be absent"
    assert looks(ReferencePolicy("first", 2, weights=(0, 0))) == []
    assert model.encode(conversation, slot, references=ReferencePolicy("last", weights=(1, 1.0))).vision_weight is None
    weighed = model.encode(conversation, slot, references=ReferencePolicy("first", 3, weights=(0.5, 0)))
    assert weighed.vision_weight.tolist() == [[0.5, 1.0]]


def test_style_and_negative_need_an_anchored_adapter() -> None:
    model = chat()
    for call in (model.story, lambda text, _, **how: model.turn(Conversation().user(text), **how)):
        for words in ({"style": "watercolour"}, {"negative": "text"}):
            with pytest.raises(ValueError, match="not anchored, so nothing reads style and negative"):
                call("A fox.", 1, **words)
    model.adapter.config.anchor, read = True, []
    model.decoder.encode_text = lambda prompts, negative: read.append((prompts, negative)) or toys.condition(1)
    model.story("A fox.", 1, steps=1, sampling=SAMPLING, style=" watercolour ", negative="blur")
    model.story("A fox.", 1, steps=1, sampling=SAMPLING)
    assert read == [(["a fox, watercolour"], "blur"), (["a fox"], "")]
    assert model.decoder.painted[0].captions == ("a fox",), "a caption stays what it was"


def test_write_leaves_slots_open_and_streams_text_without_markup() -> None:
    heard: list[Event] = []
    model = chat(["One", " two <ima", "ge>a fox</image> three"])
    written = model.write(Conversation().user("hi"), sampling=SAMPLING, seed=3, on_event=heard.append)
    assert written.open_slots() == (Slot(1, 1),) and written.at(Slot(1, 1)).caption == "a fox"
    assert heard == [TextChunk("One"), TextChunk(" two "), TextChunk(" three")] and model.decoder.painted == []


def test_the_links_compose_to_a_picture() -> None:
    model = chat()
    written = model.write(Conversation().user("hi"), sampling=SAMPLING, seed=3)
    condition = model.fuse(model.encode(written, written.open_slots()[0]), 2)
    steps: list[int] = []
    image = model.paint(condition, seed=5, steps=2, on_step=lambda step, total, preview: steps.append(step))
    assert image.shape == (4, 4, 3) and steps == [1, 2]
    with pytest.raises(ConversationError, match="Only the assistant's pictures"):
        model.encode(written, Slot(0, 0))
    model.decoder.batch = 2
    with pytest.raises(ValueError, match="split it first"):
        model.paint(condition, seed=5, steps=1)


@pytest.mark.parametrize("allowed", range(9))
def test_it_stops_at_every_token_and_step(allowed: int) -> None:
    """The reply has 3 chunks and 3 steps: should_stop() is asked around each of them."""
    model = chat()
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > allowed

    with pytest.raises(Interrupted):
        model.turn(Conversation().user("hi"), steps=3, sampling=SAMPLING, should_stop=should_stop)
    assert asked == allowed + 1, "nothing may go on after the answer"
    assert model.decoder.painted == []


def test_a_model_that_just_ends_when_stopped_still_interrupts() -> None:
    stopped = False
    model = chat()

    def reply(conversation, *, visual, sampling, seed, should_stop):
        nonlocal stopped
        yield "One."
        stopped = True

    model.language_model.reply = reply
    with pytest.raises(Interrupted):
        model.write(Conversation().user("hi"), sampling=SAMPLING, seed=0, should_stop=lambda: stopped)


@pytest.mark.parametrize("kind", [TextChunk, Step])
def test_an_exception_of_the_follower_ends_the_turn(kind: type) -> None:
    model = chat()

    def on_event(event: Event) -> None:
        if isinstance(event, kind):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.turn(Conversation().user("hi"), steps=50, sampling=SAMPLING, on_event=on_event)
    assert model.decoder.steps_begun == (kind is Step) and model.decoder.painted == []


def test_settings_are_one_value_of_which_a_call_can_change_some() -> None:
    settings = TurnSettings(gate=GateSetting(0.5), seed=7, steps=2, sampling=SAMPLING)
    whole, spelt = chat(), chat()
    told = whole.turn(Conversation().user("Tell."), settings)
    same = spelt.turn(Conversation().user("Tell."), gate=0.5, seed=7, steps=2, sampling=SAMPLING)
    assert told == same and whole.decoder.painted == spelt.decoder.painted
    assert whole.adapter.fused[0][1] == spelt.adapter.fused[0][1] == GateSetting(0.5)
    whole.story("A fox.", 1, settings, seed=9)
    assert whole.decoder.painted[-1].seed == 9 and settings.seed == 7
    assert whole.write(Conversation().user("Tell."), settings).open_slots() and whole.language_model.asked[-1].seed == 7
    for call in (whole.turn, whole.write):
        with pytest.raises(TypeError, match="gat"):
            call(Conversation().user("Tell."), settings, gat=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"premise": "  "}, "premise is empty"),
        ({"premise": None}, "premise is empty"),
        ({"panels": 0}, "panels is 0: give a whole number from 1 to 32"),
        ({"panels": 33}, "panels is 33"),
        ({"panels": 2.0}, "panels is 2.0"),
        ({"panels": True}, "panels is True"),
        ({"gate": -0.1}, "gate is -0.1: give a number from 0 to 4"),
        ({"gate": 4.5}, "gate is 4.5"),
        ({"gate": float("nan")}, "gate is nan"),
        ({"gate": "1"}, "gate is '1'"),
        ({"guidance": -1}, "guidance is -1: give a number from 0 to 30"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"steps": 0}, "steps is 0: give a whole number from 1 to 1000"),
        ({"steps": 1001}, "steps is 1001"),
        ({"seed": -1}, r"seed is -1: give a whole number from 0 to 2\*\*64-1"),
        ({"seed": 2**64}, "seed is"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments: dict, says: str) -> None:
    model = chat()
    with pytest.raises(ValueError, match=says):
        model.story(**{"premise": "A fox.", "panels": 2, **arguments})
    assert model.language_model.asked == []


def test_a_reply_needs_a_question() -> None:
    conversation = Conversation().user("hi").assistant([Text("ho")])
    for call in (chat().turn, chat().write):
        with pytest.raises(ConversationError, match="ends with the assistant's turn: add a user message first"):
            call(conversation, seed=0)


def test_missing_weights_are_named(tmp_path) -> None:
    (tmp_path / "decoder").mkdir()
    with pytest.raises(FileNotFoundError) as refusal:
        M2Chat.from_pretrained(tmp_path)
    assert "language_model, vision_encoder, adapter.safetensors missing" in str(refusal.value)
    assert (
        tmp_path.name in str(refusal.value)
        and str(tmp_path) not in str(refusal.value)
        and "decoder missing" not in str(refusal.value)
    )


def test_every_part_is_made_ready_before_it_works() -> None:
    model, ready = chat(), []
    model.prepare = ready.append
    model.story("A fox.", 2, steps=1, sampling=SAMPLING)
    words = ["language_model", "language_model"]  # the reply, then its slot
    assert ready == [*words, *words, "adapter", "decoder", "vision_encoder", "adapter", "decoder"]
    ready.clear()
    model.see([torch.zeros(2, 2, 3)])
    model.adapter.config.anchor = True
    model.decoder.encode_text = lambda prompts, negative: toys.condition(1)
    model.fuse(SlotFeatures.collate([(toys.states(2, 2), None)]))
    assert ready == ["vision_encoder", "text_encoders", "adapter"]


def test_an_anchored_adapter_gets_its_anchor_from_the_decoder(tmp_path) -> None:
    decoder = DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path))
    adapter = toys.adapter(config=toys.config(anchor=True)).requires_grad_(False)
    model = M2Chat(None, None, adapter, decoder)
    features = toys.slot_features()
    own, others = decoder.encode_text(features.captions), toys.condition(3)
    for given, anchor in (({}, own), ({"anchor": others}, others)):
        condition = model.fuse(features, 2.0, **given)
        for name in ("embeds", "pooled", "negative_embeds", "negative_pooled"):
            assert torch.equal(getattr(condition, name), getattr(anchor, name)), name
    with pytest.raises(ValueError, match="is anchored"):
        stages.fuse(adapter, features)
