"""Stand-ins for the four models, for tests of what the pipeline itself does."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

import toys
from m3adapter.adapter.features import SlotFeatures
from m3adapter.conversation.conversation import Conversation
from m3adapter.events import Event, PictureDone, PictureStarted, ReplyWritten, Step, TextChunk, TurnDone
from m3adapter.gate import GateSetting
from m3adapter.language.config import LanguageModelConfig
from m3adapter.pipeline import M2Chat

SAMPLING = SimpleNamespace(max_length=8)
REPLY = ["Part one. <im", "age>a fox</ima", "ge>"]


class LanguageModelStandIn:
    """Gives its next reply, and records what it was asked. It needs instructions to write pictures."""

    sees = "projection"
    config = LanguageModelConfig(instructions="Write a picture.")

    def __init__(self, replies: list[list[str]]) -> None:
        self.replies = replies
        self.asked: list[SimpleNamespace] = []
        self.encoded: list[SimpleNamespace] = []

    def check_sees(self, conversation):
        pass

    def reply(self, conversation, *, visual=(), sampling, seed, should_stop=None):
        self.asked.append(SimpleNamespace(conversation=conversation, visual=visual, sampling=sampling, seed=seed))
        yield from self.replies[(len(self.asked) - 1) % len(self.replies)]

    def encode_slot(self, conversation, slot, image_tokens, *, visual=()):
        self.encoded.append(SimpleNamespace(slot=slot, tokens=image_tokens, visual=visual))
        caption = conversation.at(slot).caption
        return SimpleNamespace(context=torch.zeros(3, 8), text=torch.ones(2, 8), caption=caption, note="")


class VisionEncoderStandIn:
    """Features that identify their picture by its mean."""

    def encode(self, images):
        means = torch.stack([image.mean() for image in images])
        return SimpleNamespace(
            levels=means.view(-1, 1, 1, 1).expand(-1, 2, 3, 5), pooled=means.view(-1, 1, 1).expand(-1, 4, 5)
        )


class AdapterStandIn:
    def __init__(self) -> None:
        self.image_tokens = torch.nn.Parameter(torch.zeros(2, 8))
        self.config = SimpleNamespace(anchor=False, references=4)
        self.fused: list[tuple[SlotFeatures, GateSetting]] = []

    def __call__(self, features, gate, anchor):
        assert not torch.is_grad_enabled()
        self.fused.append((features, gate))
        return SimpleNamespace(captions=features.captions)


class ToyAdapterStandIn(AdapterStandIn):
    """Gives conditions that toy decoders can paint."""

    def __call__(self, features, gate, anchor):
        return toys.condition(1)


class DecoderStandIn:
    """Paints grey pictures, each with its number as the shade, and records how."""

    vae, native_size, unet = None, 4, SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.painted: list[SimpleNamespace] = []
        self.steps_begun = 0

    def decode(self, condition, *, seed, steps, guidance, on_step=None, **others):
        for step in range(1, steps + 1):
            self.steps_begun += 1
            state = f"{condition.captions[0]} at {step}"
            if on_step:
                on_step(step, steps, lambda state=state: state)
        self.painted.append(SimpleNamespace(captions=condition.captions, seed=seed, guidance=guidance))
        return torch.full((self.batch, 4, 4, 3), len(self.painted) / 10)


def chat(*replies: list[str]) -> M2Chat:
    return M2Chat(
        LanguageModelStandIn(list(replies) or [REPLY]), VisionEncoderStandIn(), AdapterStandIn(), DecoderStandIn()
    )


def events_of(tell: Callable[..., Conversation], *arguments: Any, **settings: Any) -> list[Event]:
    """The events of a turn or a story, which must end with what it returns."""
    events: list[Event] = []
    told = tell(*arguments, on_event=events.append, **settings)
    assert events[-1].conversation is told
    return events


def shape(events: list) -> str:
    """The kinds of a run's events, with repeated texts and steps collapsed."""
    letters = {TextChunk: "t", ReplyWritten: "w", PictureStarted: "p", Step: "s", PictureDone: "d", TurnDone: "."}
    return "".join(letters[type(event)] for event in events)
