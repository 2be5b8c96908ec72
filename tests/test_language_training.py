"""What the starter's language model is trained on, how it is checked, and its trainer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from m3adapter.conversation import markup
from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.markup import CLOSE
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.storybook.stories import story
from m3adapter.training import language
from m3adapter.training.language_check import check_replies, words
from m3adapter.training.language_data import CONTENT_WEIGHT, END, Stories

pytestmark = pytest.mark.slow


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("A fox!", "  zwei  Leerzeichen ", "漢字 🦊\n\n\tتجربة", "\x00\x7f", "don't"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_batches(tokenizer: PreTrainedTokenizerFast) -> None:
    told, rng = Stories(tokenizer, 4, 96), random.Random(0)
    shapes = set()
    for batch in (told.draw(rng) for _ in range(20)):
        shapes.add(tuple(batch.ids.shape))
        assert batch.ids.shape == batch.weights.shape
        picture = tokenizer.convert_tokens_to_ids("<|picture|>")
        rows, columns, species = batch.pictures.T
        assert (batch.ids[rows, columns] == picture).all() and (batch.ids == picture).sum() == len(rows)
        assert (species < 22).all()
        spoken = batch.ids[batch.weights >= 1]
        assert not (spoken == tokenizer.convert_tokens_to_ids("<|user|>")).any()
        assert (spoken == tokenizer.convert_tokens_to_ids("<image>")).any()
    assert shapes == {(4, 96), (2, 192)}


def test_going_on_counts_as_much_as_ending(tokenizer: PreTrainedTokenizerFast) -> None:
    told, rng = Stories(tokenizer, 8, 256), random.Random(1)
    close, end = (tokenizer.convert_tokens_to_ids(token) for token in (CLOSE, END))
    chosen: set[int] = set()
    for batch in (told.draw(rng) for _ in range(8)):
        after = batch.ids[:, :-1] == close
        chosen |= set(batch.ids[:, 1:][after].tolist())
        assert (batch.weights[:, 1:][after] == CONTENT_WEIGHT).all()
    assert len(chosen) == 2 and end in chosen


def test_checks_recognise_good_and_bad_replies(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words("A fox's kite!") == {"a", "fox", "s", "kite"}
    blind = LanguageModel(language.new_model(tokenizer, width=32, layers=1, heads=2).eval(), tokenizer)
    bad = check_replies(blind, "validation", 3, sampling=Sampling(do_sample=False, max_length=10))
    assert bad.parsed == 0 and len(bad.examples) == 3
    truth: list[str] = []

    def recite(self: LanguageModel, conversation: Conversation, **_: object) -> list[str]:
        return [truth.pop(0)]

    rng = random.Random(0)
    for number in range(30):
        tale = story(rng, "validation")
        at = 0 if number % 2 == 0 else rng.randrange(len(tale.exchanges))
        truth.append("".join(f"{panel.text}<image>{panel.caption}</image>" for panel in tale.exchanges[at].panels))
    monkeypatch.setattr(LanguageModel, "reply", recite)
    good = check_replies(blind, "validation", 30)
    assert (good.parsed, good.told, good.complete, good.followed) == (1, 1, 1, 1), good.examples


def test_the_language_model_is_trained_and_resumed(tmp_path: Path, capsys) -> None:
    arguments = ["--output", str(tmp_path), "--batch", "2", "--length", "64", "--check-every", "1", "--checks", "1"]
    small = ["--tokenizer-stories", "30", "--vocabulary", "400", "--width", "32", "--layers", "1", "--heads", "2"]
    language.main([*arguments, *small, "--steps", "1"])
    assert "language step 1 loss" in capsys.readouterr().out and (tmp_path / "language.pt").is_file()
    language.main([*arguments, *small, "--steps", "2"])
    assert "resumed at step 1" in capsys.readouterr().out
    told = LanguageModel.from_pretrained(tmp_path / "language_model")
    assert told.hidden_size == 32 and told.visual_projection is not None
    again = tmp_path / "again"
    language.main([*arguments[2:], "--output", str(again), "--init", str(tmp_path / "language_model"), "--steps", "0"])
    copied = LanguageModel.from_pretrained(again / "language_model")
    assert all(torch.equal(a, b) for a, b in zip(told.model.parameters(), copied.model.parameters(), strict=True))


def test_what_the_adapter_reads_can_be_kept_while_the_rest_learns(tmp_path: Path) -> None:
    arguments = ["--batch", "2", "--length", "64", "--check-every", "5", "--checks", "1", "--layers", "2"]
    small = ["--tokenizer-stories", "30", "--vocabulary", "400", "--width", "32", "--heads", "2"]
    language.main([*arguments, *small, "--output", str(tmp_path), "--steps", "1"])
    first = LanguageModel.from_pretrained(tmp_path / "language_model", dtype=torch.float32)
    told = ["--init", str(tmp_path / "language_model"), "--keep-features"]
    language.main([*arguments, *told, "--output", str(tmp_path / "again"), "--steps", "2"])
    again = LanguageModel.from_pretrained(tmp_path / "again" / "language_model", dtype=torch.float32)
    slot = Conversation().user("A fox.").assistant(markup.parse("It walks.<image>a fox</image>"))
    tokens = torch.randn(2, 32)
    states = [model.encode_slot(slot, slot.open_slots()[0], tokens) for model in (first, again)]
    assert torch.equal(states[0].context, states[1].context) and torch.equal(states[0].text, states[1].text)
    assert not torch.equal(
        first.model.model.layers[1].mlp.up_proj.weight, again.model.model.layers[1].mlp.up_proj.weight
    )
    pairs = zip(first.visual_projection.parameters(), again.visual_projection.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(SystemExit):
        language.main([*arguments, *small, "--output", str(tmp_path / "none"), "--keep-features"])


def test_a_model_grows_by_layers_that_change_nothing_until_they_are_trained(tmp_path: Path) -> None:
    arguments = ["--batch", "2", "--length", "64", "--check-every", "5", "--checks", "1", "--layers", "2"]
    small = ["--tokenizer-stories", "30", "--vocabulary", "400", "--width", "32", "--heads", "2"]
    language.main([*arguments, *small, "--output", str(tmp_path), "--steps", "1"])
    more = [*arguments, "--init", str(tmp_path / "language_model"), "--keep-features", "--grow", "2"]
    slot = Conversation().user("A fox.").assistant(markup.parse("It walks.<image>a fox</image>"))
    tokens, heard = torch.randn(2, 32), []
    for steps in (0, 2):
        language.main([*more, "--output", str(tmp_path / str(steps)), "--steps", str(steps)])
    for folder in (tmp_path, tmp_path / "0", tmp_path / "2"):
        model = LanguageModel.from_pretrained(folder / "language_model", dtype=torch.float32)
        ids = model.tokenizer("A fox.", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            heard.append((model.model(ids).logits, model.encode_slot(slot, slot.open_slots()[0], tokens).context))
    assert len(model.model.model.layers) == 4 and model.config.feature_layer == -4
    (logits, states), (same, kept), (trained, still) = heard
    assert torch.equal(logits, same) and not torch.equal(logits, trained)
    assert torch.equal(states, kept) and torch.equal(states, still)
    with pytest.raises(SystemExit):
        language.main([*arguments, *small, "--output", str(tmp_path / "none"), "--grow", "1"])
