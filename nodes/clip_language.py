"""ComfyUI's own text encoders as language models, for those that can generate text."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import torch
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, Slot
from ..m3adapter.language.config import LanguageModelConfig
from ..m3adapter.language.language_model import LanguageModel, SlotStates
from ..m3adapter.language.prompts import Prompt
from . import wires
from .clip_reading import StockReader
from .clip_tokenizer import StockTokenizer
from .errors import names_node
from .memory import Handle


class ClipLanguageModel(LanguageModel):
    """The language model inside a stock CLIP, run token by token as the engine's own `generate` does.

    What it reads is remembered as by any other; on an accelerator twice, for it writes in bfloat16 and reads slots in
    float32.

    Args:
        clip: A stock CLIP.

    Raises:
        ValueError: None of its text encoders can generate text, or its chat format is unknown.
    """

    _reader: StockReader

    def __init__(self, clip: comfy.sd.CLIP) -> None:
        name, encoder = _writer(clip)
        self.transformer = encoder.transformer
        self.device = clip.patcher.load_device
        text_config = self.transformer.model.config
        face = SimpleNamespace(  # the parts of transformers' interface that LanguageModel uses
            config=SimpleNamespace(get_text_config=lambda: text_config),
            generation_config=SimpleNamespace(eos_token_id=list(getattr(text_config, "stop_tokens", ()))),
            get_input_embeddings=self.transformer.get_input_embeddings,
        )
        # Since the third version, Qwen's models think aloud.
        words = StockTokenizer(getattr(clip.tokenizer, name, clip.tokenizer), thinks=name.startswith("qwen3"))
        config = LanguageModelConfig.untrained()
        super().__init__(face, words, config=config)  # type: ignore[arg-type]  # both have what it uses

    def _block_reader(self) -> StockReader:
        return StockReader(self.prefixes, self.transformer, self.device)

    def _weight_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.transformer.parameters())

    @torch.no_grad()
    def _start(self, prompt: Prompt, visual: list[Tensor]) -> tuple[Tensor, Any]:
        embeds = self._embeds(prompt.ids).to(self._dtype())
        state, read = self._read_blocks(prompt, [], embeds)
        if state is None:
            state = self._reader.cache(len(prompt.ids), embeds.dtype)
        return self._next(prompt.ids[read:], embeds[:, read:], state)

    @torch.no_grad()
    def _step(self, token: int, state: Any) -> tuple[Tensor, Any]:
        return self._next([token], self._embeds([token]).to(self._dtype()), state)

    def _next(self, ids: list[int], embeds: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits [V] of what follows these ids with their embeddings [1, L, H], and the new state."""
        out, _, state = self._reader.forward(embeds, state, **self._reader.beside(ids))
        return self.transformer.logits(out)[0, -1], state

    def encode_slots(
        self, requests: Sequence[tuple[Conversation, Slot, Sequence[Tensor]]], image_tokens: Tensor
    ) -> list[SlotStates]:
        """Encode slots as `LanguageModel.encode_slots` does, one conversation at a time."""
        self._check_width(image_tokens)
        return [self._encoded(conversation, slot, image_tokens) for conversation, slot, _ in requests]

    def _encoded(self, conversation: Conversation, slot: Slot, image_tokens: Tensor) -> SlotStates:
        count = len(image_tokens)
        prompt = self._slot_prompt(conversation, slot, count)
        embeds = self._embeds(prompt.ids)
        embeds = torch.cat([embeds, image_tokens.to(embeds)[None]], 1)
        state, read = (None, 0) if torch.is_grad_enabled() else self._read_blocks(prompt, [], embeds)
        # What is no word has the id 0 in the engine.
        ids = [*prompt.ids[read:], *[0] * count]
        states = self._reader.forward(
            embeds[:, read:],
            state,
            intermediate_output=self.config.feature_layer,  # counted from the end, both count alike
            final_layer_norm_intermediate=False,
            **self._reader.beside(ids),
        )[1]
        return self._states(states[0], prompt, count, conversation, slot, read)

    def _embeds(self, ids: Sequence[int]) -> Tensor:
        """Return the embeddings [1, L, H] of ids."""
        table = self.transformer.get_input_embeddings()
        return table(torch.tensor([list(ids)], device=self.device), out_dtype=torch.float32)

    def _dtype(self) -> torch.dtype:
        """Return the data type used while it writes; features are always float32. Both are the engine's own choice."""
        return torch.bfloat16 if comfy.model_management.should_use_bf16(self.device) else torch.float32


def _writer(clip: comfy.sd.CLIP) -> tuple[str, comfy.sd1_clip.SDClipModel]:
    """Return the text encoder of a CLIP that can generate text, and its name in both model and tokenizer."""
    for name, module in clip.cond_stage_model.named_modules():
        if isinstance(module, comfy.sd1_clip.SDClipModel) and hasattr(module.transformer, "init_kv_cache"):
            return name, module
    raise ValueError(
        "This CLIP reads prompts and cannot write: load one whose text encoder is a language model, "
        "such as the Qwen of Z-Image or the Gemma of LTX."
    )


class LanguageModelFromClip(io.ComfyNode):
    """Uses a CLIP as the language model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LanguageModelFromClip",
            display_name="Language Model from CLIP",
            category="M2Chat/stock",
            description="Uses a stock text encoder that is a language model (Qwen, Gemma) as M2Chat's language model.",
            search_aliases=["text encoder", "clip loader", "qwen", "gemma", "LLM", "generate text"],
            inputs=[io.Clip.Input("clip", tooltip="From Load CLIP: a text encoder that can also generate text.")],
            outputs=[
                wires.LanguageModel.Output(
                    display_name="language_model", tooltip="Writes the replies. It does not see pictures."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, clip: comfy.sd.CLIP) -> io.NodeOutput:
        """Wrap it; its own patcher keeps managing the weights."""
        return io.NodeOutput(Handle(ClipLanguageModel(clip), clip.patcher, streams=True))


NODES = [LanguageModelFromClip]
