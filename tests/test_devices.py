"""The starter on every available device, in every precision: the contracts hold, and a fox stays a fox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from m3adapter.adapter.features import SlotFeatures
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.events import Event, Step
from m3adapter.gate import GateSetting
from m3adapter.pipeline import M2Chat
from m3adapter.storybook.judge import Judge
from m3adapter.storybook.render import render
from m3adapter.storybook.world import PLACES, Character, Scene

pytestmark = pytest.mark.slow

ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
DEVICES = ["cpu", *([ACCELERATOR.type] if ACCELERATOR else [])]
# How far a condition may lie from float32's on the CPU, as a share of its length.
NEAR = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}


@pytest.fixture(scope="module", params=[(device, dtype) for device in DEVICES for dtype in NEAR], ids=str)
def model(request: pytest.FixtureRequest) -> Iterator[M2Chat]:
    device, dtype = request.param
    yield M2Chat.from_starter(device, dtype)


@pytest.fixture(scope="module")
def exact() -> SlotFeatures:
    """The features of `told` in float32 on the CPU."""
    return encoded(M2Chat.from_starter("cpu", torch.float32))


def told() -> Conversation:
    """A blue fox on the beach, and then a picture that is to be painted of it."""
    look = torch.from_numpy(render(Scene((Character("fox", "blue"),), None, "beach"), 1)).float() / 255
    conversation = Conversation().user("A fox on the beach.").assistant([Text("A fox."), Picture("a fox", look)])
    return conversation.user("What happens next?").assistant([Text("The fox."), Picture("a fox in the forest")])


def encoded(model: M2Chat) -> SlotFeatures:
    conversation = told()
    return model.encode(conversation, conversation.open_slots()[0])


def story(model: M2Chat, seed: int) -> Conversation:
    def on_event(event: Event) -> None:
        if isinstance(event, Step):
            assert max(event.preview().size) > 1

    return model.story("A fox finds a kite on the beach.", 2, seed=seed, steps=8, on_event=on_event)


def test_the_gate_keeps_its_contract(model: M2Chat) -> None:
    features = encoded(model)
    assert features.vision.device.type == model.adapter.image_tokens.device.type
    alone, shut, opened = model.fuse(features.without_references()), model.fuse(features, 0.0), model.fuse(features)
    fixed = model.fuse(features, GateSetting(0.0, "fixed", 1.0))
    for other in (shut, fixed):
        assert torch.equal(other.embeds, alone.embeds) and torch.equal(other.pooled, alone.pooled)
    assert opened.embeds.isfinite().all() and not torch.equal(opened.embeds, alone.embeds)


def test_conditions_are_those_of_float32_on_the_cpu(model: M2Chat, exact: SlotFeatures) -> None:
    reference = M2Chat.from_starter("cpu", torch.float32)
    for strength in (0.0, 1.0):
        wanted, found = reference.fuse(exact, strength), model.fuse(encoded(model), strength)
        for name in ("embeds", "pooled"):
            one, other = getattr(wanted, name), getattr(found, name).to("cpu", torch.float32)
            assert (one - other).norm() < NEAR[model.adapter.image_tokens.dtype] * one.norm(), name


def test_a_story_is_told_and_is_the_same_for_the_same_seed(model: M2Chat) -> None:
    first = story(model, 7)
    assert first == story(model, 7)
    pictures = [first.at(slot) for slot in first.pictures()]
    assert len(pictures) == 2 and all(picture.image.isfinite().all() for picture in pictures)
    verdict = Judge.load().judge([picture.image for picture in pictures])
    for row, picture in enumerate(pictures):
        assert "fox" in picture.caption.split() and "fox" in verdict.species(row, 1), picture.caption
    assert PLACES[int(verdict.place[0])] == "beach"
