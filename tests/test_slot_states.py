"""What the language model knows of a picture's slot, and how it is saved with what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from test_language_model import HIDDEN, VISION, asked, told, toy


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return toy(tokenizer)


def test_slot_states(model: LanguageModel) -> None:
    conversation = (
        Conversation()
        .user("Go.")
        .assistant([Text("One fox."), Picture("a fox"), Text("Two owls."), Picture("two owls at night")])
    )
    tokens = torch.randn(5, HIDDEN)
    count = {
        text: len(model.tokenizer(text)["input_ids"])
        for text in ("One fox.", "Two owls.", "a fox", "two owls at night")
    }
    first = model.encode_slot(conversation, Slot(1, 1), tokens)
    second = model.encode_slot(conversation, Slot(1, 3), tokens)
    assert first.caption == "a fox" and second.caption == "two owls at night"
    assert first.context.shape == (count["a fox"] + 5, HIDDEN)
    assert first.text.shape == (count["One fox."] + count["a fox"], HIDDEN)
    assert second.text.shape == (count["One fox."] + count["Two owls."] + count["two owls at night"], HIDDEN)
    assert torch.equal(first.context[: count["a fox"]], first.text[count["One fox."] :])
    # The same as running the whole sequence by hand.
    prompt = "<|user|>Go.<|end|><|assistant|>One fox.<image>a fox"
    ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
    embeds = torch.cat([model.model.get_input_embeddings()(ids), tokens[None]], 1)
    states = model.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-2][0]
    assert torch.allclose(states[-5 - count["a fox"] :], first.context, atol=1e-5)


def test_encoding_does_not_depend_on_padding(model: LanguageModel) -> None:
    tokens = torch.randn(3, HIDDEN)
    features = [torch.randn(4, VISION) for _ in range(2)]
    requests = [
        (told(), Slot(1, 1), ()),
        (told("Long " * 40, "a very long caption " * 3, pictures=2), Slot(1, 1), features),
        (told("", "a cat", pictures=1), Slot(1, 0), features[:1]),
        (told(pictures=1), Slot(1, 1), ()),
    ]
    with torch.no_grad():
        together = model.encode_slots(requests, tokens)
        for request, batched in zip(requests, together, strict=True):
            alone = model.encode_slot(request[0], request[1], tokens, visual=request[2])
            assert torch.allclose(alone.context, batched.context, atol=1e-5)
            assert torch.allclose(alone.text, batched.text, atol=1e-5)
            assert alone.caption == batched.caption
    assert model.encode_slots([], tokens) == []


def test_pictures_are_seen_in_their_order(model: LanguageModel) -> None:
    tokens = torch.randn(2, HIDDEN)
    conversation = told(pictures=2)
    one, two = torch.randn(4, VISION), torch.randn(4, VISION)
    with torch.no_grad():
        right = model.encode_slot(conversation, Slot(1, 1), tokens, visual=[one, two]).context
        wrong = model.encode_slot(conversation, Slot(1, 1), tokens, visual=[two, one]).context
        unseen = model.encode_slot(conversation, Slot(1, 1), tokens).context
    assert not torch.allclose(right, wrong, atol=1e-4) and not torch.allclose(right, unseen, atol=1e-4)
    replies = {
        "".join(model.reply(asked(pictures=1), visual=[look], sampling=Sampling(do_sample=False, max_length=8)))
        for look in torch.randn(5, 4, VISION) * 3
    }
    assert len(replies) > 1


def test_features_must_fit(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="2 user pictures"):
        model.encode_slot(told(pictures=2), Slot(1, 1), torch.randn(2, HIDDEN), visual=[torch.randn(4, VISION)])
    with pytest.raises(ValueError, match="D_v"):
        list(model.reply(asked(pictures=1), visual=[torch.randn(3, VISION)]))
    with pytest.raises(ValueError, match=f"vision encoder of width {VISION}, but this one has width {VISION + 2}: use"):
        list(model.reply(asked(pictures=1), visual=[torch.randn(4, VISION + 2)]))


def test_no_such_slot(model: LanguageModel) -> None:
    for slot in (Slot(0, 0), Slot(1, 0), Slot(5, 0)):
        with pytest.raises(ValueError):
            model.encode_slot(told(), slot, torch.randn(2, HIDDEN))


def test_gradients_flow_to_image_tokens_and_projection(model: LanguageModel) -> None:
    tokens = torch.randn(3, HIDDEN, requires_grad=True)
    states = model.encode_slot(told(pictures=1), Slot(1, 1), tokens, visual=[torch.randn(4, VISION)])
    (states.context.sum() + states.text.square().sum()).backward()
    assert tokens.grad is not None and tokens.grad.abs().min() > 0
    gradient = model.visual_projection.linear.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
    model.visual_projection.zero_grad()


def test_slot_with_nothing_said(model: LanguageModel) -> None:
    states = model.encode_slot(asked().assistant([Picture("")]), Slot(1, 0), torch.randn(3, HIDDEN))
    assert states.context.shape == (4, HIDDEN) and states.text.shape == (1, HIDDEN)


def test_long_conversation_still_encodes(tokenizer: PreTrainedTokenizerFast) -> None:
    small = toy(tokenizer, context=64)
    conversation = told()
    for _ in range(10):
        conversation = conversation.user("And then?").assistant([Text("More " * 20), Picture("a dog in the city")])
    states = small.encode_slot(conversation, conversation.open_slots()[-1], torch.randn(8, HIDDEN))
    assert states.context.shape[0] == 8 + len(tokenizer("a dog in the city")["input_ids"])


# Saving


def test_saved_and_loaded(model: LanguageModel, tmp_path: Path) -> None:
    kept = LanguageModel(model.model, model.tokenizer, model.visual_projection, LanguageModelConfig(feature_layer=-3))
    kept.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config == kept.config and again.hidden_size == HIDDEN and again.context_length == 256
    sampling = Sampling(max_length=12)
    visual = [torch.randn(4, VISION)]
    assert "".join(again.reply(asked(pictures=1), visual=visual, sampling=sampling, seed=5)) == "".join(
        kept.reply(asked(pictures=1), visual=visual, sampling=sampling, seed=5)
    )
    tokens = torch.randn(2, HIDDEN)
    with torch.no_grad():
        assert torch.equal(
            again.encode_slot(told(), Slot(1, 1), tokens).context, kept.encode_slot(told(), Slot(1, 1), tokens).context
        )
    half = LanguageModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert "".join(half.reply(asked(pictures=1), visual=visual, sampling=sampling)) is not None
    with pytest.raises(FileNotFoundError):
        LanguageModel.from_pretrained(tmp_path / "nowhere")


def test_a_model_without_eyes(model: LanguageModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert LanguageModel.from_pretrained(tmp_path).sees == "projection"
    LanguageModel(model.model, model.tokenizer).save_pretrained(tmp_path)  # in place of one that sees
    blind = LanguageModel.from_pretrained(tmp_path)
    assert blind.visual_projection is None
    with torch.no_grad():
        blind.encode_slot(told(pictures=1), Slot(1, 1), torch.randn(2, HIDDEN), visual=[torch.randn(4, VISION)])
