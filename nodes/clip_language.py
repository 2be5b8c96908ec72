"""ComfyUI's own text encoders as language models, for those that can generate text."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import torch
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, Slot
from ..m3adapter.language.config import LanguageModelConfig
from ..m3adapter.language.language_model import LanguageModel, SlotStates
from ..m3adapter.language.prompts import Prompt, PromptWriter
from . import inputs, wires
from .clip_reading import StockReader
from .clip_sight import SeeingPromptWriter, StockSight
from .clip_tokenizer import StockTokenizer
from .errors import names_node
from .memory import Handle


class ClipLanguageModel(LanguageModel):
    """The language model inside a stock CLIP, run token by token as the engine's own `generate` does.

    It sees users' pictures if the engine's tokenizer takes them and the file had the weights for it. What it reads is
    remembered as by any other, but for prompts with pictures, which are read as a whole; on an accelerator twice, for
    it writes in bfloat16 and reads slots in float32.

    Args:
        clip: A stock CLIP.

    Raises:
        ValueError: None of its text encoders can generate text, or its chat format is unknown.
    """

    _reader: StockReader
    tokenizer: StockTokenizer  # type: ignore[assignment]

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
        sight = StockSight(clip, encoder, self.device)
        self._sight = sight if words.picture_id is not None and sight.usable else None
        super().__init__(face, words, config=config)  # type: ignore[arg-type]  # both have what it uses

    def _prompt_writer(self) -> PromptWriter:
        if self._sight is None:
            return super()._prompt_writer()
        return SeeingPromptWriter(self.tokenizer, self.config, self._sight)  # type: ignore[arg-type]

    @property
    def sees(self) -> Literal["natively", "projection", "not at all"]:
        """How the model sees users' pictures: itself, or not at all."""
        return "not at all" if self._sight is None else "natively"

    def forget(self) -> None:
        """Free the memory of what is remembered of prompts and pictures."""
        super().forget()
        if self._sight is not None:
            self._sight.forget()

    def _block_reader(self) -> StockReader:
        return StockReader(self.prefixes, self.transformer, self.device)

    def _weight_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.transformer.parameters())

    @torch.no_grad()
    def _start(self, prompt: Prompt, visual: list[Tensor]) -> tuple[Tensor, Any]:
        embeds, shown = self._embedded_prompt(prompt)
        embeds = embeds.to(self._dtype())
        state, read = self._read_blocks(prompt, [], embeds) if not shown else (None, 0)
        if state is None:
            state = self._reader.cache(len(prompt.ids), embeds.dtype)
        position = int(shown["position_ids"].max()) + 1 if shown.get("position_ids") is not None else None
        return self._next(self._words(prompt)[read:], embeds[:, read:], (state, position), **shown)

    @torch.no_grad()
    def _step(self, token: int, state: Any) -> tuple[Tensor, Any]:
        cache, position = state
        if position is None:
            return self._next([token], self._embeds([token]).to(self._dtype()), state)
        # What was seen takes fewer positions than places, so the words behind it are no longer counted by the cache.
        place = torch.tensor([[position]], device=self.device)
        embeds = self._embeds([token]).to(self._dtype())
        return self._next([token], embeds, (cache, position + 1), position_ids=place)

    def _next(self, ids: list[int], embeds: Tensor, state: Any, **shown: Any) -> tuple[Tensor, Any]:
        """Return the logits [V] of what follows these ids with their embeddings [1, L, H], and the new state.

        A state is the engine's cache and the position of the next token, None where the cache counts it.
        """
        cache, position = state
        out, _, cache = self._reader.forward(embeds, cache, **self._reader.beside(ids), **shown)
        return self.transformer.logits(out)[0, -1], (cache, position)

    def encode_slots(
        self, requests: Sequence[tuple[Conversation, Slot, Sequence[Tensor]]], image_tokens: Tensor
    ) -> list[SlotStates]:
        """Encode slots as `LanguageModel.encode_slots` does, one conversation at a time."""
        self._check_width(image_tokens)
        return [self._encoded(conversation, slot, image_tokens) for conversation, slot, _ in requests]

    def _encoded(self, conversation: Conversation, slot: Slot, image_tokens: Tensor) -> SlotStates:
        count = len(image_tokens)
        prompt = self._slot_prompt(conversation, slot, count)
        embeds, shown = self._embedded_prompt(prompt, image_tokens)
        whole = bool(shown) or torch.is_grad_enabled()
        state, read = (None, 0) if whole else self._read_blocks(prompt, [], embeds)
        ids = [*self._words(prompt)[read:], *[0] * count]
        states = self._reader.forward(
            embeds[:, read:],
            state,
            intermediate_output=self.config.feature_layer,  # counted from the end, both count alike
            final_layer_norm_intermediate=False,
            **self._reader.beside(ids),
            **shown,
        )[1]
        return self._states(states[0], prompt, count, conversation, slot, read)

    def _embedded_prompt(self, prompt: Prompt, image_tokens: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Return a prompt's embeddings [1, L, H], image tokens behind it, and what belongs to the pictures in it."""
        embeds = self._embeds(self._words(prompt))
        sights, starts = self.prompts.sights(prompt) if isinstance(self.prompts, SeeingPromptWriter) else ([], [])
        for sight, start in zip(sights, starts, strict=True):
            embeds[:, start : start + sight.embeds.shape[1]] = sight.embeds
        if image_tokens is not None:
            embeds = torch.cat([embeds, image_tokens.to(embeds)[None]], 1)
        return embeds, self.prompts.sight.beside(sights, starts, embeds) if sights else {}  # type: ignore[attr-defined]

    def _words(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt; what is no word has the id 0 in the engine."""
        picture = self.tokenizer.picture_id
        return [0 if number == picture else number for number in prompt.ids]

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
            description="Uses a stock text encoder that is a language model (Qwen, Gemma) as M2Chat's language model. "
            "Those that see pictures see the user's.",
            search_aliases=["text encoder", "clip loader", "qwen", "gemma", "LLM", "VLM", "generate text"],
            inputs=[
                io.Clip.Input("clip", tooltip="From Load CLIP: a text encoder that can also generate text."),
                inputs.own_pictures(),
            ],
            outputs=[
                wires.LanguageModel.Output(
                    display_name="language_model",
                    tooltip="Writes the replies. It sees pictures if it is a vision-language model.",
                )
            ],
        )

    @classmethod
    @names_node
    def execute(cls, clip: comfy.sd.CLIP, own_pictures: bool = False) -> io.NodeOutput:
        """Wrap it; its own patcher keeps managing the weights."""
        model = ClipLanguageModel(clip)
        inputs.check_own_pictures(model, own_pictures)
        model.sees_own = own_pictures
        return io.NodeOutput(Handle(model, clip.patcher, streams=True))


NODES = [LanguageModelFromClip]
