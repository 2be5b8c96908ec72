"""From a conversation to token ids: the chat template, the positions of a slot, and the fit into the context."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation, Slot
from ..conversation.markup import escape
from ..conversation.segments import Picture, Segment, Text, Turn
from .blocks import Blocks, shared_beginning
from .chat_template import ChatTemplate, Message
from .config import LanguageModelConfig, instructing
from .context import Fitter, Kept
from .thought_marks import is_mark
from .thoughts import ThoughtSplitter
from .token_memo import Memo, TokenMemo

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ROUNDS = 8  # of fitting a prompt, each with a better estimate
_SURELY = 1.25  # times the limit: with so many tokens of segments alone a prompt is too long, whatever joins them
# An arbitrary dialogue that shows how the template marks turns.
_EXAMPLE = (
    Turn("system", (Text("Be kind. "),)),
    Turn("user", (Text(" A fox,\nand an owl.\n"),)),
    Turn("assistant", (Text("It was night. 🌙"),)),
    Turn("user", (Text("Go on"),)),
)


class PromptError(ValueError):
    """A conversation that cannot be made into a prompt; the message is one sentence."""


@dataclass(frozen=True)
class Prompt:
    """The token ids of a prompt, and what they stand for.

    Attributes:
        ids: Token ids.
        pictures: The numbers, from 0, of the users' pictures that are in the prompt.
        caption: Positions of a slot's caption; () in the prompt of a reply.
        answer: Positions of the reply's text before the slot; () in the prompt of a reply.
        inputs: Further inputs of a vision-language model, which may cover only the first ids.
        ends: Where the blocks end in which it can be read, all before a slot's answer; () if it is one piece.
        note: A sentence that says what was shortened or left out; "" if nothing was.
    """

    ids: list[int]
    pictures: tuple[int, ...] = ()
    caption: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    note: str = ""
    ends: tuple[int, ...] = ()


class PromptWriter:
    """Writes prompts with a tokenizer's chat template.

    Args:
        tokenizer: A tokenizer with a chat template.
        config: The markup, the instructions, and the token that stands for a user's picture.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: LanguageModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.template = self._chat_template()
        self._heed_thoughts()
        self.instructions = instructing(config.instructions) if config.instructions else []
        # Special tokens that `escape` does not recognise by their spelling.
        self.special = tuple(token for token in special_tokens(tokenizer).values() if escape(token) == token)
        self._escaped = Memo(partial(escape, special_tokens=self.special))
        self._picture_sizes: dict[tuple[int, ...], int] = {}
        self._tokens = TokenMemo(tokenizer, self._rendered(_EXAMPLE))
        # A model without that token has not learned its meaning.
        known = self._tokens(config.picture_token)
        self.picture = config.picture_token * config.picture_length if len(known) == 1 else ""
        self.blocks = self._blocks()

    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    def with_thinking(self) -> PromptWriter:
        """Return a writer that lets the model think before it replies, if its template can."""
        other = copy.copy(self)
        other.template = self.template.with_thinking()
        other._heed_thoughts()
        other.blocks = other._blocks()
        return other

    def without_instructions(self) -> PromptWriter:
        """Return a writer of prompts that do not begin with the instructions."""
        other = copy.copy(self)
        other.instructions = []
        other.blocks = other._blocks()
        return other

    def _blocks(self) -> Blocks:
        """Find out where prompts can be cut into the blocks in which they are read."""
        markup = (self.config.open_tag, self.config.close_tag, self.config.picture_token)
        marks = {
            number
            for number, token in special_tokens(self.tokenizer).items()
            if token not in markup and not is_mark(token)
        }
        one, other = (self._tokens(self._rendered((Turn("user", (Text(text),)),))) for text in ("Ask", "12"))
        begun = shared_beginning(one, other, marks) if self.instructions else []
        return Blocks(self._tokens(self.opening), self._tokens(self._rendered(_EXAMPLE[1:])), marks, begun)

    def _heed_thoughts(self) -> None:
        """Set how the template opens a reply, and whether the reply is likely to have thoughts."""
        self.opening, self.thinks = self.template.opening(), self.template.thinks

    def for_reply(self, conversation: Conversation, limit: int) -> Prompt:
        """Return the prompt for the assistant's next turn, of at most `limit` tokens.

        Raises:
            PromptError: The limit leaves no room for even one message.
        """
        prompt, _ = self._for_reply(conversation.turns, limit)
        if prompt.note:
            logger.warning("M2Chat: %s", prompt.note)
        return prompt

    def _for_reply(self, turns: Sequence[Turn], limit: int) -> tuple[Prompt, Kept]:
        def write(kept: Kept) -> Prompt:
            ids, inputs = self._begun(kept.turns)
            ends = self.blocks.ends(ids)
            return Prompt(ids, _numbers(turns, kept), inputs=inputs, note=kept.note, ends=ends)

        return self._fitting(turns, 1, limit, write)

    def for_slot(self, conversation: Conversation, slot: Slot, limit: int, *, reply_limit: int | None = None) -> Prompt:
        """Return the prompt that ends with the caption of the assistant's picture at `slot`, of at most `limit` tokens.

        Of a longer conversation, it keeps what the prompt of the same reply kept, if that had at most `reply_limit`
        tokens and the reply still fits. So both prompts begin alike.

        Raises:
            PromptError: There is no such picture, or the limit leaves no room.
        """
        segment = conversation.at(slot)
        turn = conversation.turns[slot[0]]
        if turn.role != "assistant" or not isinstance(segment, Picture):
            raise PromptError(f"There is no picture of the assistant at {tuple(slot)}: choose another slot.")
        turns = (*conversation.turns[: slot[0]], Turn("assistant", turn.segments[: slot[1] + 1]))

        def write(kept: Kept) -> Prompt:
            ids, inputs = self._begun(kept.turns[:-1])
            ends = self.blocks.ends(ids)
            ids += self._tokens(ThoughtSplitter(self.opening).closing())  # the caption is not part of a thought
            answer: list[int] = []
            *before, last = kept.turns[-1].segments
            assert isinstance(last, Picture)
            for part in before:
                tokens = self._tokens(self._written(part, "assistant") or "")
                if isinstance(part, Text):
                    answer += range(len(ids), len(ids) + len(tokens))
                ids += tokens
            ids += self._tokens(self.config.open_tag)
            start = len(ids)
            ids += self._tokens(self._escaped(last.caption))
            # An empty caption is represented by the opening tag itself.
            caption = range(start if start < len(ids) else start - 1, len(ids))
            return Prompt(ids, _numbers(turns, kept), tuple(caption), tuple(answer), inputs, kept.note, ends)

        def beginning() -> Kept | None:
            """Return what the prompt of the reply keeps, and the reply."""
            if reply_limit is None:
                return None
            kept = self._for_reply(turns[:-1], reply_limit)[1]
            return replace(kept, turns=(*kept.turns, turns[-1]), places=(*kept.places, len(turns) - 1))

        return self._fitting(turns, 2, limit, write, beginning)[0]

    def _fitting(
        self,
        turns: Sequence[Turn],
        last: int,
        limit: int,
        write: Callable[[Kept], Prompt],
        preferred: Callable[[], Kept | None] = lambda: None,
    ) -> tuple[Prompt, Kept]:
        """Return the prompt of all turns and, beyond `limit` tokens, of what `context` keeps of them.

        Args:
            turns: The turns.
            last: How many at the end must stay.
            limit: The most tokens.
            write: Writes the prompt.
            preferred: Returns what to keep of too many turns, if that fits.
        """
        everything = Kept(tuple(turns), tuple(range(len(turns))))
        # A token has a few characters, so few characters need no estimate.
        characters = sum(len(_words(segment)) for turn in turns for segment in turn.segments)
        sizes = [] if characters <= limit else self._sizes(turns)
        if not sizes or sum(map(sum, sizes)) <= _SURELY * limit:
            prompt = write(everything)
            if len(prompt.ids) <= limit:
                return prompt, everything
        if kept := preferred():
            prompt = write(kept)
            if len(prompt.ids) <= limit:
                return prompt, kept
        mark = self._mark()
        fitter = Fitter(
            turns, last, sizes or self._sizes(turns), mark, lambda text: self._tokens.count(self._escaped(text))
        )
        # Besides the turns, the prompt has instructions and the beginning of the reply.
        room = limit - self._beside(turns[0].role == "system", mark, last, write)
        for _ in range(_ROUNDS):
            fitting = fitter.fit(room)
            if fitting is None:
                break
            prompt = write(fitting)
            if len(prompt.ids) <= limit:
                return prompt, fitting
            room -= len(prompt.ids) - limit
        raise PromptError(
            f"The language model's context leaves {limit} tokens, too few for this message: "
            "shorten it, or lower max_length."
        )

    def _beside(self, system: bool, mark: int, last: int, write: Callable[[Kept], Prompt]) -> int:
        """Return how many tokens a prompt has beside its turns."""
        asked, shown = Turn("user", (Text("a"),)), Turn("assistant", (Picture(caption="a"),))
        turns = (*[Turn("system", (Text("a"),))] * system, asked, *[shown] * (last - 1))
        sizes = sum(map(sum, self._sizes(turns)))
        return max(len(write(Kept(turns, tuple(range(len(turns))))).ids) - sizes - mark * len(turns), 0)

    def _sizes(self, turns: Sequence[Turn]) -> list[list[int]]:
        """Estimate how many tokens each segment of each turn takes."""
        return [[self._size(segment, turn.role) for segment in turn.segments] for turn in turns]

    def _size(self, segment: Segment, role: str) -> int:
        """Estimate how many tokens a segment takes."""
        written = self._written(segment, role)
        return self._picture_size(segment) if written is None else self._tokens.count(written)

    def _picture_size(self, picture: Segment) -> int:
        """Count the tokens of a picture that the template shows itself; they depend on its sides alone."""
        assert isinstance(picture, Picture) and picture.pixels is not None
        sides = tuple(picture.pixels.shape)
        if sides not in self._picture_sizes:
            with_picture, without = (self._begun([Turn("user", (*parts, Text("a")))])[0] for parts in ((picture,), ()))
            self._picture_sizes[sides] = len(with_picture) - len(without)
        return self._picture_sizes[sides]

    def _mark(self) -> int:
        """Return the average number of tokens that a turn takes beside its segments."""
        asked, replied = (Turn(role, (Text("a"),)) for role in ("user", "assistant"))
        single, triple = (len(self._tokens(self._rendered(turns))) for turns in ((asked,), (asked, replied, asked)))
        return max(math.ceil((triple - single) / 2) - len(self._tokens("a")), 0)

    def _begun(self, turns: Sequence[Turn]) -> tuple[list[int], dict[str, Tensor]]:
        """Return the token ids of the turns and of the beginning of the assistant's next one, and further inputs."""
        return self._tokens(self._rendered(turns)), {}

    def _rendered(self, turns: Sequence[Turn]) -> str:
        messages: list[Message] = [
            (turn.role, [self._written(segment, turn.role) for segment in turn.segments]) for turn in turns
        ]
        if self.instructions:
            (_, system), *examples = self.instructions
            own = ["\n\n", *messages.pop(0)[1]] if messages[0][0] == "system" else []
            messages = [("system", [*system, *own]), *examples, *messages]
        return self.template.render(messages)

    def _written(self, segment: Segment, role: str) -> str | None:
        """Return a segment as text for a message; None is a picture that the template shows itself."""
        if isinstance(segment, Text):
            return self._escaped(segment.text)
        if role == "assistant":
            return f"{self.config.open_tag}{self._escaped(segment.caption)}{self.config.close_tag}"
        return None if self.template.shows_pictures else self.picture


