"""Hands the weights to ComfyUI's memory manager, which loads them before use and takes them away for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch

if TYPE_CHECKING:
    from ..m3adapter.diffusion import DiffusionDecoder
    from ..m3adapter.pipeline import M2Chat


class Weights(torch.nn.ModuleDict):
    """Modules that are moved as one.

    A patcher writes the attribute `device` of what it moves. Models of transformers and diffusers have a read-only one;
    this wrapper's can be written.
    """

    device: torch.device | None = None


@dataclass(frozen=True, eq=False)
class Handle:
    """A part of an M2Chat on a wire: the part itself, and the patcher by which ComfyUI moves its weights.

    `streams` says that its layers are ComfyUI's own, which work with weights that are elsewhere. A decoder has a
    second patcher for its text encoders, which few nodes need.
    """

    part: Any
    patcher: comfy.model_patcher.ModelPatcher
    streams: bool = False
    text_patcher: comfy.model_patcher.ModelPatcher | None = None


def offload_device() -> torch.device:
    """Where weights rest while nobody uses them."""
    return comfy.model_management.unet_offload_device()


def managed(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """A model under ComfyUI's management."""
    # Newer versions of ComfyUI choose the kind of patcher by the machine.
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device())


def handle(part: Any, *, streams: bool = False, **modules: torch.nn.Module | None) -> Handle:
    """Puts `modules`, all the weights of a part, under ComfyUI's management."""
    return Handle(part, managed(_as_one(modules)), streams)


def decoder_handle(decoder: DiffusionDecoder) -> Handle:
    """Puts a decoder under ComfyUI's management: what paints, and apart from it what reads prompts."""
    paints = {"unet": decoder.unet, "vae": decoder.vae}
    reads = {"text_encoder": decoder.text_encoder, "text_encoder_2": decoder.text_encoder_2}
    return Handle(decoder, managed(_as_one(paints)), text_patcher=managed(_as_one(reads)))


def _as_one(modules: dict[str, torch.nn.Module | None]) -> Weights:
    return Weights({name: module for name, module in modules.items() if module is not None})


def assemble(**handles: Handle | None) -> M2Chat:
    """The M2Chat of the named parts, their weights loaded. Parts that are not given are None."""
    from ..m3adapter.pipeline import M2Chat

    given = [each for each in handles.values() if each is not None]
    load(*(each.patcher for each in given), streams=[each.patcher for each in given if each.streams])
    names = ("language_model", "vision_encoder", "adapter", "decoder")
    return M2Chat(**{name: each.part if (each := handles.get(name)) else None for name in names})


def load(*patchers: comfy.model_patcher.ModelPatcher, streams: Sequence[comfy.model_patcher.ModelPatcher] = ()) -> None:
    """Load weights, all of them at once, but for those that can be streamed."""
    comfy.model_management.load_models_gpu(list(patchers), force_full_load=True)
    for patcher in patchers:
        if patcher not in streams:  # --novram leaves even these behind, and they cannot work from there
            patcher.model.to(patcher.load_device)
