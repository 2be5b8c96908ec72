"""Stories as tokens: the starter's tokenizer, and batches of stories with the weights of their tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..conversation.markup import CLOSE, OPEN, escape
from .marked_tokenizer import mark, quieten
from .tales import Tales, storybook

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END, REPLY, PICTURE = "<|end|>", "<|assistant|>", "<|picture|>"
SPECIAL_TOKENS = (END, "<|system|>", "<|user|>", REPLY, PICTURE, OPEN, CLOSE)
PICTURE_LENGTH = 4
# The user's messages are not to be imitated, but predicting them a little teaches how they relate to the replies.
USER_WEIGHT = 0.1
# Most words of a paragraph are freely chosen. Those that must agree with the message and the picture count more.
CONTENT_WEIGHT = 4.0

# Contents may be strings, or lists of text and image entries as transformers' multimodal templates take them.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- '" + OPEN + "' + part['caption'] + '" + CLOSE + "' -}}"
    "{%- else -%}{{- '" + PICTURE * PICTURE_LENGTH + "' -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '" + END + "' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A piece of a story's token stream: a text, a special token, or the tokens of a user's picture of a species.

    Attributes:
        text: The text.
        weight: How much predicting it counts.
        species: Index into the species of the world of what a user's picture shows; -1 for text.
    """

    text: str
    weight: float
    species: int = -1


@dataclass(frozen=True)
class Batch:
    """Packed stories.

    Attributes:
        ids: Token ids [B, L].
        weights: How much the prediction of each token counts [B, L].
        pictures: Row, column and index into the species of the world of every picture token [N, 3].
    """

    ids: Tensor
    weights: Tensor
    pictures: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        return Batch(self.ids.to(device), self.weights.to(device), self.pictures.to(device))


def pieces(told: Any, *, system: str | None = None, start: int = 0, tales: Tales | None = None) -> list[Piece]:
    """Return the token stream of a story from exchange `start`, as the chat template writes its conversation.

    Args:
        told: The story.
        system: The text of a system turn; none by default.
        start: Index of the first exchange.
        tales: Whose story it is; the storybook's by default.
    """
    tales = tales or storybook()
    stream = [Piece("<|system|>", 0), Piece(system, 0), Piece(END, 0)] if system else []
    for exchange in told.exchanges[start:]:
        stream.append(Piece("<|user|>", 0))
        if exchange.user_scene:
            shown = tales.species.index(exchange.user_scene.characters[0].species)
            stream.append(Piece(PICTURE * PICTURE_LENGTH, 0, shown))
        if exchange.message.strip():
            stream.append(Piece(escape(exchange.message), USER_WEIGHT))
        stream += [Piece(END, 0), Piece(REPLY, 0)]
        if not exchange.panels:
            stream.append(Piece(escape(exchange.answer), 1))
        for number, panel in enumerate(exchange.panels):
            stream += _with_names(("\n\n" if number else "") + panel.text, panel.names, 1)
            stream += [Piece(OPEN, 1), *_with_names(panel.caption, panel.names, tales.caption_weight), Piece(CLOSE, 1)]
        stream.append(Piece(END, 1))
    return stream


def _with_names(text: str, names: Sequence[str], weight: float) -> list[Piece]:
    """Return a text as pieces, whose names count as words of content: they must be those that the user gave.

    A name goes with the blanks before it, so the tokens are those of the whole text.
    """
    called = "|".join(map(re.escape, filter(None, names)))
    if not called:
        return [Piece(text, weight)]
    parts = re.split(rf"(\s*\b(?:{called})\b)", text)
    return [Piece(part, CONTENT_WEIGHT if number % 2 else weight) for number, part in enumerate(parts) if part]


def random_pieces(rng: random.Random, tales: Tales) -> list[Piece]:
    """Return the token stream of a training story, sometimes with a system turn, sometimes without its beginning."""
    told = tales.story(rng, "train")
    late = len(told.exchanges) > 2 and rng.random() < 0.1
    return pieces(
        told,
        system=rng.choice(tales.systems) if rng.random() < 0.12 else None,
        start=rng.randrange(1, len(told.exchanges) - 1) if late else 0,
        tales=tales,
    )


