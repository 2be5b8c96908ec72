"""A reply's text while it is written: the text of all its tokens, in chunks of whole characters, at linear cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from m3adapter.language.detokenizing import Detokenizer

STORY = "Ein Füchslein 🦊🏖️ im 森 – “naïve”, 12.5 % e\u0301lan. The owl could not sleep, and sang\n\n\u200d한국어. "
Decode = Callable[[Sequence[int]], str]


def llama() -> tuple[Tokenizer, list[int]]:
    """SentencePiece's kind: blanks as ▁, the first one left out, and bytes for what has no piece."""
    words = ["▁The", "▁owl", "s", "▁森", "▁", "a", "▁sang", ",", "é", "<s>"]
    pieces = ["<unk>", *(f"<0x{number:02X}>" for number in range(256)), *words]
    made = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    ids = [number for letter in STORY for number in (made.token_to_id(letter),) if number is not None]
    ids = [1 + byte for byte in STORY.encode()] + [257, 258, 259, *ids, 258]
    return made, ids


def bert() -> tuple[Tokenizer, list[int]]:
    """WordPiece's kind: blanks before every piece but a continuing one."""
    made = Tokenizer(models.WordPiece({"owl": 0, "##s": 1, "sang": 2, ",": 3, "n": 4, "'": 5, "t": 6, "森": 7}))
    made.decoder = decoders.WordPiece()
    return made, [0, 1, 2, 3, 4, 5, 6, 7, 7, 0, 3]


@pytest.fixture(params=["byte-level", "llama", "bert"])
def words(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> tuple[Decode, int, list[int]]:
    """How a kind of tokenizer decodes, how many tokens it has, and the tokens of a text."""
    if request.param == "byte-level":
        made, ids = tokenizer.backend_tokenizer, tokenizer(STORY)["input_ids"]
    else:
        made, ids = llama() if request.param == "llama" else bert()
    return lambda some: made.decode(list(some), skip_special_tokens=False), made.get_vocab_size(), ids


def by_decoding_all(decode: Decode, ids: list[int]) -> list[str]:
    """The chunks as they are defined: of the text of all tokens so far, what is new once it ends with a character."""
    chunks, sent = [], 0
    for count in range(1, len(ids) + 1):
        text, chunk = decode(ids[:count]), ""
        if not text.endswith("\ufffd") and len(text) > sent:
            chunk, sent = text[sent:], len(text)
        chunks.append(chunk)
    return [*chunks, decode(ids)[sent:].rstrip("\ufffd")]


def test_chunks_are_those_of_decoding_everything(words: tuple[Decode, int, list[int]]) -> None:
    decode, size, ids = words
    chance = random.Random(5)
    wild = [[chance.randrange(size) for _ in range(chance.choice((3, 40, 150)))] for _ in range(60)]
    bytes_alone = [[chance.randrange(min(size, 257)) for _ in range(80)] for _ in range(10)]
    mixed = [[part for _ in range(6) for part in (*ids[: chance.randrange(len(ids))], *one[:3])] for one in wild[:10]]
    for sequence in (ids, ids * 8, *wild, *bytes_alone, *mixed):
        written = Detokenizer(decode)
        chunks = [*map(written.add, sequence), written.close()]
        assert chunks == by_decoding_all(decode, sequence)


def test_the_cost_of_a_token_does_not_grow(words: tuple[Decode, int, list[int]]) -> None:
    decode, _, ids = words
    sizes: list[int] = []

    def counted(some: Sequence[int]) -> str:
        sizes.append(len(some))
        return decode(some)

    written = Detokenizer(counted)
    for token in ids * 40:
        written.add(token)
    assert sum(sizes) < 3 * len(ids) * len(ids) * 40, "a period of the text at most, and now and then a search"
    assert max(sizes) < 4 * len(ids)
