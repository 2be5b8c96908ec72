"""Reads prompts block by block with the engine's own text models, and remembers the blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.text_encoders.llama as llama
import torch
from torch import Tensor

from ..m3adapter.language.prefix_cache import Part, PrefixCache
from ..m3adapter.language.reading import ROOM, BlockReader

# The engine's layers that keep nothing but keys and values.
_LAYERS = tuple(getattr(llama, name) for name in ("TransformerBlock", "TransformerBlockGemma2") if hasattr(llama, name))


class StockReader(BlockReader):
    """Reads blocks with a text model of the engine's, unless its windows slide or it has recurrent layers.

    Args:
        prefixes: Remembers blocks.
        transformer: The text model, an SDClipModel's transformer.
        device: Where it works.
    """

    def __init__(self, prefixes: PrefixCache, transformer: Any, device: torch.device) -> None:
        super().__init__(prefixes)
        self._transformer, self._device = transformer, device
        self._parted = all(
            type(layer) in _LAYERS and not getattr(layer, "sliding_attention", False)
            for layer in transformer.model.layers
        )

    @property
    def usable(self) -> bool:
        """Whether the model keeps nothing but keys and values."""
        return self._parted

    def cache(self, length: int, dtype: torch.dtype) -> Any:
        """Return an empty cache for a prompt of `length` tokens and a reply."""
        return self._transformer.init_kv_cache(1, length + ROOM, self._device, dtype)

    def forward(self, embeds: Tensor, state: Any, **more: Any) -> Any:
        """Return what the text model makes of embeddings [1, L, H] that follow those in a cache, and the new cache."""
        with _masks_of_new_tokens(self._transformer.model.layers):
            return self._transformer.model(None, embeds=embeds, past_key_values=state, **more)

    def beside(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Return what some models take in addition to embeddings: small Gemmas embed the ids in every layer."""
        if not getattr(self._transformer.model.config, "hidden_size_per_layer_input", 0):
            return {}
        return {"input_ids": torch.tensor([list(ids)], device=self._device)}

    def _owner(self) -> object:
        return str(self._device)  # its patcher says when the weights leave it

    def _read(self, ids: Sequence[int], embeds: Tensor, state: Any) -> Any:
        return self.forward(embeds, state, **self.beside(ids))[2]

    def _part(self, state: Any, start: int, end: int) -> Part:
        return [(keys[:, :, start:end].clone(), values[:, :, start:end].clone()) for keys, values, _ in state]

    def _empty(self, length: int, embeds: Tensor) -> Any:
        return self.cache(length, embeds.dtype)

    def _extended(self, state: Any, part: Part) -> Any:
        longer = []
        for (keys, values, start), (more_keys, more_values) in zip(state, part, strict=True):
            end = start + more_keys.shape[2]
            keys[:, :, start:end], values[:, :, start:end] = more_keys, more_values
            longer.append((keys, values, end))
        return longer


@contextmanager
def _masks_of_new_tokens(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Give the layers the rows of their mask that belong to the new tokens.

    The engine makes a mask of all tokens by all tokens, which fits only where nothing is in the cache yet.
    """

    def narrow(_layer: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask, new = named.get("attention_mask"), named["x"].shape[1]
        if mask is not None and mask.shape[-2] > new:
            named = {**named, "attention_mask": mask[..., -new:, :]}
        return args, named

    hooks = [layer.register_forward_pre_hook(narrow, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
