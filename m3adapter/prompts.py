"""From a conversation to token ids: the chat template, what stands where, and what has to go when it gets too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .chat_template import ChatTemplate, Message
from .conversation import Conversation, Slot
from .language_config import LanguageModelConfig, instructing
from .markup import escape
from .segments import Picture, Segment, Text, Turn

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

# Between the beginning and the end of a text that is too long.
_GAP = " … "
# The share of a shortened text that is its beginning: a premise comes first, what is asked often last.
_HEAD = 0.6


class PromptError(ValueError):
    """A conversation that no prompt can be made of; the message is one clear sentence."""


@dataclass(frozen=True)
class Prompt:
    """Token ids and what they are.

    Attributes:
        ids: Token ids.
        pictures: For each picture of a user that is still in the prompt: its number among all of them (from 0).
        caption, answer: Positions of a slot's caption, and of the reply's text before the slot; empty for a reply's
            prompt.
        inputs: What a model that sees pictures itself is given beside the ids; it may cover only their beginning.
    """

    ids: list[int]
    pictures: tuple[int, ...] = ()
    caption: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()
    inputs: Mapping[str, Tensor] = field(default_factory=dict)


class PromptWriter:
    """Writes prompts with a tokenizer's chat template.

    Args:
        tokenizer: With a chat template that takes messages with string contents.
        config: The markup, the instructions, and what stands for a user's picture.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: LanguageModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.template = self._template()
        self.instructions = instructing(config.instructions) if config.instructions else []
        # Markup and turn marks in what people write must not be read as such. Most are spelled like tags.
        self.special = tuple(token for token in special_tokens(tokenizer).values() if escape(token) == token)
        # A model without that token has not learned what it means.
        known = self._tokens(config.picture_token)
        self.picture = config.picture_token * config.picture_length if len(known) == 1 else ""

    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    def for_reply(self, conversation: Conversation, limit: int) -> Prompt:
        """The prompt that asks for the assistant's next turn, of at most `limit` tokens.

        Raises:
            PromptError: the limit leaves no room even for one message.
        """

        def write(kept: Conversation, first: int) -> Prompt:
            ids, inputs = self._begun(kept.turns)
            return Prompt(ids, self._numbers(conversation, kept, first), inputs=inputs)

        return _fitting(conversation, 1, limit, write)

    def for_slot(self, conversation: Conversation, slot: Slot, limit: int) -> Prompt:
        """The prompt that ends with the caption of the assistant's picture at `slot`, of at most `limit` tokens.

        Raises:
            PromptError: there is no such picture, or the limit leaves no room.
        """
        segment = conversation.at(slot)
        turn = conversation.turns[slot[0]]
        if turn.role != "assistant" or not isinstance(segment, Picture):
            raise PromptError(f"There is no picture of the assistant at {tuple(slot)}.")
        told = Conversation((*conversation.turns[: slot[0]], Turn("assistant", turn.segments[: slot[1] + 1])))

        def write(kept: Conversation, first: int) -> Prompt:
            ids, inputs = self._begun(kept.turns[:-1])
            answer: list[int] = []
            *before, last = kept.turns[-1].segments
            for part in before:
                tokens = self._tokens(self._written(part, "assistant") or "")
                if isinstance(part, Text):
                    answer += range(len(ids), len(ids) + len(tokens))
                ids += tokens
            ids += self._tokens(self.config.open_tag)
            start = len(ids)
            ids += self._tokens(escape(last.caption, self.special))  # type: ignore[union-attr]
            # Without a word of caption, the opening mark itself stands for it.
            caption = range(start if start < len(ids) else start - 1, len(ids))
            return Prompt(ids, self._numbers(conversation, kept, first), tuple(caption), tuple(answer), inputs)

        return _fitting(told, 2, limit, write)

    def _begun(self, turns: Sequence[Turn]) -> tuple[list[int], dict[str, Tensor]]:
        """The turns and the beginning of the assistant's next one: token ids, and what else the model is given."""
        return self._tokens(self._rendered(turns)), {}

    def _rendered(self, turns: Sequence[Turn]) -> str:
        messages: list[Message] = [
            (turn.role, [self._written(segment, turn.role) for segment in turn.segments]) for turn in turns
        ]
        if self.instructions:
            (_, told), *examples = self.instructions
            own = ["\n\n", *messages.pop(0)[1]] if messages[0][0] == "system" else []
            messages = [("system", [*told, *own]), *examples, *messages]
        return self.template.render(messages)

    def _written(self, segment: Segment, role: str) -> str | None:
        """A segment in a message; None is a picture that the template shows itself."""
        if isinstance(segment, Text):
            return escape(segment.text, self.special)
        if role == "assistant":
            return f"{self.config.open_tag}{escape(segment.caption, self.special)}{self.config.close_tag}"
        return None if self.template.shows_pictures else self.picture

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @staticmethod
    def _numbers(whole: Conversation, kept: Conversation, first: int) -> tuple[int, ...]:
        """The numbers of the users' pictures that are left: those before the kept turns are gone."""
        before = _count_pictures(turn for turn in whole.turns[:first] if turn.role == "user")
        left = _count_pictures(turn for turn in kept.turns if turn.role == "user")
        return tuple(range(before, before + left))


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Every token that is no part of anybody's words, by its id."""
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))}


def _fitting(conversation: Conversation, last: int, limit: int, write: Callable[[Conversation, int], Prompt]) -> Prompt:
    """The prompt of as much of the conversation as fits: whole exchanges go, oldest first, but for the `last` turns.

    The system turn stays. If that is not enough, the longest texts lose their middles.
    """
    head = 1 if conversation.turns and conversation.turns[0].role == "system" else 0
    first = head
    while True:
        kept = Conversation((*conversation.turns[:head], *conversation.turns[first:]))
        prompt = write(kept, first)
        if len(prompt.ids) <= limit:
            return prompt
        if first + 2 > len(conversation.turns) - last:
            break
        first += 2
    while len(prompt.ids) > limit:
        shorter = _shortened(kept, limit / len(prompt.ids))
        if shorter is None:
            raise PromptError(f"The language model's context leaves {limit} tokens, too few for this message.")
        kept = shorter
        prompt = write(kept, first)
    return prompt


def _shortened(conversation: Conversation, share: float) -> Conversation | None:
    """The conversation with the middle of its longest text cut out, or None where there is hardly any text left."""
    sizes = {
        (t, s): len(segment.text if isinstance(segment, Text) else segment.caption)
        for t, turn in enumerate(conversation.turns)
        for s, segment in enumerate(turn.segments)
    }
    t, s = max(sizes, key=sizes.__getitem__)
    # A little below what should do, so that few rounds are needed and each one shortens.
    room = int(sizes[t, s] * min(share, 0.98) * 0.95) - len(_GAP)
    if room < 2:
        return None
    turn = conversation.turns[t]
    segment = turn.segments[s]
    text = segment.text if isinstance(segment, Text) else segment.caption
    begin = max(1, int(room * _HEAD))
    text = text[:begin] + _GAP + text[len(text) - (room - begin) :]
    cut = Text(text) if isinstance(segment, Text) else replace(segment, caption=text)
    changed = replace(turn, segments=(*turn.segments[:s], cut, *turn.segments[s + 1 :]))
    return Conversation((*conversation.turns[:t], changed, *conversation.turns[t + 1 :]))


def _count_pictures(turns: Any) -> int:
    return sum(isinstance(segment, Picture) for turn in turns for segment in turn.segments)
