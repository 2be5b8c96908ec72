"""A vision-language model, which sees users' pictures itself, by its own processor.

The assistant's own pictures remain captions for it, as for any other language model. What they look like reaches a new
picture through the adapter's low-level path, under the control of its gate; and a model that is shown pictures in its
own turns would learn to answer with its token of a picture instead of a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..compat import cache_of, with_cache
from ..conversation.conversation import Conversation, Slot
from ..conversation.pictures import to_pil
from ..conversation.segments import Picture, Turn
from .chat_template import ChatTemplate
from .config import LanguageModelConfig
from .language_model import LanguageModel, SlotStates
from .prompts import Prompt, PromptWriter
from .reading import BlockReader

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin
    from typing_extensions import Self

    from .loading import ModelFiles, OpenedModel

MAX_ASPECT = 100  # of a picture's longer side to its shorter one; Qwen's limit is 200
MIN_SIDE = 4  # pixels: a side of one or three can be mistaken for the channels


class PicturePromptWriter(PromptWriter):
    """Writes prompts with a processor, which knows the tokens of a picture and the inputs that belong to them."""

    def __init__(self, processor: ProcessorMixin, config: LanguageModelConfig) -> None:
        self.processor = processor
        super().__init__(processor.tokenizer, config)

    def _chat_template(self) -> ChatTemplate:
        own = getattr(self.processor, "chat_template", None)
        return ChatTemplate(self.processor if own else self.processor.tokenizer, shows_pictures=True)

    def _begun(self, turns: Sequence[Turn]) -> tuple[list[int], dict[str, Tensor]]:
        text = self._rendered(turns)
        images = [
            presentable(segment.pixels)
            for turn in turns
            if turn.role == "user"
            for segment in turn.segments
            if isinstance(segment, Picture)
        ]
        bos = self.tokenizer.bos_token
        encoded = self.processor(
            text=[text],
            images=[images] if images else None,
            return_tensors="pt",
            # Some templates write the beginning-of-sequence token themselves.
            add_special_tokens=not (bos and text.startswith(bos)),
        )
        inputs = dict(encoded)
        return inputs.pop("input_ids")[0].tolist(), inputs


def presentable(image: Tensor) -> Image.Image:
    """Convert a picture [H, W, 3], padded with white if it is so narrow or small that processors refuse it."""
    from PIL import ImageOps

    picture = to_pil(image)
    least = max(-(-max(picture.size) // MAX_ASPECT), MIN_SIDE)
    size = (max(picture.width, least), max(picture.height, least))
    return ImageOps.pad(picture, size, color="white") if size != picture.size else picture


class VisionLanguageModel(LanguageModel):
    """A language model that sees users' pictures itself.

    Args:
        model: An image-text-to-text model of transformers.
        processor: Its processor, with a chat template.
        config: The pack's settings of the model.

    Raises:
        ValueError: There is no chat template.
    """

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, config: LanguageModelConfig | None = None
    ) -> None:
        self.processor = processor
        super().__init__(model, processor.tokenizer, config=config)

    @classmethod
    def check_kind(cls, files: ModelFiles) -> None:
        """Raise ValueError unless the files are those of a vision-language model."""
        if not files.sees:
            raise ValueError(
                f"{files.path.name} holds a language model that does not see: open it with "
                "LanguageModel.from_pretrained, or with load_language_model, which opens every kind."
            )

    @classmethod
    def _from_opened(cls, opened: OpenedModel) -> Self:
        assert opened.processor is not None
        return cls(opened.model, opened.processor, opened.settings)

    def _prompt_writer(self) -> PromptWriter:
        return PicturePromptWriter(self.processor, self.config)

    def _block_reader(self) -> BlockReader | None:
        return None  # the positions of what it sees are not those of the tokens

    def save_pretrained(self, directory: str | Path) -> None:
        """Write everything that `from_pretrained` reads, the weights in their present dtype."""
        super().save_pretrained(directory)
        self.processor.save_pretrained(directory)

    @property
    def sees(self) -> Literal["natively", "projection", "not at all"]:
        """How the model sees users' pictures: itself."""
        return "natively"

    @torch.no_grad()
    def _start(self, prompt: Prompt, visual: list[Tensor]) -> tuple[Tensor, Any]:
        # Qwen's models remember the shift of positions by the last conversation's pictures.
        if hasattr(self.model.base_model, "rope_deltas"):
            self.model.base_model.rope_deltas = None  # type: ignore[assignment] # an attribute of Qwen's
        out = self.model(**self._inputs(prompt), use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], cache_of(out)

    @torch.no_grad()
    def _step(self, token: int, state: Any) -> tuple[Tensor, Any]:
        place = torch.tensor([state.get_seq_length()], device=self.model.device)
        # Without it, Qwen's models in transformers 4 start over at position 0; transformers 5 finds it by itself.
        position = {"cache_position": place} if "cache_position" in signature(self.model.forward).parameters else {}
        ids = torch.tensor([[token]], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, **with_cache(self.model, state), **position)
        return out.logits[0, -1], cache_of(out)

    def encode_slots(
        self, requests: Sequence[tuple[Conversation, Slot, Sequence[Tensor]]], image_tokens: Tensor
    ) -> list[SlotStates]:
        """Compute hidden states as LanguageModel.encode_slots does, one conversation at a time, without features."""
        self._check_width(image_tokens)
        return [self._encoded(conversation, slot, image_tokens) for conversation, slot, _ in requests]

    def _encoded(self, conversation: Conversation, slot: Slot, image_tokens: Tensor) -> SlotStates:
        count = len(image_tokens)
        prompt = self._slot_prompt(conversation, slot, count)
        with self._embedding_last(image_tokens):
            out = self.model.base_model(**self._inputs(prompt, count), output_hidden_states=True, use_cache=False)
        return self._states(out.hidden_states[self.config.feature_layer][0], prompt, count, conversation, slot)

    def _inputs(self, prompt: Prompt, image_tokens: int = 0) -> dict[str, Tensor]:
        """Return the model's inputs: the processor's, the rest of the prompt, and placeholders for image tokens.

        The processor has seen the ids only up to the beginning of the assistant's turn. Its inputs with a value for
        each id are extended by values that mean text (1 in the attention mask, else 0).
        """
        ids = [*prompt.ids, *[self.tokenizer.eos_token_id] * image_tokens]
        begun = prompt.inputs["attention_mask"].shape[1]
        inputs = {"input_ids": torch.tensor([ids])}
        for name, value in prompt.inputs.items():
            if value.shape == (1, begun):
                more = value.new_full((1, len(ids) - begun), int(name == "attention_mask"))
                value = torch.cat([value, more], 1)
            inputs[name] = value.to(self.model.dtype) if value.is_floating_point() else value
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    @contextmanager
    def _embedding_last(self, image_tokens: Tensor) -> Iterator[None]:
        """Embed the last ids of every input as `image_tokens` [K, H] within this context.

        Passing embeddings instead of ids would be simpler, but the models find their pictures by the ids.
        """
        count = len(image_tokens)

        def replace(_module: Any, _inputs: Any, embeds: Tensor) -> Tensor:
            return torch.cat([embeds[:, : embeds.shape[1] - count], image_tokens.to(embeds)[None]], 1)

        hook = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()
