"""The multimodal language model: it writes replies, and computes the adapter's features of a picture to be painted.

Any causal language model of transformers with a chat template can be used (`auto.py` opens them). A user's picture is a
few tokens whose embeddings are projected vision features; the assistant's pictures are captions in the markup of
`markup.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from ..compat import cache_of, with_cache
from ..conversation.conversation import Conversation, ConversationError, Slot
from ..events import Interrupted
from .as_read import with_seen, with_sheet
from .config import LanguageModelConfig
from .detokenizing import Detokenizer
from .loading import embedding, examine, open_model
from .prefix_cache import PrefixCache, usual_limit
from .prompt_embeddings import embedded, projected
from .prompts import Prompt, PromptWriter, knowing, special_tokens
from .reading import BlockReader, TransformersReader
from .reply_tokens import ReplyTokens, end_tokens, unfinished_thought
from .sampling import Sampling, choose
from .streamed_reply import Course, StreamedReply
from .thought_marks import is_mark
from .thoughts import ThoughtError
from .visual_projection import PROJECTION_NAME, VisualProjection

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from typing_extensions import Self

    from .loading import Dtype, ModelFiles, OpenedModel
    from .quantization import Quantization


@dataclass(frozen=True)
class SlotStates:
    """The language model's hidden states [length, H] for one picture.

    Attributes:
        context: States at the caption and at the image tokens that follow it.
        text: States at the reply's text before the picture and at the caption.
        caption: The caption.
        note: A sentence that says what the prompt shortened or left out; "" if nothing.
    """

    context: Tensor
    text: Tensor
    caption: str
    note: str = ""


class LanguageModel:
    """A causal language model with its tokenizer and, where it can see, the projection of vision features.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer, with a chat template.
        visual_projection: Projects vision features [K, D_v] to embeddings [K, H]; None for a model that cannot see.
            With one, a tokenizer that does not know config.picture_token is copied and given it; the model's table
            of embeddings stays as it is.
        config: The pack's settings of the model.

    Attributes:
        prefixes: What it remembers of the beginnings of long prompts, so as not to read them again. A
            `prefixes.limit` of 0 switches that off; what is written, and the states of slots, are the same to the bit.
            Models whose layers keep more than keys and values (sliding windows, recurrent layers) read every prompt
            as a whole, and so do those that see pictures natively.
        sees_own: Whether a model that sees natively is shown the assistant's painted pictures too when it replies. Its
            words then depend on them; what it knows of a picture yet to be painted never does.

    Raises:
        ValueError: The tokenizer has no chat template, or cannot be given the token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        visual_projection: VisualProjection | None = None,
        config: LanguageModelConfig | None = None,
    ) -> None:
        self.config = config or LanguageModelConfig()
        if visual_projection is not None:
            tokenizer = knowing(tokenizer, self.config.picture_token)
        self.model = model
        self.tokenizer = tokenizer
        self.sees_own = False
        self.visual_projection = visual_projection
        self.prompts = self._prompt_writer()
        self.prefixes = PrefixCache(usual_limit(self._weight_bytes()))
        self._reader = self._block_reader()
        self._picture_id = cast(int, tokenizer.convert_tokens_to_ids(self.config.picture_token))
        special = special_tokens(tokenizer)
        self._ends = end_tokens(model, tokenizer, special, self.prompts.template.ending())
        # A reply may contain words, markup, marks of thoughts and its end, but not the mark of another turn.
        markup = (self.config.open_tag, self.config.close_tag)
        words = model.config.get_text_config().vocab_size  # some tokenizers have more tokens than their models
        free = (number for number, token in special.items() if token in markup or is_mark(token))
        self._barred = frozenset(number for number in special if number < words) - self._ends - frozenset(free)

    def _prompt_writer(self) -> PromptWriter:
        return PromptWriter(self.tokenizer, self.config)

    def _block_reader(self) -> BlockReader | None:
        return TransformersReader(self.prefixes, self.model)

    def _weight_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters())

    def forget(self) -> None:
        """Free the memory of what is remembered of prompts, as when the weights leave their device."""
        self.prefixes.clear()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: Dtype | None = None,
        quantization: Quantization | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Open a model that does not see pictures itself; `auto.load_language_model` opens every kind.

        The arguments are those of `load_language_model`.

        Raises:
            FileNotFoundError: There is no model at `path`.
            ValueError: The files are not those of a usable language model of this class.
            OSError: A file cannot be read.
        """
        return cls.from_files(examine(path), dtype=dtype, quantization=quantization, device=device)

    @classmethod
    def check_kind(cls, files: ModelFiles) -> None:
        """Raise ValueError unless the files are those of a model of this class."""
        if files.sees:
            raise ValueError(
                f"{files.path.name} holds a vision-language model: open it with VisionLanguageModel.from_pretrained, "
                "or with load_language_model, which opens every kind."
            )

    @classmethod
    def from_files(
        cls,
        files: ModelFiles,
        *,
        dtype: Dtype | None = None,
        quantization: Quantization | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Open files that `loading.examine` has looked over; raise as `from_pretrained` does."""
        cls.check_kind(files)
        return cls._from_opened(open_model(files, dtype=dtype, quantization=quantization, device=device))

    @classmethod
    def _from_opened(cls, opened: OpenedModel) -> Self:
        return cls(opened.model, opened.tokenizer, opened.visual_projection, opened.settings)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write everything that `from_pretrained` reads, the weights in their present dtype."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        self.config.write(directory)
        if self.visual_projection is not None:
            self.visual_projection.save_pretrained(directory)
        else:  # the file of an earlier model would make this one see
            (directory / PROJECTION_NAME).unlink(missing_ok=True)

    def without_instructions(self) -> LanguageModel:
        """Return the same model without instructions for illustrated stories, to ask it something else."""
        other = copy.copy(self)
        other.prompts = self.prompts.without_instructions()
        return other

    @property
    def sees(self) -> Literal["natively", "projection", "not at all"]:
        """How the model sees users' pictures: itself, by features of a vision encoder, or not at all."""
        return "not at all" if self.visual_projection is None else "projection"

    def check_sees(self, conversation: Conversation) -> None:
        """Raise ConversationError if users show pictures to a model that cannot see."""
        if self.sees == "not at all" and conversation.user_pictures():
            raise ConversationError(
                "The user shows pictures, but the language model cannot see: "
                "use a vision-language model, or leave the pictures out."
            )

    @property
    def movable(self) -> bool:
        """Whether the weights can be moved to another device; quantised ones stay where they were loaded."""
        return not getattr(self.model, "is_quantized", False)

    @property
    def hidden_size(self) -> int:
        """Width H of the hidden states and of the image tokens."""
        return embedding(self.model).weight.shape[1]

    @property
    def context_length(self) -> int:
        """The most tokens of a prompt and its reply together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 2048)

    # Writing

    def reply(
        self,
        conversation: Conversation,
        *,
        visual: Sequence[Tensor] = (),
        sampling: Sampling | None = None,
        seed: int = 0,
        should_stop: Callable[[], bool] | None = None,
    ) -> StreamedReply:
        """Stream the assistant's next turn while the model writes it, including markup and thoughts.

        The reply goes on until its end or sampling.max_length tokens; thoughts have sampling.max_thinking tokens of
        their own. The chunks, joined, are the reply, and no chunk splits a character. If the chat template has begun a
        thought, they begin with its mark; `thoughts.ThoughtSplitter` separates thoughts from the reply.

        The prompt leaves out what does not fit the context, as `context` says; the reply's `note` tells. The same seed
        gives the same reply, and torch's own random state is not touched.

        Args:
            conversation: A conversation that ends with a user's turn.
            visual: Features [K, D_v] of each picture of users in the conversation, in order; () leaves them unseen.
            sampling: Settings of the choice of tokens; None is the default.
            seed: The seed, 0..2**64-1.
            should_stop: Called before every token.

        Raises:
            Interrupted: `should_stop` returned true.
            ConversationError: The conversation does not end with a user's turn.
            PromptError: The message is too long for the context.
            ThoughtError: A thought did not end, and nothing was said before it.
            ValueError: The number or shape of `visual` is not what the conversation needs.
        """
        conversation.check_ready_for_reply()
        course = Course()
        chunks = self._reply(conversation, list(visual), sampling or Sampling(), seed, should_stop, course)
        return StreamedReply(chunks, course)

    def _reply(
        self,
        conversation: Conversation,
        visual: list[Tensor],
        sampling: Sampling,
        seed: int,
        should_stop: Callable[[], bool] | None,
        course: Course,
    ) -> Generator[str, None, None]:
        generator = torch.Generator("cpu").manual_seed(seed)
        prompts = self.prompts.with_thinking() if sampling.thinking else self.prompts
        length = min(sampling.max_length, self.context_length // 2)
        read = with_seen(self._with_sheet(conversation), pictures=self.sees_own and self.sees == "natively")
        prompt = prompts.for_reply(read, self._reply_limit(sampling, prompts))
        course.note = prompt.note
        room = max(self.context_length - len(prompt.ids) - length, 0)
        tokens = ReplyTokens(prompts.opening, length, min(sampling.max_thinking, room))
        if tokens.splitter.begun:
            yield tokens.splitter.begun
        words = Detokenizer(self._decoded)
        barred = torch.tensor(sorted(self._barred), dtype=torch.long)
        state: Any = None
        token = -1
        while not tokens.full and not tokens.splitter.over:
            if should_stop is not None and should_stop():
                raise Interrupted("The reply was interrupted.")
            logits, state = self._start(prompt, visual) if state is None else self._step(token, state)
            repeated = tokens.repeated(in_captions=bool(self.config.instructions))
            barred = barred.to(logits.device)
            token = choose(logits, sampling, generator, said=repeated, barred=barred)
            if token in self._ends and not tokens.splitter.goes_on(self._decoded([token])):
                course.ended = True
                break
            if chunk := words.add(token):
                yield chunk
            tokens.add(token, chunk)
        if rest := words.close():
            yield rest
        if tokens.splitter.thinking and not tokens.splitter.told:
            raise ThoughtError(unfinished_thought(tokens, sampling, prompts.template))

    def _reply_limit(self, sampling: Sampling, prompts: PromptWriter) -> int:
        """Return the most tokens of a prompt that leaves room for a reply and for thoughts before it."""
        length = min(sampling.max_length, self.context_length // 2)
        spare = min(sampling.max_thinking, self.context_length // 4) if prompts.thinks else 0
        return self.context_length - length - spare

    def _decoded(self, ids: Sequence[int]) -> str:
        return cast(
            str, self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    # no_grad is entered in these two only: around a yield, it would switch off the caller's gradients too.
    @torch.no_grad()
    def _start(self, prompt: Prompt, visual: list[Tensor]) -> tuple[Tensor, Any]:
        embeds, mask = self._embedded([prompt], [visual])
        state, read = self._read_blocks(prompt, visual, embeds)
        if state is None and self._reader is not None:
            state = self._reader.start()
        cache = {} if state is None else with_cache(self.model, state)
        out = self.model(inputs_embeds=embeds[:, read:], attention_mask=mask, use_cache=True, logits_to_keep=1, **cache)
        return out.logits[0, -1], cache_of(out)

    def _read_blocks(self, prompt: Prompt, visual: list[Tensor], embeds: Tensor) -> tuple[Any, int]:
        """Return the state after the blocks of a prompt with these embeddings [1, L, H], and how long they are."""

        def seen(start: int, end: int) -> bytes:
            if not visual or self.visual_projection is None:
                return b""
            places = [place for place in range(start, end) if prompt.ids[place] == self._picture_id]
            return embeds[0, places].float().cpu().numpy().tobytes()

        state = None if self._reader is None else self._reader.read(prompt, embeds, seen)
        return state, 0 if state is None else prompt.ends[-1]

    @torch.no_grad()
    def _step(self, token: int, state: Any) -> tuple[Tensor, Any]:
        ids = torch.tensor([[token]], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, **with_cache(self.model, state))
        return out.logits[0, -1], cache_of(out)

    # Reading

    def encode_slot(
        self, conversation: Conversation, slot: Slot, image_tokens: Tensor, *, visual: Sequence[Tensor] = ()
    ) -> SlotStates:
        """Return the hidden states for one picture of the assistant; see encode_slots."""
        return self.encode_slots([(conversation, slot, visual)], image_tokens)[0]

    def encode_slots(
        self, requests: Sequence[tuple[Conversation, Slot, Sequence[Tensor]]], image_tokens: Tensor
    ) -> list[SlotStates]:
        """Compute the hidden states for several pictures in one forward pass.

        Each sequence is a conversation up to the caption of its slot, followed by the image tokens. Padding does not
        influence the states. A long one that is alone and needs no gradients is read in blocks, which are remembered
        and change the last digits of its states. Gradients flow to `image_tokens`, to the visual projection and,
        unless they are frozen, to the model's own weights; callers that need none use torch.no_grad().

        Args:
            requests: Each a conversation, the slot of an assistant's picture in it, and the features [K, D_v] of the
                users' pictures before the slot, in order, or () to leave them unseen.
            image_tokens: Embeddings [K, H].

        Raises:
            ValueError: There is no such slot, the features do not fit the conversation, or the image tokens do not fit
                the model.
        """
        self._check_width(image_tokens)
        if not requests:
            return []
        prompts = [self._slot_prompt(conversation, slot, len(image_tokens)) for conversation, slot, _ in requests]
        shown = [list(visual) for _, _, visual in requests]
        embeds, mask = self._embedded(prompts, shown, image_tokens)
        state, read, base = None, 0, self.model.base_model
        if len(requests) == 1 and not torch.is_grad_enabled():
            state, read = self._read_blocks(prompts[0], shown[0], embeds)
        cache = {"use_cache": False} if state is None else {"use_cache": True, **with_cache(base, state)}
        out = base(inputs_embeds=embeds[:, read:], attention_mask=mask, output_hidden_states=True, **cache)
        states = out.hidden_states[self.config.feature_layer]
        return [
            self._states(row, prompt, len(image_tokens), conversation, slot, read)
            for row, prompt, (conversation, slot, _) in zip(states, prompts, requests, strict=True)
        ]

    def _slot_prompt(self, conversation: Conversation, slot: Slot, image_tokens: int) -> Prompt:
        """Return the prompt of a slot, which begins as that of its reply did if its length was the usual one."""
        reply_limit = self._reply_limit(Sampling(), self.prompts)
        conversation = self._with_sheet(conversation)
        return self.prompts.for_slot(conversation, slot, self.context_length - image_tokens, reply_limit=reply_limit)

    def _with_sheet(self, conversation: Conversation) -> Conversation:
        """Return the conversation with its character sheet for a model that follows instructions."""
        return with_sheet(conversation) if self.prompts.instructions else conversation

    def _check_width(self, image_tokens: Tensor) -> None:
        if image_tokens.shape[1] != self.hidden_size:
            raise ValueError(
                f"The M3-Adapter is for language models of width {image_tokens.shape[1]}, but this one has width "
                f"{self.hidden_size}: load an adapter that was trained for it."
            )

    @staticmethod
    def _states(
        states: Tensor, prompt: Prompt, image_tokens: int, conversation: Conversation, slot: Slot, read: int = 0
    ) -> SlotStates:
        """Select from the hidden states [L, H] of a prompt and its image tokens those that the adapter reads.

        The first `read` tokens have no states.
        """
        end = len(prompt.ids)
        context = [place - read for place in (*prompt.caption, *range(end, end + image_tokens))]
        text = [place - read for place in (*prompt.answer, *prompt.caption)]
        caption = conversation.at(slot).caption  # type: ignore[union-attr]
        return SlotStates(states[context], states[text], caption, prompt.note)

    def _embedded(
        self, prompts: Sequence[Prompt], visual: Sequence[list[Tensor]], image_tokens: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return right-padded embeddings [B, L, H] and their mask [B, L]; image tokens, if any, follow each prompt."""
        seen = [
            projected(self.visual_projection, prompt, features, self.config.picture_length)
            for prompt, features in zip(prompts, visual, strict=True)
        ]
        return embedded(embedding(self.model), prompts, seen, self._picture_id, image_tokens)
