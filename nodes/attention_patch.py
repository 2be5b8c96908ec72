"""Image prompts on a stock MODEL: a patch of its cross-attentions.

Keys and values of the references are worked out once, when the patch is made; what the patch carries is a few
megabytes, and the IP-Adapter's own weights need no memory while the model samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_base
import comfy.model_management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..m3adapter.ip_adapter.image_prompt import ImagePrompt, Reference, shares

Block = tuple[str, int, int]  # as ComfyUI names a transformer block: way, number, index


@dataclass(frozen=True, eq=False)
class Look:
    """What one image prompt adds to one cross-attention.

    Attributes:
        keys, values: Of each reference [T, width], or [B, T, width].
        negative_keys, negative_values: Of no picture, for guidance.
        references: For their weights and masks.
        strength: Of the gate in this block.
        sigmas: Between which noise levels it acts, high to low; None is always.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    negative_keys: tuple[Tensor, ...]
    negative_values: tuple[Tensor, ...]
    references: tuple[Reference, ...]
    strength: float
    sigmas: tuple[float, float] | None

    def to(self, target: Any) -> Look:
        """On another device, or in another type."""
        names = ("keys", "values", "negative_keys", "negative_values")
        return replace(self, **{name: tuple(each.to(target) for each in getattr(self, name)) for name in names})

    def __call__(self, query: Tensor, extra: dict[str, Any]) -> Tensor | None:
        """What is added to the attention on the text [B, N, width]; None outside of its part of the schedule."""
        if self.sigmas is not None:
            high, low = self.sigmas
            if not low <= float(extra["sigmas"][0]) <= high:
                return None
        unconditional = extra.get("cond_or_uncond") or [0]
        found = torch.zeros_like(query)
        for row, part in enumerate(self._shares(query, extra)):
            key, value = (
                self._chunks(positive[row], negative[row], unconditional, query)
                for positive, negative in (
                    (self.keys, self.negative_keys),
                    (self.values, self.negative_values),
                )
            )
            attended = optimized_attention(
                query, key, value, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
            )
            found = found + attended * (self.strength * part)
        return found

    def _chunks(self, positive: Tensor, negative: Tensor, unconditional: Sequence[int], query: Tensor) -> Tensor:
        """Keys or values [B, T, width] for a batch of conditions, each for as many pictures."""
        each = len(query) // len(unconditional)
        rows = [(negative if one else positive).expand(each, -1, -1) for one in unconditional]
        return torch.cat(rows).to(query)

    def _shares(self, query: Tensor, extra: dict[str, Any]) -> Sequence[float | Tensor]:
        """The share of each reference: a number, or one [N, 1] for each place of the query."""
        if all(one.mask is None for one in self.references):
            return shares(self.references, 1, 1).flatten().tolist()
        count = query.shape[1]
        height, width = extra["original_shape"][-2:]
        while height * width > count:  # every level of the UNet halves them
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != count:
            raise ValueError(
                "Masks of references do not go with a patch that changes the model's resolution inside: remove one."
            )
        return list(shares(self.references, height, width).flatten(1)[..., None].to(query))


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """Replaces a cross-attention by itself, or by a patch that was there before, and adds image prompts.

    `to`, `models` and `cleanup` are what ComfyUI calls on patches.
    """

    looks: tuple[Look, ...]
    before: Callable[..., Tensor] | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
        """The attention [B, N, width]."""
        if self.before is not None:
            found = self.before(query, key, value, extra)
        else:
            found = optimized_attention(
                query, key, value, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
            )
        for look in self.looks:
            added = look(query, extra)
            if added is not None:
                found = found + added
        return found

    def to(self, target: Any) -> ImageAttention:
        """On another device, or in another type."""
        before = self.before.to(target) if hasattr(self.before, "to") else self.before
        return ImageAttention(tuple(look.to(target) for look in self.looks), before)

    def models(self) -> list[ModelPatcher]:
        """Models that the patch before needs."""
        return self.before.models() if hasattr(self.before, "models") else []

    def cleanup(self) -> None:
        """After sampling."""
        if hasattr(self.before, "cleanup"):
            self.before.cleanup()


