"""A vision-language model: it sees the users' pictures itself, as its own processor shows them to it.

The pictures of the assistant stay captions for it as for any other language model. What they look like reaches a new
picture through the adapter's low-level path, whose gate decides about it; and a model that is shown pictures in its own
turns learns to answer with its mark of a picture rather than with a caption.
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
from .loading import open_model
from .prompts import Prompt, PromptWriter

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin
    from typing_extensions import Self

    from .loading import Dtype, ModelFiles
    from .quantization import Quantization

SLIMMEST = 100  # of a picture's longer side to its shorter one; Qwen's limit is 200
SMALLEST = 4  # of a side: three pixels or one can be taken for the colours


class PicturePromptWriter(PromptWriter):
    """Writes prompts with a processor, which knows how many tokens a picture takes and what goes with them."""

    def __init__(self, processor: ProcessorMixin, config: LanguageModelConfig) -> None:
        self.processor = processor
        super().__init__(processor.tokenizer, config)

    def _template(self) -> ChatTemplate:
        own = getattr(self.processor, "chat_template", None)
        return ChatTemplate(self.processor if own else self.processor.tokenizer, shows_pictures=True)

    def _begun(self, turns: Sequence[Turn]) -> tuple[list[int], dict[str, Tensor]]:
        text = self._rendered(turns)
        shown = [
            _presentable(segment.image)
            for turn in turns
            if turn.role == "user"
            for segment in turn.segments
            if isinstance(segment, Picture)
        ]
        begins = self.tokenizer.bos_token
        given = self.processor(
            text=[text],
            images=[shown] if shown else None,
            return_tensors="pt",
            # Some templates write it themselves.
            add_special_tokens=not (begins and text.startswith(begins)),
        )
        inputs = dict(given)
        return inputs.pop("input_ids")[0].tolist(), inputs


def _presentable(image: Tensor) -> Image.Image:
    """The picture [H, W, 3] on a white ground where it is so slim or small that processors refuse it."""
    from PIL import ImageOps

    picture = to_pil(image)
    least = max(-(-max(picture.size) // SLIMMEST), SMALLEST)
    size = (max(picture.width, least), max(picture.height, least))
    return ImageOps.pad(picture, size, color="white") if size != picture.size else picture


class VisionLanguageModel(LanguageModel):
    """A language model that sees.

    Args:
        model: An image-text-to-text model of transformers.
        processor: Its processor, with a chat template.
        config: See LanguageModelConfig.

    Raises:
        ValueError: there is no chat template.
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
    def from_files(
        cls,
        files: ModelFiles,
        *,
        dtype: Dtype | None = None,
        quantization: Quantization | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Open files that were looked over before; raise as `from_pretrained` does."""
        cls.check_kind(files)
        opened = open_model(files, dtype=dtype, quantization=quantization, device=device)
        assert opened.processor is not None
        return cls(opened.model, opened.processor, opened.settings)

    def _prompts(self) -> PromptWriter:
        return PicturePromptWriter(self.processor, self.config)

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes everything from_pretrained reads; the weights in their present dtype."""
        super().save_pretrained(directory)
        self.processor.save_pretrained(directory)

    @property
    def sees(self) -> Literal["natively", "projection", "not at all"]:
        """It does so itself."""
        return "natively"

    @torch.no_grad()
    def _start(self, prompt: Prompt, visual: list[Tensor]) -> tuple[Tensor, Any]:
        # Qwen's models remember by how much the last conversation's pictures shifted the positions.
        if hasattr(self.model.base_model, "rope_deltas"):
            self.model.base_model.rope_deltas = None
        out = self.model(**self._inputs(prompt), use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], cache_of(out)

    @torch.no_grad()
    def _step(self, token: int, state: Any) -> tuple[Tensor, Any]:
        place = torch.tensor([state.get_seq_length()], device=self.model.device)
        # Without it, Qwen's models in transformers 4 begin anew at position 0; transformers 5 sees it for itself.
        told = {"cache_position": place} if "cache_position" in signature(self.model.forward).parameters else {}
        ids = torch.tensor([[token]], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, **with_cache(self.model, state), **told)
        return out.logits[0, -1], cache_of(out)

    def encode_slots(
        self, requests: Sequence[tuple[Conversation, Slot, Sequence[Tensor]]], image_tokens: Tensor
    ) -> list[SlotStates]:
        """As LanguageModel.encode_slots, one conversation at a time; no features are needed to see the pictures."""
        self._check_width(image_tokens)
        return [self._encoded(conversation, slot, image_tokens) for conversation, slot, _ in requests]

    def _encoded(self, conversation: Conversation, slot: Slot, image_tokens: Tensor) -> SlotStates:
        count = len(image_tokens)
        prompt = self.prompts.for_slot(conversation, slot, self.context_length - count)
        with self._embedding_last(image_tokens):
            out = self.model.base_model(**self._inputs(prompt, count), output_hidden_states=True, use_cache=False)
        return self._states(out.hidden_states[self.config.feature_layer][0], prompt, count, conversation, slot)

    def _inputs(self, prompt: Prompt, image_tokens: int = 0) -> dict[str, Tensor]:
        """What the model takes: the processor's work, and behind it the rest of the prompt and so many placeholders.

        The processor saw the ids only up to where the assistant's turn begins. What it says of each of them is
        continued: there is something (the attention mask), and it is text (all others).
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
        """While it lasts, the last ids of an input are embedded as `image_tokens` [K, H].

        To give embeddings instead of ids would be simpler, but then the models do not know where their pictures are.
        """
        count = len(image_tokens)

        def replace(_module: Any, _given: Any, embeds: Tensor) -> Tensor:
            return torch.cat([embeds[:, : embeds.shape[1] - count], image_tokens.to(embeds)[None]], 1)

        hook = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()
