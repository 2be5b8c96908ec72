"""The adapter of the official M²Chat release, for its checkpoints alone.

The release's adapter has no gate, no low-level path and no image tokens, and is a different network from M3Adapter. The
formulas are read off the published code; C are the hidden states of a window of 32 tokens from the caption on:

    Q_0 = LN(W_q q)                              q: learned queries [77, 2048]
    K   = LN(W_k C),   V = LN(W_v C)             C: [32, 4096]
    Q_{i+1} = W_i MHA(Q_i, K, V)                 i = 0, 1; no residual, norm or self-attention
    E   = W_2 ReLU(W_1 Q_2)                      prompt embeddings [77, 2048]
    p   = W_p mean(E)                            pooled embedding [1280]

Padding is masked here. The release, which paints one picture at a time, has none.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..diffusion.condition import Condition
from ..gate import GateSetting
from ..weights.counting import CheckpointError
from ..weights.tensors import fill
from .attention import Attention
from .checkpoint import FILE_NAME
from .config import OfficialConfig
from .features import SlotFeatures
from .official_files import ABSENT, Report, read_official, write_official

WINDOW = 32  # tokens from the caption on


class OfficialAdapter(nn.Module):
    """Turns slot features into a condition for the decoder, as M3Adapter does; the gate has no effect.

    Args:
        config: Its sizes.
        operations: Where Linear and LayerNorm come from, as for M3Adapter.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        config: OfficialConfig,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.image_tokens = nn.Parameter(torch.empty(0, config.llm_width, **factory_kwargs))
        self.queries = nn.Parameter(torch.randn(config.num_tokens, width, **factory_kwargs))
        self.query_in = operations.Linear(width, width, **factory_kwargs)
        self.query_norm = operations.LayerNorm(width, **factory_kwargs)
        self.key_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.key_norm = operations.LayerNorm(width, **factory_kwargs)
        self.value_in = operations.Linear(config.llm_width, width, **factory_kwargs)
        self.value_norm = operations.LayerNorm(width, **factory_kwargs)
        self.attentions = nn.ModuleList(
            Attention(width, config.num_heads, operations, bias=True, **factory_kwargs)
            for _ in range(config.num_layers)
        )
        self.linears = nn.ModuleList(
            operations.Linear(width, width, **factory_kwargs) for _ in range(config.num_layers)
        )
        self.embed_up = operations.Linear(width, width, **factory_kwargs)
        self.embed_down = operations.Linear(width, width, **factory_kwargs)
        self.pool_head = operations.Linear(width, config.pooled_width, **factory_kwargs)

    @classmethod
    def import_file(
        cls,
        path: str | Path,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> tuple[OfficialAdapter, Report]:
        """Open a file in the release's layout, and report which of its contents were used.

        Its widths are read from the shapes; heads are 32 wide, as the release's are.

        Args:
            path: A pickle (epochN_queryblock.pkl), or a .safetensors file with the same names.
            operations: As for the class.
            device: Where to put the weights.
            dtype: Type of the weights; float32 by default.

        Raises:
            CheckpointError: The file is missing or damaged, holds more than tensors, or is not such an adapter.
        """
        path = Path(path)
        config, sources, names, others = read_official(path)
        state: dict[str, Tensor] = {}
        taken: dict[str, None] = {}  # in the order of the weights, each name once
        for name, expected in cls(config, device="meta").state_dict().items():
            if name == "image_tokens":  # there are none
                continue
            source, value = sources.get(name, (None, None))
            if source is None or value is None or value.shape != expected.shape:
                raise CheckpointError(
                    f"The official adapter {path.name} does not fit together: {name} is "
                    f"{'missing' if value is None else tuple(value.shape)}, expected {tuple(expected.shape)}."
                )
            state[name] = value
            taken[source] = None
        adapter = cls(config, operations=operations, device=device, dtype=dtype or torch.float32)
        fill(adapter, {"image_tokens": adapter.image_tokens, **state}, device, dtype)
        ignored = [name for name in names if name not in taken]
        return adapter.eval().requires_grad_(False), Report(tuple(taken), (*ignored, *others), ABSENT)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        operations: ModuleType | Any = nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> OfficialAdapter:
        """Open a file as `import_file` does, or a folder that holds one as adapter.safetensors."""
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        return cls.import_file(path, operations=operations, device=device, dtype=dtype)[0]

    def save_pretrained(self, path: str | Path) -> None:
        """Write the weights by the names of the release.

        Args:
            path: A .safetensors file, which is replaced only by a complete one, or a folder.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            path.mkdir(parents=True, exist_ok=True)
            path = path / FILE_NAME
        write_official(path, self.state_dict())

    def describe(self) -> str:
        """Return one line that says which models the adapter connects, and how large it is."""
        c = self.config
        million = sum(p.numel() for p in self.parameters()) / 1e6
        return (
            f"Adapter of the official release of {million:.1f} million parameters: language model {c.llm_width} wide, "
            f"decoder of {c.num_tokens} tokens {c.width} wide and {c.pooled_width} pooled, no low-level path."
        )

    def forward(
        self, features: SlotFeatures, gate: GateSetting | None = None, anchor: Condition | None = None
    ) -> Condition:
        """Return the condition of every slot in the batch, the same whatever the gate.

        Args:
            features: Features of B slots; the references are ignored.
            gate: Has no effect.
            anchor: Must be None.

        Raises:
            ValueError: The language model has another width, or an anchor is given.
        """
        config, llm_width = self.config, features.context.shape[-1]
        if llm_width != config.llm_width:
            raise ValueError(
                f"The M3-Adapter was trained for a language model of width {config.llm_width}, and this one has "
                f"{llm_width}: load the adapter that belongs to the language model."
            )
        if anchor is not None:
            raise ValueError("The official release's adapter is not anchored: leave the anchor out.")
        embeds = self._embeds(features.context[:, :WINDOW], features.context_mask[:, :WINDOW])
        pooled = self.pool_head(embeds.mean(1))
        return Condition(
            embeds,
            pooled,
            torch.zeros_like(embeds),
            torch.zeros_like(pooled),
            gate=embeds.new_zeros(*embeds.shape[:2], 1),
            captions=features.captions,
        )

    def _embeds(self, context: Tensor, mask: Tensor) -> Tensor:
        keys, values = self.key_norm(self.key_in(context)), self.value_norm(self.value_in(context))
        queries = self.query_norm(self.query_in(self.queries.to(context))).expand(len(context), -1, -1)
        for attention, linear in zip(self.attentions, self.linears, strict=True):
            queries = linear(attention(queries, keys, mask, values))
        return self.embed_down(functional.relu(self.embed_up(queries)))
