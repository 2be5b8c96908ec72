"""Prompts are tokenised turn by turn, each turn once, with the ids of the whole prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import toy_llms
from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.prompts import PromptWriter
from m3adapter.language.token_memo import Memo

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.role == 'system' %}{{ raise_exception('no system') }}{% else %} {{ m.content }}</s>{% endif %}"
    "{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role.upper() }}: {{ m.content | trim }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def pieces(template: str, *, first: bool = False, **flags: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of SentencePiece's kind: letters and a few longer pieces, a blank before a text; and its marks."""
    letters = sorted({*map(chr, range(33, 127)), *"▁\n…🌙🦊森é"})
    merges = [("f", "o"), ("fo", "x"), ("▁", "fox"), ("▁", "s"), ("\n", "\n"), ("e", "r"), (".", "▁")]
    known = ["<unk>", *letters, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({piece: number for number, piece in enumerate(known)}, merges, unk_token="<unk>"))
    if first:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Replace("▁", " ")
    made.add_special_tokens(
        [AddedToken(mark, **{"normalized": False, **flags}) for mark in ("<s>", "</s>", "[INST]", "[/INST]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=template, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


MAKES = {
    "chatml": lambda: toy_llms.tokenizer(),
    "no system turn": lambda: toy_llms.tokenizer(toy_llms.NO_SYSTEM),
    "mistral": lambda: pieces(MISTRAL),
    "metaspace": lambda: pieces(MISTRAL, first=True),
    "greedy marks": lambda: pieces(MISTRAL, lstrip=True, rstrip=True),
    "late marks": lambda: pieces(MISTRAL, normalized=True),
    "plain": lambda: pieces(PLAIN),
}


@pytest.fixture(params=[*MAKES, "starter"])
def words(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return tokenizer if request.param == "starter" else MAKES[request.param]()


def story(panels: int) -> Conversation:
    told = Conversation().system("Be kind. ").user("  A fox who\n\nsings 🌙 ")
    for number in range(panels):
        reply = [Text(f" In panel {number} the fox ran.\n"), Picture(f"a fox {number} "), Text("\n\nSo it was… </s> ")]
        told = told.assistant(reply).user("Go on." if number % 2 else "\n And then, 森? ")
    return told


@pytest.mark.parametrize("instructed", [False, True])
def test_a_prompt_in_pieces_is_that_of_the_whole_text(words: PreTrainedTokenizerFast, instructed: bool) -> None:
    config = LanguageModelConfig.untrained() if instructed else LanguageModelConfig()
    prompts = PromptWriter(words, config)
    for panels in range(5):
        told = story(panels)
        text = prompts._rendered(told.turns)
        assert prompts.for_reply(told, 10**6).ids == words(text, add_special_tokens=False)["input_ids"]
    drawn = told.assistant([Text("The fox slept. "), Picture("a fox asleep")])
    begun = prompts.for_reply(told, 10**6).ids
    assert prompts.for_slot(drawn, Slot(len(told.turns), 1), 10**6).ids[: len(begun)] == begun


def test_a_turn_is_tokenised_once(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = PromptWriter(tokenizer, LanguageModelConfig())
    told, longer = story(400), story(400).assistant([Text("It rained, 401 times.")]).user("Really?")
    read: list[str] = []
    original = type(tokenizer).__call__

    def counted(self: PreTrainedTokenizerFast, text: str, **how: Any) -> Any:
        read.append(text)
        return original(self, text, **how)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    for limit in (10**6, 2000):
        prompts.for_reply(told, limit)
        once = sum(map(len, read))
        assert once < 3 * len(prompts._rendered(told.turns)), "as pieces of the prompt, and alone to know their sizes"
        read.clear()
        prompts.for_reply(told, limit)
        assert not read
        prompts.for_reply(longer, limit)
        assert sum(map(len, read)) < 1500, "what is new, and what has moved to the edge of what is left out"
        read.clear()


def test_what_is_remembered_is_bounded() -> None:
    asked: list[str] = []

    def size(text: str) -> int:
        asked.append(text)
        return len(text)

    memo = Memo(size, most=100)
    for number in range(1000):
        assert memo(f"{number:08}") == memo(f"{number:08}") == 8
    assert len(asked) == 1000 and len(memo._values) <= 13
    assert memo("x" * 50) == memo("x" * 50) == 50 and len(asked) == 1002, "what is as long as that is not remembered"


def test_the_starters_tokenizer_is_cut_at_its_turns() -> None:
    folder = Path(toy_llms.__file__).parents[1] / "m3adapter" / "starter" / "language_model"
    prompts = PromptWriter(PreTrainedTokenizerFast.from_pretrained(folder), LanguageModelConfig.read(folder))
    assert prompts._tokens._mark is not None
    text = prompts._rendered(story(3).turns)
    assert prompts._tokens(text) == prompts.tokenizer(text, add_special_tokens=False)["input_ids"]
