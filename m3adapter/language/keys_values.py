"""Keys and values of transformers' models: caches that grow without being copied, taken apart and put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from .prefix_cache import Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SPARE = 256  # tokens for which there is room when a cache begins, and each time it is full


class GrowingLayer(DynamicLayer):
    """One layer's keys and values in tensors with room to spare: transformers' own are copied for every token.

    Args:
        tokens: For how many tokens there is room at first.
    """

    _layer_type = None  # transformers must not take it for the class of a type of layers

    def __init__(self, tokens: int = 0) -> None:
        super().__init__()
        self._least = tokens

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_more: Any) -> tuple[Tensor, Tensor]:
        """Add keys and values [B, heads, tokens, width], and return all."""
        if not self.is_initialized:
            self.device, self.dtype = key_states.device, key_states.dtype
            self.is_initialized = True
            self._rooms: list[Tensor | None] = [None, None]
            self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
        self.keys = self._added(0, self.keys, key_states)
        self.values = self._added(1, self.values, value_states)
        return self.keys, self.values

    def _added(self, which: int, old: Tensor | None, new: Tensor) -> Tensor:
        assert old is not None
        room, start = self._rooms[which], old.shape[-2]
        end = start + new.shape[-2]
        # What was made in inference mode cannot be written to outside it.
        if room is None or end > room.shape[-2] or (room.is_inference() and not torch.is_inference_mode_enabled()):
            room = new.new_empty((*new.shape[:-2], max(end + _SPARE, self._least), new.shape[-1]))
            room[..., :start, :] = old
            self._rooms[which] = room
        room[..., start:end, :] = new
        return room[..., :end, :]


def can_be_parted(model: PreTrainedModel) -> bool:
    """Return whether keys and values of each token in each layer are all that a model keeps of a text.

    This is not so for models with sliding windows, with recurrent layers, or whose layers share keys and values.
    """
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if (
        getattr(model, "_is_stateful", False)
        or getattr(config, "num_kv_shared_layers", 0)
        or getattr(config, "is_encoder_decoder", False)
        or (any(kind != "full_attention" for kind in kinds) if kinds is not None else any(windows))
    ):
        return False
    layers = DynamicCache(config=config).layers
    return len(layers) == config.num_hidden_layers and all(type(layer) is DynamicLayer for layer in layers)


def empty(model: PreTrainedModel, tokens: int = 0) -> DynamicCache:
    """Return a cache with room for `tokens` tokens at first, for a model that `can_be_parted`."""
    cache = DynamicCache(config=model.config.get_text_config())
    cache.layers = [GrowingLayer(tokens) for _ in cache.layers]
    return cache


def part(cache: DynamicCache, start: int, end: int) -> Part:
    """Return a copy of the keys and values of tokens `start` to `end`."""
    layers: list[Any] = cache.layers
    return [(layer.keys[..., start:end, :].clone(), layer.values[..., start:end, :].clone()) for layer in layers]


def extend(cache: DynamicCache, part: Part) -> None:
    """Add the keys and values of more tokens to a cache."""
    layers: list[Any] = cache.layers
    for layer, (keys, values) in zip(layers, part, strict=True):
        layer.update(keys, values)
