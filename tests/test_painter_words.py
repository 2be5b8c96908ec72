"""Words on their way to a painter: every one arrives, as a word, wherever it stands and however long the text is."""

from __future__ import annotations

import ast
import json

import pytest
import torch

import toys
from m3adapter.diffusion.condition import Condition
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.prompt_syntax import escaped, unescaped
from m3adapter.diffusion.text_encoding import of_one_length
from runs import inside
from tools import environment

CAPTIONS = [
    "a clock (8:30) on a wall", "((x)) (very: big) (a:1.2) (b:-1)", "a (", "a ) b (", "[x] {y|z} // c", "BREAK AND a",
    "embedding:cat in a hat", "a embedding:cat, embedding:dog", r"back\slash \( x \) \ ", "\nembedding:é (雪:2) 🦊",
]  # fmt: skip
LONG = " ".join(f"a fox with {number} kites on the beach by night," for number in range(30))


@pytest.mark.comfy
def test_stock_encoders_read_captions_word_for_word_and_long_prompts_whole() -> None:
    found = inside("painters_words", json.dumps(CAPTIONS), LONG)
    for caption, read in zip(CAPTIONS, found["read"], strict=True):
        assert read["ids"] == read["words"] and read["weights"] == [1.0], caption
        assert read["captions"] == [escaped(caption)] * 2
        assert read["kept"] == caption, "what is shown and saved is not escaped"
        assert read["own"] == [unescaped(escaped(caption))], "Encode Text paints brackets, not backslashes"
        assert "\\(" in caption or read["likeness"] == pytest.approx(1), caption  # else it is taken for an escaped one
    assert found["difference"] < 1e-4, "a long prompt is what ComfyUI's chunks are"
    assert found["shapes"][0] == found["shapes"][1] and found["shapes"][0][1] % 32 == 0, (
        "the starter's encoders read 32 tokens"
    )
    assert found["shapes"][0][1] > 3 * 32, "the prompt would have fitted anyway"


def test_special_tokens_are_words() -> None:
    spelled = ["<|endoftext|>", "</s>", "<extra_id_0>", "<start_of_turn>", "<pad>", "a <|im_end|> b"]
    for caption in spelled:
        assert caption not in escaped(caption) and escaped(caption).replace(" ", "") == caption.replace(" ", "")
    assert escaped("2 < 3 > 1 <3") == "2 < 3 > 1 <3"


def test_no_field_of_words_is_a_dynamic_prompt() -> None:
    """The front end would choose among {a|b} and drop what follows // before the words are sent."""
    for path in (environment.REPO / "nodes").glob("*.py"):
        names = [node.arg for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.keyword)]
        assert "dynamic_prompts" not in names, path.name


def test_conditions_of_unequal_length_paint_what_each_says(tmp_path) -> None:
    decoder = DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path))
    short, other = toys.condition(seed=1), toys.condition(seed=2)
    long = torch.cat([short.embeds, other.embeds], 1)
    pooled = {"pooled": short.pooled, "negative_pooled": short.negative_pooled}
    for embeds, negative in ((long, other.embeds), (short.embeds, long), (short.embeds, torch.cat([long, long], 1))):
        stock = Condition.from_conditioning(
            [[embeds, {"pooled_output": short.pooled}]], [[negative, {"pooled_output": short.negative_pooled}]]
        )
        assert stock.embeds is embeds and stock.negative_embeds is negative, "nothing is lost on the way back"
        found = decoder.decode(stock, seed=1, steps=2)
        length = max(embeds.shape[1], negative.shape[1])
        repeated = [each.repeat(1, length // each.shape[1], 1) for each in (embeds, negative)]
        same = decoder.decode(Condition(repeated[0], negative_embeds=repeated[1], **pooled), seed=1, steps=2)
        assert torch.equal(found, same)
    once = decoder.decode(Condition(short.embeds, negative_embeds=other.embeds, **pooled), seed=1, steps=2)
    twice = decoder.decode(
        Condition(short.embeds.repeat(1, 2, 1), negative_embeds=other.embeds, **pooled), seed=1, steps=2
    )
    torch.testing.assert_close(once, twice, atol=1e-4, rtol=0)
    for lengths, fit in (((77, 154), 154), ((77, 100), 7700), ((4, 6, 3), 12)):
        assert {each.shape[1] for each in of_one_length([torch.zeros(1, n, 2) for n in lengths])} == {fit}
    with pytest.raises(ValueError, match=r"^Conditions of 769 and 1000 tokens do not go together"):
        of_one_length([torch.zeros(1, 769, 2), torch.zeros(1, 1000, 2)])
    both = Condition.concatenate([stock, Condition(short.embeds, negative_embeds=other.embeds, **pooled)])
    assert both.batch == 2 and both.negative_embeds.shape[1] == 4 * short.embeds.shape[1]


def test_one_negative_serves_a_batch_and_other_numbers_are_refused() -> None:
    one, two, three = (toys.condition(number) for number in (1, 2, 3))
    made = Condition.from_conditioning(two.positive(), one.negative())
    assert made.negative_embeds.shape[0] == made.negative_pooled.shape[0] == 2
    with pytest.raises(ValueError, match="for 3 pictures and the negative one for 2: give one negative, or as many"):
        Condition.from_conditioning(three.positive(), two.negative())


def test_a_caption_of_thousands_of_words_is_refused_as_what_it_is(tmp_path) -> None:
    decoder = DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path))
    long = "word " * 10_000
    assert decoder.takes("a fox " * 100) and not decoder.takes(long)
    for prompts in ([long], ["a fox", long]):
        with pytest.raises(
            ValueError, match="A caption of 10000 words is too long, it has more than the 16384"
        ) as caught:
            decoder.encode_text(prompts)
        assert toys.one_sentence(caught.value)
    with pytest.raises(ValueError, match="10000 words is too long"):
        decoder.encode_text(["a fox"], long)
