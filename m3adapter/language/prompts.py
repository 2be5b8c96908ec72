"""From a conversation to token ids: the chat template, the positions of a slot, and the fit into the context."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..conversation.conversation import Conversation, Slot
from ..conversation.markup import escape
from ..conversation.segments import Picture, Segment, Text, Turn
from .chat_template import ChatTemplate, Message
from .config import LanguageModelConfig, instructing
from .context import Fitter, Kept
from .thoughts import ThoughtSplitter

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ROUNDS = 8  # of fitting a prompt, each with a better estimate


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
        note: A sentence that says what was shortened or left out; "" if nothing was.
    """

    ids: list[int]
    pictures: tuple[int, ...] = ()
    caption: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    note: str = ""


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
        # A model without that token has not learned its meaning.
        known = self._tokens(config.picture_token)
        self.picture = config.picture_token * config.picture_length if len(known) == 1 else ""

    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    def with_thinking(self) -> PromptWriter:
        """Return a writer that lets the model think before it replies, if its template can."""
        other = copy.copy(self)
        other.template = self.template.with_thinking()
        other._heed_thoughts()
        return other

    def _heed_thoughts(self) -> None:
        """Set how the template opens a reply, and whether the reply is likely to have thoughts."""
        self.opening, self.thinks = self.template.opening(), self.template.thinks

    def for_reply(self, conversation: Conversation, limit: int) -> Prompt:
        """Return the prompt for the assistant's next turn, of at most `limit` tokens.

        Raises:
            PromptError: The limit leaves no room for even one message.
        """

        def write(kept: Kept) -> Prompt:
            ids, inputs = self._begun(kept.turns)
            return Prompt(ids, _numbers(conversation.turns, kept), inputs=inputs, note=kept.note)

        prompt = self._fitting(conversation.turns, 1, limit, write)
        if prompt.note:
            logger.warning("M2Chat: %s", prompt.note)
        return prompt

    def for_slot(self, conversation: Conversation, slot: Slot, limit: int) -> Prompt:
        """Return the prompt that ends with the caption of the assistant's picture at `slot`, of at most `limit` tokens.

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
            ids += self._tokens(escape(last.caption, self.special))
            # An empty caption is represented by the opening tag itself.
            caption = range(start if start < len(ids) else start - 1, len(ids))
            return Prompt(ids, _numbers(turns, kept), tuple(caption), tuple(answer), inputs, kept.note)

        return self._fitting(turns, 2, limit, write)

    def _fitting(self, turns: Sequence[Turn], last: int, limit: int, write: Callable[[Kept], Prompt]) -> Prompt:
        """Return the prompt of all turns or, beyond `limit` tokens, of what `context` keeps of them."""
        prompt = write(Kept(tuple(turns), tuple(range(len(turns)))))
        if len(prompt.ids) <= limit:
            return prompt
        sizes = [[self._size(segment, turn.role) for segment in turn.segments] for turn in turns]
        mark = self._mark()
        fitter = Fitter(turns, last, sizes, mark, lambda text: len(self._tokens(escape(text, self.special))))
        # Besides the turns, the prompt has instructions and the beginning of the reply.
        room = limit - max(len(prompt.ids) - sum(map(sum, sizes)) - mark * len(turns), 0)
        for _ in range(_ROUNDS):
            kept = fitter.fit(room)
            if kept is None:
                break
            prompt = write(kept)
            if len(prompt.ids) <= limit:
                return prompt
            room -= len(prompt.ids) - limit
        raise PromptError(
            f"The language model's context leaves {limit} tokens, too few for this message: "
            "shorten it, or lower max_length."
        )

    def _size(self, segment: Segment, role: str) -> int:
        """Estimate how many tokens a segment takes."""
        written = self._written(segment, role)
        return self._picture_size(segment) if written is None else len(self._tokens(written))

    def _picture_size(self, picture: Segment) -> int:
        """Count the tokens of a picture that the template shows itself."""
        with_picture, without = (self._begun([Turn("user", (*parts, Text("a")))])[0] for parts in ((picture,), ()))
        return len(with_picture) - len(without)

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
            return escape(segment.text, self.special)
        if role == "assistant":
            return f"{self.config.open_tag}{escape(segment.caption, self.special)}{self.config.close_tag}"
        return None if self.template.shows_pictures else self.picture

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _numbers(turns: Sequence[Turn], kept: Kept) -> tuple[int, ...]:
    """Return the numbers of the users' pictures that are kept, among all of them."""
    counts = [_picture_count(turn) for turn in turns]
    return tuple(
        sum(counts[:place]) + number
        for place, turn in zip(kept.places, kept.turns, strict=True)
        for number in range(_picture_count(turn))
    )


def _picture_count(turn: Turn) -> int:
    return sum(isinstance(segment, Picture) for segment in turn.segments) if turn.role == "user" else 0


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the special tokens, which are not part of anybody's words, by their ids."""
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))}