def train_tokenizer(texts: Iterator[str], vocab_size: int, *, marked: bool = False) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: words of stories are one token each, and any other text can be written, too.

    Args:
        texts: Texts without special tokens.
        vocab_size: Number of tokens including special ones; at least 263.
        marked: Whether capitals and words without a blank before them are marked (`marked_tokenizer`); or else words in
            capitals are read as if only their first letter were one.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    (mark if marked else quieten)(core)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def story_texts(count: int, seed: int, tales: Tales | None = None) -> Iterator[str]:
    """Yield the texts of `count` training stories for the tokenizer, of the storybook by default."""
    rng, tales = random.Random(seed), tales or storybook()
    for _ in range(count):
        yield from (
            piece.text for piece in random_pieces(rng, tales) if piece.text not in SPECIAL_TOKENS and piece.species < 0
        )


def content_factors(tokenizer: PreTrainedTokenizerBase, content: frozenset[str]) -> Tensor:
    """Return the weight of every token [V] in a reply: CONTENT_WEIGHT for words of `content`.

    The end of a reply and the beginning of the next paragraph count equally, or else replies would end early.
    """
    texts = [str(tokenizer.decode([token])) for token in range(len(tokenizer))]
    matters = (text == "\n" or text.strip().lower() in {*content, CLOSE, END} for text in texts)
    return torch.tensor([CONTENT_WEIGHT if matter else 1.0 for matter in matters])


class Stories:
    """Training stories as batches, packed one after another into rows.

    A row begins with a story and is cut where it is full. Stories in a row see those before them, just as a user may
    type a new premise in a running conversation. A quarter of the batches have rows of twice the length, for long
    conversations.

    Args:
        tokenizer: Of the language model; one that `tokenizers` implements.
        rows: Rows of a batch.
        length: Tokens of a row.
        tales: Whose stories; the storybook's by default.

    Raises:
        ValueError: The tokenizer is of another kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rows: int, length: int, tales: Tales | None = None) -> None:
        """Prepare the tokenizer."""
        from transformers import PreTrainedTokenizerFast

        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ValueError(f"The tokenizer is a {type(tokenizer).__name__}: stories need a fast tokenizer.")
        vocabulary = tokenizer.get_vocab()
        self.rows, self.length = rows, length
        self._known = {token: vocabulary[token] for token in SPECIAL_TOKENS}
        self._encode = tokenizer.backend_tokenizer.encode_batch
        self._tales = tales or storybook()
        self._factors = content_factors(tokenizer, self._tales.content)

    def draw(self, rng: random.Random) -> Batch:
        """Return a batch of new stories."""
        known = self._known
        long = self.rows > 1 and rng.random() < 0.25
        count, size = (self.rows // 2, self.length * 2) if long else (self.rows, self.length)
        streams: list[list[Piece]] = []
        for _ in range(count):
            # This is always enough: on average a token has fewer characters.
            stream: list[Piece] = []
            while sum(len(piece.text) for piece in stream) < size * 6:
                stream += random_pieces(rng, self._tales)
            streams.append(stream)
        texts = [piece.text for stream in streams for piece in stream if piece.text not in known and piece.species < 0]
        encoded = iter(self._encode(texts, add_special_tokens=False))
        ids = torch.full((count, size), known[END])
        weights = torch.zeros(count, size)
        pictures: list[tuple[int, int, int]] = []
        for row, stream in enumerate(streams):
            tokens: list[int] = []
            counts: list[float] = []
            for piece in stream:
                if piece.species >= 0:
                    pictures += [(row, len(tokens) + k, piece.species) for k in range(PICTURE_LENGTH)]
                    new = [known[PICTURE]] * PICTURE_LENGTH
                else:
                    new = [known[piece.text]] if piece.text in known else next(encoded).ids
                tokens += new
                counts += [piece.weight] * len(new)
            ids[row] = torch.tensor(tokens[:size])
            weights[row] = torch.tensor(counts[:size])
        weights = torch.where(weights >= 1, torch.maximum(self._factors[ids], weights), weights)
        # With its first word, a reply decides whether it tells a story or says that it cannot.
        weights[:, 1:][ids[:, :-1] == known[REPLY]] = CONTENT_WEIGHT
        visible = [(row, column, species) for row, column, species in pictures if column < size]
        return Batch(ids, weights, torch.tensor(visible, dtype=torch.long).reshape(-1, 3))