def apply(model: ModelPatcher, prompt: ImagePrompt) -> ModelPatcher:
    """The model with an image prompt; the same model where nothing of it can come through.

    The weights of the IP-Adapters must be loaded. Raises ValueError, one sentence: not an SDXL base model, or one that
    the IP-Adapter was not made for.
    """
    check_model(model)
    blocks = cross_attentions(model)
    widths = [width for _, _, width in blocks]
    context = model.model.model_config.unet_config["context_dim"]
    references = tuple(one for one in prompt.references if one.weight)
    for one in references:
        one.adapter.check_layers(widths, context)
    strengths = prompt.gate.weights([place for _, place, _ in blocks])
    if prompt.gate.shut or not references:
        return model
    patched = model.clone()
    sigmas = None
    if not prompt.gate.always:
        sampling = model.get_model_object("model_sampling")
        sigmas = (sampling.percent_to_sigma(prompt.gate.start), sampling.percent_to_sigma(prompt.gate.end))
    for layer, (block, place, _) in enumerate(blocks):
        if strengths[place]:
            look = _look(references, layer, strengths[place], sigmas).to(model.offload_device)
            patched.set_model_attn2_replace(_stacked(patched, block, look), *block)
    return patched


def _look(references: tuple[Reference, ...], layer: int, strength: float, sigmas: tuple[float, float] | None) -> Look:
    device = comfy.model_management.get_torch_device()
    with torch.no_grad():
        made = [
            [
                each
                for tokens in (one.tokens, one.negative)
                for each in one.adapter.keys_and_values(tokens.to(device), layer)
            ]
            for one in references
        ]
    return Look(*zip(*made, strict=True), references, strength, sigmas)


def _stacked(model: ModelPatcher, block: Block, look: Look) -> ImageAttention:
    """With what already replaces the attention of a block, or of all of the blocks that it is one of."""
    replaced = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    before = replaced.get(block, replaced.get(block[:2]))
    if isinstance(before, ImageAttention):
        return replace(before, looks=(*before.looks, look))
    return ImageAttention((look,), before)


def check_model(model: ModelPatcher) -> None:
    """Raises ValueError, one sentence, for all but an SDXL base model."""
    inner = model.model
    if isinstance(inner, comfy.model_base.SDXLRefiner):
        raise ValueError("The model is an SDXL refiner, which no IP-Adapter knows: apply it to the base model.")
    if not isinstance(inner, comfy.model_base.SDXL):
        raise ValueError(f"The model is of the kind {type(inner).__name__}: these IP-Adapters are for SDXL models.")
    if getattr(inner, "concat_keys", ()):
        raise ValueError("The model is an SDXL inpainting model: apply the IP-Adapter to a model that paints freely.")


def cross_attentions(model: ModelPatcher) -> list[tuple[Block, str, int]]:
    """Block, place (as `image_prompt.place_of` names it) and width of each, in the order of diffusers and the files."""
    unet = model.model.diffusion_model
    found = []
    for way, blocks, offset in (("input", unet.input_blocks, 1), ("output", unet.output_blocks, 0)):
        for number, block in enumerate(blocks):
            level, index = divmod(number - offset, unet.num_res_blocks[0] + 1)
            place = f"{'down' if offset else 'up'}.{level}.{index}"
            found += [((way, number, inner), place, width) for inner, width in enumerate(_widths(block))]
    return found + [(("middle", 0, inner), "mid", width) for inner, width in enumerate(_widths(unet.middle_block))]


def _widths(block: torch.nn.Module) -> list[int]:
    """Widths of the cross-attentions in a block of a stock UNet."""
    parts = [each.transformer_blocks for each in block if hasattr(each, "transformer_blocks")]
    return [inner.attn2.heads * inner.attn2.dim_head for part in parts for inner in part]
