"""Hands the weights to ComfyUI's memory manager, which loads them before use and takes them away for others."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch

if TYPE_CHECKING:
    from ..m3adapter.pipeline import M2Chat


logger = logging.getLogger(__name__)

GIGABYTE = 1024**3


class Weights(torch.nn.ModuleDict):
    """Modules that are moved as one.

    A patcher writes the attribute `device` of what it moves. Models of transformers and diffusers have a read-only one;
    this wrapper's can be written.
    """

    device: torch.device | None = None


@dataclass(frozen=True, eq=False)
class Handle:
    """A part of an M2Chat on a wire: the part itself, and the patcher by which ComfyUI moves its weights.

    `streams` says that its layers are ComfyUI's own, which work with weights that are elsewhere. Without a patcher, the
    weights stay where they were loaded: quantised ones cannot be moved.
    """

    part: Any
    patcher: comfy.model_patcher.ModelPatcher | None
    streams: bool = False


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
    weights = Weights({name: module for name, module in modules.items() if module is not None})
    return Handle(part, managed(weights), streams)


def assemble(**handles: Handle | None) -> M2Chat:
    """The M2Chat of the named parts, their weights loaded. Parts that are not given are None."""
    from ..m3adapter.pipeline import M2Chat

    given = [each for each in handles.values() if each is not None and each.patcher is not None]
    if any(each is not None and each.patcher is None for each in handles.values()):  # nobody else makes room for these
        make_room(comfy.model_management.minimum_inference_memory(), comfy.model_management.get_torch_device())
    comfy.model_management.load_models_gpu([each.patcher for each in given], force_full_load=True)
    for each in given:
        if not each.streams:  # --novram leaves even these behind, and they cannot work from there
            each.patcher.model.to(each.patcher.load_device)
    names = ("language_model", "vision_encoder", "adapter", "decoder")
    return M2Chat(**{name: each.part if (each := handles.get(name)) else None for name in names})


def make_room(size: int, device: torch.device) -> bool:
    """Has ComfyUI unload others until `size` bytes are free on the device; says whether they are."""
    comfy.model_management.free_memory(size, device)
    return comfy.model_management.get_free_memory(device) >= size


def expect(name: str, size: int, device: torch.device) -> None:
    """Makes room for weights of about `size` bytes, and logs it where there is not enough: it may work all the same."""
    if not make_room(size, device):
        free = comfy.model_management.get_free_memory(device)
        logger.warning(
            "M2Chat: %s needs about %.1f GB, and %s has %.1f GB free: choose a smaller dtype, quantization or model.",
            name, size / GIGABYTE, device, free / GIGABYTE,
        )  # fmt: skip
