"""What the starter's language model is trained on, how it is checked, and its trainer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from m3adapter.conversation import markup
from m3adapter.conversation.conversation import Conversation
from m3adapter.conversation.markup import CLOSE
from m3adapter.language.detokenizing import Detokenizer
from m3adapter.language.language_model import LanguageModel
from m3adapter.language.sampling import Sampling
from m3adapter.picturebook.stories.ordinary import story as ordinary
from m3adapter.storybook.stories import Story, to_conversation
from m3adapter.training import language
from m3adapter.training.language_check import check_replies
from m3adapter.training.language_data import (
    CONTENT_WEIGHT,
    END,
    REPLY,
    USER_WEIGHT,
    Stories,
    pieces,
    story_texts,
    train_tokenizer,
)
from m3adapter.training.language_feeding import Steps, batches
from m3adapter.training.tales import open_tales

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


def test_how_a_reply_begins_counts_as_much_as_its_content(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = Stories(tokenizer, 8, 256).draw(random.Random(1))
    begun = batch.ids[:, :-1] == tokenizer.convert_tokens_to_ids(REPLY)
    assert begun.sum() > 8 and (batch.weights[:, 1:][begun] == CONTENT_WEIGHT).all()


def test_names_count_as_content(tokenizer: PreTrainedTokenizerFast) -> None:
    rng, counted = random.Random(4), 0
    for _ in range(150):
        for exchange in ordinary(rng, "train").exchanges:
            told = Story((exchange,), "train")
            names = {name for panel in exchange.panels for name in panel.names if name}
            heavy = [piece.text.strip() for piece in pieces(told) if piece.weight == CONTENT_WEIGHT]
            counted += len(heavy)
            assert set(heavy) == names
    assert counted > 30


def test_processes_draw_what_the_training_itself_would(tokenizer: PreTrainedTokenizerFast) -> None:
    steps = Steps(Stories(tokenizer, 2, 64), "language", 3)
    alone, together = (list(batches(steps, 5, 11, workers)) for workers in (0, 2))
    assert len(alone) == 6 and not torch.equal(alone[0].ids, alone[1].ids)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.ids, other.ids) and torch.equal(one.weights, other.weights)
        assert torch.equal(one.pictures, other.pictures)
    assert torch.equal(steps[5].ids, alone[0].ids), "a resumed run sees what the first one would have seen"


def test_checks_recognise_good_and_bad_replies(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = LanguageModel(language.new_model(tokenizer, width=32, layers=1, heads=2).eval(), tokenizer)
    # With this seed, all three ask for pictures: any words answer who asks for what cannot be drawn.
    bad = check_replies(blind, "validation", 3, seed=6, sampling=Sampling(do_sample=False, max_length=10))
    assert bad.parsed == 0 and len(bad.examples) == 3
    truth: list[str] = []

    def recite(self: LanguageModel, conversation: Conversation, **_: object) -> list[str]:
        return [truth.pop(0)]

    rng = random.Random(0)
    for number in range(30):
        tale = open_tales("storybook").story(rng, "validation")
        at = 0 if number % 2 == 0 else rng.randrange(len(tale.exchanges))
        told = "".join(f"{panel.text}<image>{panel.caption}</image>" for panel in tale.exchanges[at].panels)
        truth.append(told or tale.exchanges[at].answer)
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


@pytest.mark.exhaustive
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


# The picture book


@pytest.fixture(scope="module")
def marked() -> PreTrainedTokenizerFast:
    return train_tokenizer(story_texts(250, 0, open_tales("picturebook")), 1500, marked=True)


def test_a_word_is_the_same_token_wherever_and_however_it_stands(marked: PreTrainedTokenizerFast) -> None:
    token = marked(" rabbit")["input_ids"]
    assert len(token) == 1
    for text in ("Rabbit", "rabbit at the beach", "RABBIT!!!", "A rabbit", "two,rabbit", '"Rabbit"', "the\nrabbit"):
        assert token[0] in marked(text)["input_ids"], text
    for text in (
        "Rabbit at the beach",
        "Milo's T-Rex, the iPhone I",
        "  zwei  Ünder é ",
        "漢字 🦊\n\n\tتجربة",
        "don't",
        "\x00\x7f",
    ):
        assert marked.decode(marked(text)["input_ids"]) == text
    assert marked.decode(marked("FOX in the SNOW")["input_ids"]) == "Fox in the Snow"


def test_marks_never_show_while_a_reply_is_written(marked: PreTrainedTokenizerFast) -> None:
    text = 'Milo and the Fox.\n\nLook! "Hello," says Pip at the Lake.'
    written = Detokenizer(marked.decode)
    parts = [written.add(token) for token in marked(text)["input_ids"]]
    assert "".join(parts) + written.close() == text


def test_a_story_of_the_picture_book_is_a_stream_of_tokens() -> None:
    tales = open_tales("picturebook")
    answered = [told for told in (tales.story(random.Random(seed), "train") for seed in range(60))]
    silent = next(told for told in answered if not told.exchanges[0].panels)
    stream = pieces(silent, tales=tales)
    assert [piece.text for piece in stream[:5]] == [
        "<|user|>", markup.escape(silent.exchanges[0].message), END, "<|assistant|>", silent.exchanges[0].answer,
    ]  # fmt: skip
    drawn = next(told for told in answered if told.exchanges[0].panels)
    captions = [piece for piece in pieces(drawn, tales=tales) if piece.weight == tales.caption_weight]
    assert [piece.text for piece in captions] == [panel.caption for one in drawn.exchanges for panel in one.panels]


def test_batches_of_the_picture_book(marked: PreTrainedTokenizerFast) -> None:
    told = Stories(marked, 4, 96, open_tales("picturebook"))
    batch = told.draw(random.Random(0))
    assert batch.ids.shape == batch.weights.shape
    fox = marked(" fox")["input_ids"][0]
    batches = [told.draw(random.Random(seed)) for seed in range(12)]
    spoken = torch.cat([batch.weights[batch.ids == fox] for batch in batches])
    assert {round(weight, 3) for weight in spoken.tolist()} <= {USER_WEIGHT, CONTENT_WEIGHT} and len(spoken) > 4


def test_checks_of_the_picture_book_recognise_good_and_bad_replies() -> None:
    tales, rng = open_tales("picturebook"), random.Random(3)
    seen: set[str] = set()
    for _ in range(60):
        told = tales.story(rng, "validation")
        for at, exchange in enumerate(told.exchanges):
            before = " ".join(turn.text for turn in to_conversation(told, at).turns)
            good = (
                "".join(f"{panel.text}<image>{panel.caption}</image>" for panel in exchange.panels) or exchange.answer
            )
            assert all(tales.judged(good, exchange, before).values()), good
            seen |= {*tales.judged(good, exchange, before)}
            if exchange.panels:
                assert not tales.judged(exchange.panels[0].text, exchange, before)["parsed"]
                wrong = "".join(f"{panel.text}<image>a fox in the rocket</image>" for panel in exchange.panels)
                assert not tales.judged(wrong, exchange, before)["told"]
            else:
                assert not tales.judged(good + "<image>a fox</image>", exchange, before)["parsed"]
    assert seen == {"parsed", "told", "complete", "followed"}


def test_the_language_model_learns_the_picture_book(tmp_path: Path, capsys) -> None:
    arguments = ["--output", str(tmp_path), "--batch", "2", "--length", "64", "--check-every", "1", "--checks", "1"]
    small = ["--tokenizer-stories", "40", "--vocabulary", "600", "--width", "32", "--layers", "1", "--heads", "2"]
    language.main([*arguments, *small, "--steps", "2", "--world", "picturebook"])
    assert "language step 2 loss" in capsys.readouterr().out
    told = LanguageModel.from_pretrained(tmp_path / "language_model")
    assert told.tokenizer.decode(told.tokenizer("Milo the Fox")["input_ids"]) == "Milo the Fox"
    stand_in = load_file(tmp_path / "picture_stand_in.safetensors")
    assert stand_in["linear.weight"].shape[1] == len(open_tales("picturebook").species)


def test_words_in_capitals_are_read_as_words_that_begin_with_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for shouted, said in (
        ("FOX IN THE SNOW!!!", "Fox In The Snow!!!"),
        ("A RABBIT'S KITE", "A Rabbit'S Kite"),
        ("M²Chat", "M²Chat"),
        ("<|user|>I SEE A FOX<|end|>", "<|user|>I See A Fox<|end|>"),
    ):
        for each in (tokenizer, again):
            assert each(shouted)["input_ids"] == each(said)["input_ids"]
            assert each.decode(each(shouted)["input_ids"]) == said
