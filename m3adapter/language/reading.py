"""Reads prompts block by block, and remembers the blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..compat import cache_of, with_cache
from .prefix_cache import Part, PrefixCache, block_key
from .prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOM = 512  # tokens beyond the prompt for which there is room at once; with more, the cache grows


class BlockReader(ABC):
    """Reads what comes before the last piece of a prompt, in the blocks that the prompt is cut into.

    The blocks are the same whether they are remembered or not, and so are their keys and values, to the bit.

    Args:
        prefixes: Remembers blocks.
    """

    def __init__(self, prefixes: PrefixCache) -> None:
        self.prefixes = prefixes

    def read(self, prompt: Prompt, embeds: Tensor, seen: Callable[[int, int], bytes] = lambda start, end: b"") -> Any:
        """Return a state after the blocks of a prompt; None if it has none.

        Args:
            prompt: The prompt.
            embeds: Its embeddings [1, L, H], perhaps with more behind it.
            seen: Returns what tells apart blocks with the same ids, which reach from `start` to `end`.
        """
        if not prompt.ends or not self.usable:
            return None
        self.prefixes.heed(self._owner())
        keys: list[bytes] = []
        parts: list[Part] = []
        state: Any = None
        before = repr(embeds.dtype).encode()
        for start, end in zip((0, *prompt.ends), prompt.ends, strict=False):
            before = block_key(before, prompt.ids[start:end], seen(start, end))
            known = self.prefixes.get(before)
            if known is None:
                if state is None:
                    state = self._joined(parts, len(prompt.ids), embeds)
                state = self._read(prompt.ids[start:end], embeds[:, start:end], state)
                if self.prefixes.limit:
                    known = self._part(state, start, end)
                    self.prefixes.put(before, known, keys)
            elif state is not None:  # what comes after a block that was dropped
                state = self._extended(state, known)
            if known is not None:
                parts.append(known)
            keys.append(before)
        self.prefixes.use(keys)
        return self._joined(parts, len(prompt.ids), embeds) if state is None else state

    def start(self) -> Any:
        """Return the state in which a prompt without blocks is best read; None if the model itself knows."""
        return None

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether the model can be read in blocks."""

    @abstractmethod
    def _owner(self) -> object:
        """Return a value that identifies the weights in their present state, and their device."""

    @abstractmethod
    def _read(self, ids: Sequence[int], embeds: Tensor, state: Any) -> Any:
        """Return the state after a block with these ids and embeddings [1, L, H], if `state` is the one before."""

    @abstractmethod
    def _part(self, state: Any, start: int, end: int) -> Part:
        """Return a copy of the keys and values of tokens `start` to `end`."""

    def _joined(self, parts: Sequence[Part], length: int, embeds: Tensor) -> Any:
        state = self._empty(length, embeds)
        for part in parts:
            state = self._extended(state, part)
        return state

    @abstractmethod
    def _empty(self, length: int, embeds: Tensor) -> Any:
        """Return the state before a prompt of `length` tokens with such embeddings."""

    @abstractmethod
    def _extended(self, state: Any, part: Part) -> Any:
        """Return the state after one more block, of which it takes a copy."""


class TransformersReader(BlockReader):
    """Reads blocks with a model of transformers."""

    def __init__(self, prefixes: PrefixCache, model: PreTrainedModel) -> None:
        from . import keys_values

        super().__init__(prefixes)
        self._model, self._kv = model, keys_values
        self._parted = keys_values.can_be_parted(model)

    @property
    def usable(self) -> bool:
        """Whether the model keeps nothing but keys and values, and no dropout changes them each time."""
        return self._parted and not self._model.training

    def start(self) -> Any:
        """Return a cache that is not copied for every token."""
        return self._kv.empty(self._model) if self._parted else None

    def _owner(self) -> object:
        return tuple(map(_present, self._model.parameters()))

    def _read(self, ids: Sequence[int], embeds: Tensor, state: Any) -> Any:
        base = self._model.base_model
        mask = torch.ones(1, state.get_seq_length() + embeds.shape[1], dtype=torch.long, device=embeds.device)
        return cache_of(base(inputs_embeds=embeds, attention_mask=mask, use_cache=True, **with_cache(base, state)))

    def _part(self, state: Any, start: int, end: int) -> Part:
        return self._kv.part(state, start, end)

    def _empty(self, length: int, embeds: Tensor) -> Any:
        return self._kv.empty(self._model, length + ROOM)

    def _extended(self, state: Any, part: Part) -> Any:
        self._kv.extend(state, part)
        return state


def _present(weight: nn.Parameter) -> tuple[int, ...]:
    """Return numbers that change when a weight or its place changes."""
    if type(weight) is not nn.Parameter:  # quantised ones keep their memory elsewhere, and are not trained
        return (id(weight),)
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
