"""Image prompts on a stock MODEL: a patch of its cross-attentions.

Keys and values of the references are worked out once, when the patch is made; what the patch carries is a few
megabytes, and the IP-Adapter's own weights need no memory while the model samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_base
import comfy.model_management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..m3adapter.ip_adapter.image_prompt import ImagePrompt, Reference, shares

Block = tuple[str, int, int]  # as ComfyUI names a transformer block: way, number, index


LEVEL = "m2chat_noise_level"


def _with_noise_level(
    executor: Any,
    x: Tensor,
    timesteps: Tensor | None = None,
    context: Tensor | None = None,
    y: Tensor | None = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    **conds: Any,
) -> Tensor:
    """Call the UNet with the noise level as a number, which its layers need.

    It is read once: to read a number from an accelerator waits for all work that has been queued there.
    """
    options = transformer_options or {}
    if "sigmas" in options:
        options = {**options, LEVEL: float(options["sigmas"][0])}
    return executor(x, timesteps, context, y, control, options, **conds)


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
        """Return a copy on another device or of another type."""
        return replace(
            self,
            keys=_moved(self.keys, target),
            values=_moved(self.values, target),
            negative_keys=_moved(self.negative_keys, target),
            negative_values=_moved(self.negative_values, target),
        )

    def __call__(self, query: Tensor, extra: dict[str, Any]) -> Tensor | None:
        """Return what to add to the attention on the text [B, N, width]; None outside its part of the schedule."""
        if self.sigmas is not None:
            high, low = self.sigmas
            level = extra[LEVEL] if LEVEL in extra else float(extra["sigmas"][0])
            if not low <= level <= high:
                return None
        unconditional = extra.get("cond_or_uncond") or [0]
        total = torch.zeros_like(query)
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
            total = total + attended * (self.strength * part)
        return total

    def _chunks(self, positive: Tensor, negative: Tensor, unconditional: Sequence[int], query: Tensor) -> Tensor:
        """Return keys or values [B, T, width] for a batch of conditions, each for the same number of pictures."""
        pictures = len(query) // len(unconditional)
        rows = [(negative if is_negative else positive).expand(pictures, -1, -1) for is_negative in unconditional]
        return torch.cat(rows).to(query)

    def _shares(self, query: Tensor, extra: dict[str, Any]) -> Sequence[float | Tensor]:
        """Return the share of each reference: a number, or a tensor [N, 1] with one for each place of the query."""
        if all(reference.mask is None for reference in self.references):
            return shares(self.references, 1, 1).flatten().tolist()
        count = query.shape[1]
        height, width = extra["original_shape"][-2:]
        while height * width > count:  # every level of the UNet halves them
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != count:
            raise ValueError(
                "Masks of references cannot be combined with a patch that changes the model's inner resolution: "
                "remove one of the two."
            )
        return list(shares(self.references, height, width).flatten(1)[..., None].to(query))


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """Computes a cross-attention, with an earlier patch if there is one, and adds image prompts to it.

    ComfyUI calls `to`, `models` and `cleanup` on patches.
    """

    looks: tuple[Look, ...]
    before: Callable[..., Tensor] | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
        """Return the attention [B, N, width]."""
        if self.before is not None:
            total = self.before(query, key, value, extra)
        else:
            total = optimized_attention(
                query, key, value, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
            )
        for look in self.looks:
            added = look(query, extra)
            if added is not None:
                total = total + added
        return total

    def to(self, target: Any) -> ImageAttention:
        """Return a copy on another device or of another type."""
        move = getattr(self.before, "to", None)
        before = move(target) if move else self.before
        return ImageAttention(tuple(look.to(target) for look in self.looks), before)

    def models(self) -> list[ModelPatcher]:
        """Return the models that the earlier patch needs."""
        models = getattr(self.before, "models", None)
        return models() if models else []

    def cleanup(self) -> None:
        """Clean up after sampling."""
        if clean := getattr(self.before, "cleanup", None):
            clean()


def apply(model: ModelPatcher, prompt: ImagePrompt) -> ModelPatcher:
    """Return the model with an image prompt, or the same model if the prompt can have no effect.

    The weights of the IP-Adapters must be loaded.

    Raises:
        ValueError: It is not an SDXL base model, or the IP-Adapter was not made for it.
    """
    check_model(model)
    blocks = cross_attentions(model)
    widths = [width for _, _, width in blocks]
    context = model.model.model_config.unet_config["context_dim"]
    references = tuple(reference for reference in prompt.references if reference.weight)
    for reference in references:
        reference.adapter.check_layers(widths, context)
    strengths = prompt.gate.weights([place for _, place, _ in blocks])
    if prompt.gate.shut or not references:
        return model
    patched = model.clone()
    sigmas = None
    if not prompt.gate.always:
        sampling = model.get_model_object("model_sampling")
        sigmas = (sampling.percent_to_sigma(prompt.gate.start), sampling.percent_to_sigma(prompt.gate.end))
        kinds = patched.model_options["transformer_options"].get("wrappers", {})
        if LEVEL not in kinds.get(WrappersMP.DIFFUSION_MODEL, {}):
            add_wrapper_with_key(
                WrappersMP.DIFFUSION_MODEL, LEVEL, _with_noise_level, patched.model_options, is_model_options=True
            )
    for layer, (block, place, _) in enumerate(blocks):
        if strengths[place]:
            look = _look(references, layer, strengths[place], sigmas).to(model.offload_device)
            patched.set_model_attn2_replace(_stacked(patched, block, look), *block)
    return patched


def _look(references: tuple[Reference, ...], layer: int, strength: float, sigmas: tuple[float, float] | None) -> Look:
    device = comfy.model_management.get_torch_device()
    with torch.no_grad():
        shown = [one.adapter.keys_and_values(one.tokens.to(device), layer) for one in references]
        unseen = [one.adapter.keys_and_values(one.negative.to(device), layer) for one in references]
    return Look(
        keys=tuple(key for key, _ in shown),
        values=tuple(value for _, value in shown),
        negative_keys=tuple(key for key, _ in unseen),
        negative_values=tuple(value for _, value in unseen),
        references=references,
        strength=strength,
        sigmas=sigmas,
    )


def _moved(tensors: tuple[Tensor, ...], target: Any) -> tuple[Tensor, ...]:
    return tuple(tensor.to(target) for tensor in tensors)


def _stacked(model: ModelPatcher, block: Block, look: Look) -> ImageAttention:
    """Return the patch on top of what already replaces the attention of this block, or of all blocks of its kind."""
    replaced = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    before = replaced.get(block, replaced.get(block[:2]))
    if isinstance(before, ImageAttention):
        return replace(before, looks=(*before.looks, look))
    return ImageAttention((look,), before)


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError unless it is an SDXL base model."""
    inner = model.model
    if isinstance(inner, comfy.model_base.SDXLRefiner):
        raise ValueError(
            "The model is an SDXL refiner, for which there are no IP-Adapters: apply it to the base model."
        )
    if not isinstance(inner, comfy.model_base.SDXL):
        raise ValueError(f"The model is of the kind {type(inner).__name__}: these IP-Adapters are for SDXL models.")
    if getattr(inner, "concat_keys", ()):
        raise ValueError(
            "The model is an SDXL inpainting model: apply the IP-Adapter to a model that is not for inpainting."
        )


def cross_attentions(model: ModelPatcher) -> list[tuple[Block, str, int]]:
    """Return block, place (named as by `image_prompt.place_of`) and width of each, in the order of diffusers."""
    unet = model.model.diffusion_model
    found: list[tuple[Block, str, int]] = []
    for way, blocks, offset in (("input", unet.input_blocks, 1), ("output", unet.output_blocks, 0)):
        for number, block in enumerate(blocks):
            level, index = divmod(number - offset, unet.num_res_blocks[0] + 1)
            place = f"{'down' if offset else 'up'}.{level}.{index}"
            found += [((way, number, inner), place, width) for inner, width in enumerate(_widths(block))]
    return found + [(("middle", 0, inner), "mid", width) for inner, width in enumerate(_widths(unet.middle_block))]


def _widths(block: Iterable[Any]) -> list[int]:
    """Return the widths of the cross-attentions in a block of a stock UNet."""
    parts = [layer.transformer_blocks for layer in block if hasattr(layer, "transformer_blocks")]
    return [inner.attn2.heads * inner.attn2.dim_head for part in parts for inner in part]
