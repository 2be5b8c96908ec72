"""Forty replies of models that think, each learned by heart by a toy model: what is told, painted and remembered."""

from __future__ import annotations

import pytest
import torch

import by_heart
from m3adapter.conversation.conversation import Conversation, Picture
from m3adapter.events import PictureStarted
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.language.thoughts import ThoughtSplitter
from m3adapter.pipeline import M2Chat
from standins import AdapterStandIn, DecoderStandIn, VisionEncoderStandIn, events_of

# Fewer tokens than most of the replies have with their thoughts.
HOW = Sampling(do_sample=False, repetition_penalty=1.0, thinking=True, max_length=48)
REPLIES = by_heart.replies()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    return by_heart.learned()


def painter(model: LanguageModel) -> M2Chat:
    """An M²Chat with a real language model, and stand-ins for everything else."""
    adapter = AdapterStandIn()
    adapter.image_tokens = torch.nn.Parameter(torch.zeros(2, model.hidden_size))
    return M2Chat(model, VisionEncoderStandIn(), adapter, DecoderStandIn())


@pytest.mark.parametrize("number", range(len(REPLIES)))
def test_the_answer_is_told_and_no_thought(models: dict[str, LanguageModel], number: int) -> None:
    taught = REPLIES[number]
    model = models[taught.template]
    asked = Conversation().user(taught.asked)
    raw = "".join(model.reply(asked, sampling=HOW))
    assert ("secret" in raw) == taught.thinks and raw.endswith(taught.text), "the model does think"

    events = events_of(painter(model).turn, asked, steps=1, sampling=HOW)
    told = events[-1].conversation
    assert told.turns[-1].text.strip() == taught.said
    assert [event.caption for event in events if isinstance(event, PictureStarted)] == [taught.caption]
    assert [each.caption for each in told.turns[-1].segments if isinstance(each, Picture)] == [taught.caption]
    prompts = model.prompts
    for ids in (
        prompts.for_reply(told.user("And then?"), 900).ids,
        prompts.for_slot(told, told.slots()[0], 900).ids,
    ):
        read = model.tokenizer.decode(ids)
        assert "secret" not in read.lower() and taught.said.partition("\n")[0] in read
    opening = read.partition(taught.asked)[2].partition("Tale")[0]
    assert not ThoughtSplitter(opening).thinking, "a slot is read behind a closed thought"


def test_there_are_forty_of_many_kinds() -> None:
    assert len(REPLIES) == 40 and len({each.text for each in REPLIES}) == 40
    assert sum(each.thinks for each in REPLIES) == 34 and len({each.template for each in REPLIES}) == 7


def test_who_can_be_asked_not_to_think_is_asked(models: dict[str, LanguageModel]) -> None:
    quiet, aloud = models["switch"].prompts, models["switch"].prompts.with_thinking()
    assert quiet.opening.endswith("<think>\n\n</think>\n\n") and not quiet.thinks
    assert aloud.opening.endswith("assistant\n") and aloud.thinks
    assert models["opened"].prompts.thinks and not models["plain"].prompts.thinks
