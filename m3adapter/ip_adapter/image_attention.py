"""Image attention: lets a diffusers UNet attend to image prompts, through diffusers' own IP-Adapter support."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .image_prompt import ImageGate, ImagePrompt, Reference, place_of, shares
from .ip_adapter import IPAdapter, cross_attentions

LAST_TIMESTEP = 999  # of SDXL's noise schedule


@contextmanager
def attend_to_images(
    unet: Any, prompts: Sequence[ImagePrompt], *, batch: int, guided: bool, size: tuple[int, int]
) -> Iterator[tuple[dict[str, Any], Callable[[float], None]]]:
    """Make a diffusers UNet attend to image prompts inside the `with` block; afterwards it is as it was.

    Args:
        unet: The `UNet2DConditionModel`.
        prompts: Image prompts, each with its own gate. Those whose gate is shut are left out entirely.
        batch: Number of pictures that are painted.
        guided: Whether classifier-free guidance is used.
        size: Height and width of the latents.

    Yields:
        Further arguments for the pipeline, and a function to call with the timestep before each step.

    Raises:
        ValueError: An IP-Adapter does not fit the UNet.
    """
    terms = [term for prompt in prompts if not prompt.gate.shut for term in _terms(prompt, size)]
    if not terms:
        yield {}, lambda timestep: None
        return
    names = cross_attentions(unet)
    for term in terms:
        term.adapter.check_layers(list(names.values()), unet.config.cross_attention_dim)
    places = {name: place_of(name) for name in names}
    strengths = [term.gate.weights(list(places.values())) for term in terms]
    processors = ip_processors([term.adapter for term in terms], unet)

    def set_timestep(timestep: float) -> None:
        percent = 1 - timestep / LAST_TIMESTEP
        for name, processor in processors.items():
            processor.scale = [
                strength[places[name]] * term.weight if term.gate.open_at(percent) else 0.0
                for term, strength in zip(terms, strengths, strict=True)
            ]

    embeds = [term.embeds(batch, guided).to(unet.device, unet.dtype) for term in terms]
    masks = [None if term.masks is None else term.masks.to(unet.device, unet.dtype) for term in terms]
    # The pipeline insists on embeddings of one picture and repeats them for the batch; `embeds` replace them.
    arguments: dict[str, Any] = {"ip_adapter_image_embeds": [torch.zeros(2 if guided else 1, 1, 1)]}
    if any(mask is not None for mask in masks):
        arguments["cross_attention_kwargs"] = {"ip_adapter_masks": masks}
    with attached(unet, processors, embeds):
        yield arguments, set_timestep


@contextmanager
def attached(unet: Any, processors: Mapping[str, Any], tokens: list[Tensor] | None = None) -> Iterator[None]:
    """Give a diffusers UNet other cross-attention processors inside the `with` block.

    Args:
        unet: The `UNet2DConditionModel`.
        processors: A processor for each cross-attention, by its name.
        tokens: For each IP-Adapter [B, R, T, D]; they replace whatever the UNet is given as `image_embeds`. By default
            it must be given such a list.
    """
    original = dict(unet.attn_processors)
    replaced = {f"{name}.processor": processor for name, processor in processors.items()}
    unet.set_attn_processor({**original, **replaced})
    unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = _GivenTokens(tokens), "ip_image_proj"
    try:
        yield
    finally:
        unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = None, None
        unet.set_attn_processor(original)


def ip_processors(adapters: Sequence[IPAdapter], unet: Any) -> dict[str, Any]:
    """Return diffusers' processor for each cross-attention of a UNet, with the layers of IP-Adapters, at strength 1."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    processors: dict[str, Any] = {}
    num_tokens = [adapter.config.num_tokens for adapter in adapters]
    for layer, (name, width) in enumerate(cross_attentions(unet).items()):
        with torch.device("meta"):  # its own layers are replaced right away
            processor = IPAdapterAttnProcessor2_0(width, unet.config.cross_attention_dim, num_tokens=num_tokens)
        processor.to_k_ip = nn.ModuleList(adapter.to_k[layer] for adapter in adapters)
        processor.to_v_ip = nn.ModuleList(adapter.to_v[layer] for adapter in adapters)
        processors[name] = processor
    return processors


@dataclass(frozen=True, eq=False)
class ImageAttentionTerm:
    """One term that image prompts add to a cross-attention: references of one prompt that share an IP-Adapter.

    Attributes:
        adapter: The IP-Adapter.
        references: R references, all of that adapter.
        gate: The gate of the prompt.
        weight: A factor of the gate's strength.
        masks: [1, R, h, w] as diffusers takes them, or None where the term acts everywhere.
    """

    adapter: IPAdapter
    references: tuple[Reference, ...]
    gate: ImageGate
    weight: float
    masks: Tensor | None

    def embeds(self, batch: int, guided: bool) -> Tensor:
        """Return the tokens [B, R, T, D], preceded by the negative ones if there is guidance."""
        halves = [[reference.negative for reference in self.references]] if guided else []
        halves.append([reference.tokens for reference in self.references])
        return torch.cat([torch.stack([tokens.expand(batch, -1, -1) for tokens in half], 1) for half in halves])


def _terms(prompt: ImagePrompt, size: tuple[int, int]) -> list[ImageAttentionTerm]:
    active = [reference for reference in prompt.references if reference.weight]
    if not active:
        return []
    if len(active) == 1 and active[0].mask is None:
        return [ImageAttentionTerm(active[0].adapter, tuple(active), prompt.gate, active[0].weight, None)]
    masks = shares(active, *size)
    terms = []
    for adapter in dict.fromkeys(reference.adapter for reference in active):
        rows = [row for row, reference in enumerate(active) if reference.adapter is adapter]
        references = tuple(active[row] for row in rows)
        terms.append(ImageAttentionTerm(adapter, references, prompt.gate, 1.0, masks[rows][None]))
    return terms


class _GivenTokens(nn.Module):
    """Takes the place of diffusers' projection of image embeddings: the references already are tokens."""

    def __init__(self, tokens: list[Tensor] | None) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, image_embeds: list[Tensor]) -> list[Tensor]:
        return image_embeds if self.tokens is None else self.tokens
