"""Fuses the same features again and again, as somebody turns the gate: what does not depend on it is computed once."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from .m3_adapter import M3Adapter

if TYPE_CHECKING:
    from .features import BothFeatures, SlotFeatures


class GateTurns:
    """Remembers what an adapter made of the features that it was given last.

    Only for adapters whose weights do not change: a training has no use for it. It keeps neither adapter nor features
    alive.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._adapter: weakref.ref[M3Adapter] | None = None
        self._features: weakref.ref[SlotFeatures] | None = None
        self._found: BothFeatures | None = None

    def both_features(self, adapter: object, features: SlotFeatures) -> BothFeatures | None:
        """Return what lies on both sides of the gate; None if the adapter has no gate.

        Args:
            adapter: The adapter.
            features: On whatever device and of whatever type; the adapter's own are used.
        """
        if not isinstance(adapter, M3Adapter):
            return None
        tokens = adapter.image_tokens
        if not self._remembers(adapter, features):
            self._found = adapter.both_features(features.to(tokens.device, tokens.dtype))
            self._adapter, self._features = weakref.ref(adapter), weakref.ref(features)
        return self._found

    def _remembers(self, adapter: M3Adapter, features: SlotFeatures) -> bool:
        """Return whether what is known is of this adapter, where it is now, and of these very features."""
        if self._found is None or self._adapter is None or self._features is None:
            return False
        kept, tokens = self._found.semantic, adapter.image_tokens
        same_place = (kept.device, kept.dtype) == (tokens.device, tokens.dtype)
        return same_place and self._adapter() is adapter and self._features() is features
