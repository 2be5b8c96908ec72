"""Configurations of the M³-Adapter, and of the official release's adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from ..values import is_number, shown, whole
from ..weights.counting import MAX_PARTS, MAX_SIZE

HEAD_WIDTH = 64  # of an adapter whose number of heads is not stored
# How far the gate opens in an adapter that does not store it: measured on the first starter, which did not.
OPEN_GATE = 0.11
# What versions before 0.2 call these fields.
OLD_NAMES = {"num_tokens": "tokens", "num_blocks": "blocks", "num_heads": "heads", "num_image_tokens": "image_tokens"}


@dataclass(frozen=True)
class M3AdapterConfig:
    """Widths and depths of an adapter.

    Attributes:
        llm_width: Hidden size of the language model.
        vision_width: Hidden size of the vision encoder.
        embed_width: Width D of the decoder's prompt embeddings.
        pooled_width: Width P of the decoder's pooled embedding.
        vision_levels: Number of depths of the vision encoder that features are taken from.
        num_tokens: Number N of prompt embeddings, and of queries.
        width: Inner width W, a multiple of `num_heads`.
        num_blocks: Number of blocks.
        num_heads: Number of attention heads.
        num_image_tokens: Number of learned embeddings that follow the caption into the language model.
        references: Highest number of reference pictures.
        anchor: Whether the adapter outputs a learned change to the decoder's own condition of the caption.
        open_gate: How open the learned gate typically is where the references determine the look, above 0 and up to 1.
            It is what the value 1 of a fixed gate means, and is measured at the end of training.

    Raises:
        ValueError: A field is out of range or of the wrong type.
    """

    llm_width: int
    vision_width: int
    embed_width: int
    pooled_width: int
    vision_levels: int = 3
    num_tokens: int = 77
    width: int = 256
    num_blocks: int = 3
    num_heads: int = 4
    num_image_tokens: int = 4
    references: int = 4
    anchor: bool = False
    open_gate: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = f"The adapter's {field.name}", getattr(self, field.name)
            if field.type == "bool":
                if not isinstance(value, bool):
                    raise ValueError(f"{name} must be true or false, not {shown(value)}.")
            elif field.type == "float":
                if not is_number(value, 0, 1) or value == 0:
                    raise ValueError(f"{name} must be above 0 and up to 1, not {shown(value)}.")
            else:
                whole(name, value, 1, MAX_PARTS if field.name in ("num_blocks", "vision_levels") else MAX_SIZE)
        if self.width % self.num_heads:
            raise ValueError(f"The adapter's width {self.width} is not a multiple of its {self.num_heads} heads.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> M3AdapterConfig:
        """Return the configuration stored in a checkpoint of this version or an older one; unknown names are ignored.

        Raises:
            TypeError: A field without a default is missing.
            ValueError: A field is out of range or of the wrong type.
        """
        known: dict[str, Any] = {"open_gate": OPEN_GATE}
        for field in fields(cls):
            for name in (OLD_NAMES.get(field.name, field.name), field.name):
                if name in values:
                    known[field.name] = values[name]
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores; renamed fields under both names, so that older versions open it too."""
        values = asdict(self)
        return {**values, **{old: values[new] for new, old in OLD_NAMES.items()}}


@dataclass(frozen=True)
class OfficialConfig:
    """Sizes of an adapter of the official release; the defaults are the release's own.

    Attributes:
        llm_width: Hidden size of the language model.
        width: Width of queries and prompt embeddings, a multiple of `num_heads`.
        pooled_width: Width of the pooled embedding.
        num_tokens: Number of queries, and of prompt embeddings.
        num_layers: Number of cross-attention layers.
        num_heads: Number of attention heads.
        anchor: Always False, as for M3AdapterConfig.
        references: Always 0, as for M3AdapterConfig.
    """

    llm_width: int = 4096
    width: int = 2048
    pooled_width: int = 1280
    num_tokens: int = 77
    num_layers: int = 2
    num_heads: int = 64
    anchor: ClassVar[bool] = False
    references: ClassVar[int] = 0
