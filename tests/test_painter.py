"""Painters: an M²Chat tells the same way with any of them, and M²Chat's own is one of them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
import torch

import toys
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot
from m3adapter.events import Interrupted, Step
from m3adapter.gate import GateSetting
from m3adapter.m3_painter import M3Painter
from m3adapter.painter import Kept, Painter, PaintRequest
from m3adapter.pipeline import M2Chat
from m3adapter.settings import TurnSettings
from standins import SAMPLING, LanguageModelStandIn, chat, events_of, shape

TWO = ["Words. <image>a fox</image><image>an owl</image>"]
GREY = torch.full((2, 2, 3), 0.5)


class Grey(Painter):
    """Paints the number of the picture as a shade of grey."""

    def __init__(self, max_references: int = 9) -> None:
        self.max_references = max_references
        self.requests: list[PaintRequest] = []

    def check(self, settings, conversation):
        if settings.width == 24:
            raise ValueError("Grey pictures are not 24 pixels wide: choose another width.")

    def paint(self, request, *, on_event=lambda event: None):
        self.requests.append(request)
        for step in range(1, request.settings.steps + 1):
            on_event(Step(request.slot, step, request.settings.steps, lambda: None))
        return torch.full((2, 2, 3), len(self.requests) / 10)


def test_any_painter_paints_the_pictures_of_turns_and_stories() -> None:
    painter = Grey()
    model = M2Chat(LanguageModelStandIn([TWO]), painter=painter)
    how = {"steps": 2, "gate": 0.5, "style": "watercolour", "negative": "text", "sampling": SAMPLING}
    events = events_of(model.story, "A fox.", 2, seed=7, **how)
    assert shape(events) == "twtwpssdpssd.pssdpssd."
    assert model.language_model.encoded == [], "nothing is read for a painter that reads captions"
    own = chat(TWO)
    told = own.story("A fox.", 2, steps=1, seed=7, sampling=SAMPLING)
    for request, slot in zip(painter.requests, told.slots(), strict=True):
        assert (request.slot, request.seed, request.caption) == (slot, told.at(slot).seed, told.at(slot).caption)
        assert request.prompt == f"{request.caption}, watercolour" and request.gate == GateSetting(0.5)
    counts = [[reference.weight for reference in request.references] for request in painter.requests]
    assert counts == [[], [1.0], [1.0, 1.0], [1.0, 1.0]]
    last = events[-1].conversation
    assert [last.at(slot).image.mean() for slot in last.slots()] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert last.at(last.slots()[0]).gate == 0.5
    again = model.turn(last.without_picture(last.slots()[1]), seed=9, **how)
    assert painter.requests[-1].seed == 9 and again.versions(*last.slots()[1]).count == 2


def test_a_painter_refuses_settings_before_a_word_is_written_and_stops_within_a_step() -> None:
    model = M2Chat(LanguageModelStandIn([TWO]), painter=Grey())
    for tell in (lambda **how: model.turn(Conversation().user("hi"), **how), lambda **how: model.story("hi", 1, **how)):
        with pytest.raises(ValueError, match="not 24 pixels wide"):
            tell(width=24)
    assert not model.language_model.asked
    done = []

    def on_event(event: object) -> None:
        done.append(event) if isinstance(event, Step) else None

    with pytest.raises(Interrupted) as caught:
        model.story("hi", 1, steps=9, sampling=SAMPLING, on_event=on_event, should_stop=lambda: len(done) == 3)
    assert len(done) == 3 and len(caught.value.conversation.open_slots()) == 2


def test_what_a_painter_looks_at_says_which_pictures_wait() -> None:
    for most, together in ((0, [2]), (9, [1, 1])):
        painter, batches = Grey(most), []
        painter.paint_all = lambda requests, *, on_event, p=painter, b=batches: (
            b.append(len(requests)) or Painter.paint_all(p, requests, on_event=on_event)
        )
        M2Chat(LanguageModelStandIn([TWO]), painter=painter).story("A fox.", 1, batch_size=4, sampling=SAMPLING)
        assert batches == together


def test_a_painter_reads_all_captions_before_it_paints_and_forgets_them() -> None:
    read, painter = [], Grey()

    @contextmanager
    def read_ahead(requests, *, check):
        read.extend(requests)
        assert not painter.requests, "nothing is painted yet"
        yield
        read.append(len(painter.requests))

    painter.read_ahead = read_ahead
    model = M2Chat(LanguageModelStandIn([TWO]), painter=painter)
    model.story("A fox.", 2, seed=7, variants=2, sampling=SAMPLING)
    assert [each.caption for each in read[:4]] == ["a fox", "an owl"] * 2 and read[4:] == [8]
    kept, made = Kept(), []
    for keeping in (kept.keeping, nullcontext, kept.keeping):
        with keeping():
            assert [kept.get("a", lambda: made.append("") or len(made)) for _ in range(2)]
    assert len(made) == 1 + 2 + 1


def test_an_anchored_adapter_reads_all_captions_before_anything_is_painted() -> None:
    model, events = chat(TWO), []
    model.adapter.config.anchor = True
    model.decoder.encode_text = lambda prompts, negative: events.append(prompts[0]) or toys.condition(1)
    model.story("A fox.", 2, steps=1, sampling=SAMPLING, style="ink",
                on_event=lambda event: events.append("") if isinstance(event, Step) else None)  # fmt: skip
    assert events == ["a fox, ink", "an owl, ink", "", "", "", ""]


def test_the_painter_of_an_m2chat_is_its_adapter_and_decoder() -> None:
    model = chat(TWO)
    painter = M3Painter(model.vision_encoder, model.adapter, model.decoder)
    told = model.story("A fox.", 2, steps=1, seed=7, sampling=SAMPLING)
    other = chat(TWO)
    with_painter = M2Chat(other.language_model, painter=painter)
    assert with_painter.story("A fox.", 2, steps=1, seed=7, sampling=SAMPLING).turns[1].text == told.turns[1].text
    assert [p.seed for p in model.decoder.painted[4:]] == [p.seed for p in model.decoder.painted[:4]]
    assert len(other.language_model.encoded) == 4, "it reads each slot"
    assert with_painter.encode(told, told.slots()[0]).captions == ("a fox",)
    with pytest.raises(ValueError, match="this takes one with an M3-Adapter"):
        M2Chat(other.language_model, painter=Grey()).fuse(None)
    with pytest.raises(ValueError, match="give either, not both"):
        M2Chat(other.language_model, decoder=model.decoder, painter=painter)
    slot = told.slots()[0]
    with pytest.raises(ValueError, match="let the language model read it first"):
        painter.paint(PaintRequest(told, slot))


def test_a_request_is_for_a_picture_of_the_assistant() -> None:
    story = Conversation().user("a", [GREY]).assistant([Picture("b")])
    assert PaintRequest(story, (1, 0)).slot == Slot(1, 0)
    policy = ReferencePolicy(weights=(0.5,))
    (reference,) = PaintRequest(story, Slot(1, 0), TurnSettings(references=policy)).references
    assert reference.weight == 0.5 and torch.equal(reference.picture.pixels, GREY)
    assert not PaintRequest(story, Slot(1, 0), TurnSettings(references=ReferencePolicy(weights=(0,)))).references
    for wrong in ({"slot": Slot(0, 0)}, {"slot": Slot(3, 0)}):
        with pytest.raises(ConversationError):
            PaintRequest(story, **wrong)
    with pytest.raises(ValueError, match="seed"):
        PaintRequest(story, Slot(1, 0), seed=-1)