def _numbers(turns: Sequence[Turn], kept: Kept) -> tuple[int, ...]:
    """Return the numbers of the users' pictures that are kept, among all of them."""
    counts = [_picture_count(turn) for turn in turns]
    return tuple(
        sum(counts[:place]) + number
        for place, turn in zip(kept.places, kept.turns, strict=True)
        for number in range(_picture_count(turn))
    )


def _words(segment: Segment) -> str:
    return segment.text if isinstance(segment, Text) else segment.caption


def _picture_count(turn: Turn) -> int:
    return sum(isinstance(segment, Picture) for segment in turn.segments) if turn.role == "user" else 0


def knowing(tokenizer: PreTrainedTokenizerBase, token: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer that reads `token` as one token: the given one, or else a copy to which it is added.

    Its id may lie beyond the model's table of embeddings.

    Raises:
        ValueError: The token cannot be added.
    """

    def known(one: PreTrainedTokenizerBase) -> bool:
        return len(one(token, add_special_tokens=False)["input_ids"]) == 1

    if known(tokenizer):
        return tokenizer
    other = copy.deepcopy(tokenizer)
    other.add_tokens([token], special_tokens=True)
    if not known(other):
        raise ValueError(f"The tokenizer does not take {token} as a token of pictures: use another picture_token.")
    return other


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the special tokens, which are not part of what anyone says, by their ids."""
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))}
