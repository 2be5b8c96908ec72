"""Hands the weights to ComfyUI's memory manager, which loads them before use and takes them away for others."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch

if TYPE_CHECKING:
    from ..m3adapter.diffusion.decoder import DiffusionDecoder
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
    weights stay where they were loaded: quantised ones cannot be moved. A decoder has a second patcher for its text
    encoders, which few nodes need, and helpers that work whenever it does: the IP-Adapters of its image prompts.
    """

    part: Any
    patcher: comfy.model_patcher.ModelPatcher | None
    streams: bool = False
    text_patcher: comfy.model_patcher.ModelPatcher | None = None
    helpers: tuple[comfy.model_patcher.ModelPatcher, ...] = ()


def offload_device() -> torch.device:
    """Where weights rest while nobody uses them."""
    return comfy.model_management.unet_offload_device()


def managed(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """A model under ComfyUI's management."""
    # Not the dynamic kind of newer versions of ComfyUI, which is for models of its own layers: it would copy the
    # weights of all others to the device each time they are about to be used.
    patcher = comfy.model_patcher.ModelPatcher
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
    weights = Weights({name: module for name, module in modules.items() if module is not None})
    weakref.finalize(weights, _trim_after_collection).atexit = False
    return weights


def _trim_after_collection() -> None:
    """Gives pages back to the system when the next full garbage collection has ended, such as that of ComfyUI's "free".

    glibc keeps what it got for tensors below 32 MB though nothing uses it any more: of an SDXL model, gigabytes.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim") and _trim not in gc.callbacks:
        gc.callbacks.append(_trim)


def _trim(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.callbacks.remove(_trim)
        ctypes.CDLL(None).malloc_trim(0)


def assemble(language_model: Handle, vision_encoder: Handle, adapter: Handle, decoder: Handle) -> M2Chat:
    """Return the M2Chat of these models, which loads the weights of each just before it works."""
    from ..m3adapter.pipeline import M2Chat

    prepare = preparing(language_model=language_model, vision_encoder=vision_encoder, adapter=adapter, decoder=decoder)
    return M2Chat(language_model.part, vision_encoder.part, adapter.part, decoder.part, prepare)


def preparing(**handles: Handle | None) -> Callable[[str], None]:
    """Return the `prepare` of the library's stages for models by their names in M2Chat."""

    def prepare(part: str) -> None:
        if part == "text_encoders":
            load_text_encoders(handles["decoder"])
        else:
            make_ready(handles[part])

    return prepare


def make_ready(*handles: Handle) -> None:
    """Load the weights of models that work together; make room for the work of one whose weights stay in place."""
    patchers = [patcher for each in handles if each.patcher is not None for patcher in (each.patcher, *each.helpers)]
    if patchers:
        load(*patchers, streams=all(each.streams for each in handles))
    else:
        make_room(comfy.model_management.minimum_inference_memory(), comfy.model_management.get_torch_device())


def load_text_encoders(decoder: Handle) -> None:
    """Load the text encoders of a decoder."""
    if decoder.text_patcher is not None:
        load(decoder.text_patcher)


def load(*patchers: comfy.model_patcher.ModelPatcher, streams: bool = False) -> None:
    """Load weights that work together; `streams` says that their layers can work with weights that are elsewhere."""
    comfy.model_management.load_models_gpu(list(patchers), force_full_load=not streams)
    # Where there is too little room (or with --novram), the manager leaves weights behind. ComfyUI's own layers fetch
    # theirs when they need them; other layers cannot, and neither can what is no layer.
    for patcher in patchers:
        if not streams:
            patcher.model.to(patcher.load_device)
            continue
        for module in patcher.model.modules():
            if not hasattr(module, "comfy_cast_weights"):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(patcher.load_device)


def make_room(size: int, device: torch.device) -> None:
    """Has ComfyUI unload others until `size` bytes are free on the device, or there is nothing left to unload."""
    comfy.model_management.free_memory(size, device)


def expect(name: str, size: int, *devices: torch.device) -> None:
    """Logs it in one line if weights of about `size` bytes will not fit on one of these devices.

    Room is what is free, and on an accelerator also what ComfyUI can unload. It may work all the same, with swapping.
    """
    rooms = {device: _room(device) for device in devices}
    tightest = min(rooms, key=lambda device: rooms[device])
    if size > rooms[tightest]:
        logger.warning(
            "M2Chat: %s needs about %.1f GB, and %s has room for %.1f GB: "
            "choose a smaller dtype or model, or close other programs.",
            name, size / GIGABYTE, tightest, rooms[tightest] / GIGABYTE,
        )  # fmt: skip


def _room(device: torch.device) -> int:
    free = comfy.model_management.get_free_memory(device)
    if comfy.model_management.is_device_cpu(device):  # what is unloaded from there stays there
        return free
    loaded = [each for each in comfy.model_management.current_loaded_models if each.device == device]
    return free + sum(each.model_loaded_memory() for each in loaded)
