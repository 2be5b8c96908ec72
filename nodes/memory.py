"""Hands weights to ComfyUI's memory manager, which loads them before use and unloads them to make room for others."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import torch

from ..m3adapter.m3_painter import M3Painter
from ..m3adapter.painter import Painter
from .engine_choices import follow_engine

if TYPE_CHECKING:
    from ..m3adapter.diffusion.decoder import DiffusionDecoder
    from ..m3adapter.language.language_model import LanguageModel
    from ..m3adapter.pipeline import M2Chat


logger = logging.getLogger(__name__)

GIGABYTE = 1024**3
# Raised where memory runs out, beside torch's own exception; with an old torch, ComfyUI has no exception to tell.
OUT_OF_MEMORY = tuple({comfy.model_management.OOM_EXCEPTION} - {Exception})

# ComfyUI's classes of torch's layers: those that work like torch's own until a weight of theirs is left behind.
_STREAMING: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    getattr(torch.nn, name): getattr(comfy.ops.disable_weight_init, name)
    for name in ("Conv2d", "GroupNorm", "LayerNorm", "Linear")
}


class Weights(torch.nn.ModuleDict):
    """Modules that are moved as one.

    A patcher sets the attribute `device` of what it moves. It is read-only in models of transformers and diffusers; in
    this wrapper it can be set.
    """

    device: torch.device | None = None


class QuantisedWeights(Weights):
    """Modules of a language model whose weights are quantised by bitsandbytes."""

    def to(self, *given: Any, **how: Any) -> QuantisedWeights:
        """Move the weights, with what belongs to them."""
        from ..m3adapter.language.quantization import can_move, move

        device: Any = how.get("device", given[0] if given else None)
        for module in self.values():
            if can_move(module):
                move(module, device)
            else:
                module.to(device)
        return self


@dataclass(frozen=True, eq=False)
class Handle:
    """A model of M2Chat on a wire.

    Attributes:
        part: The model.
        patcher: Moves its weights for ComfyUI; of a decoder, those of its UNet. None if they stay where they are, as
            quantised ones of some packages do.
        streams: Whether its layers are ComfyUI's own, which can work with weights on another device.
        work: Bytes that its work takes beside its weights, of a language model.
        text_patcher: Of a decoder, the patcher of its text encoders.
        vae_patcher: Of a decoder, the patcher of its VAE.
        helpers: Of a decoder, the patchers of the IP-Adapters of its image prompts, which work whenever its UNet does.
    """

    part: Any
    patcher: comfy.model_patcher.ModelPatcher | None
    streams: bool = False
    work: int = 0
    text_patcher: comfy.model_patcher.ModelPatcher | None = None
    vae_patcher: comfy.model_patcher.ModelPatcher | None = None
    helpers: tuple[comfy.model_patcher.ModelPatcher, ...] = ()

    def __post_init__(self) -> None:
        """Let a language model forget the prompts it remembers when its weights leave the device."""
        if self.patcher is not None and (forget := getattr(self.part, "forget", None)) is not None:
            _when_unloaded(self.patcher, weakref.WeakMethod(forget))


def _when_unloaded(patcher: comfy.model_patcher.ModelPatcher, method: weakref.WeakMethod[Callable[[], None]]) -> None:
    def call(*_details: Any) -> None:
        if (alive := method()) is not None:
            alive()

    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_DETACH, call)


def offload_device() -> torch.device:
    """Return the device where unused weights are kept."""
    return comfy.model_management.unet_offload_device()


def managed(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """Put a model under ComfyUI's management."""
    # Not the dynamic kind of newer versions of ComfyUI, which is for models of its own layers: it would copy the
    # weights of all others to the device each time they are about to be used.
    patcher = comfy.model_patcher.ModelPatcher
    return patcher(model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device())


def handle(part: Any, *, streams: bool = False, **modules: torch.nn.Module | None) -> Handle:
    """Put `modules`, all the weights of a part, under ComfyUI's management."""
    return Handle(part, managed(_as_one(modules)), streams)


def language_handle(language_model: LanguageModel) -> Handle:
    """Put a language model under ComfyUI's management, unless its weights cannot be moved.

    Quantised ones already are on the device, and ComfyUI is told so.
    """
    from ..m3adapter.language.quantization import can_move
    from ..m3adapter.language.sizes import work_bytes

    model = language_model.model
    modules: dict[str, torch.nn.Module | None] = {"model": model, "projection": language_model.visual_projection}
    work = work_bytes(model.config, model.dtype.itemsize, language_model.context_length)
    if not language_model.movable and not can_move(model):
        return Handle(language_model, None, work=work)
    patcher = managed(_as_one(modules, Weights if language_model.movable else QuantisedWeights))
    prefixes = language_model.prefixes  # what it remembers leaves the device with it

    def forget(*_: Any) -> None:
        prefixes.clear()

    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_DETACH, forget)
    found = Handle(language_model, patcher, work=work)
    if not language_model.movable:
        make_ready(found)
    return found


def decoder_handle(decoder: DiffusionDecoder) -> Handle:
    """Put a decoder under ComfyUI's management: UNet, VAE and text encoders each on their own."""
    follow_engine(decoder)
    unet, texts = _as_one({"unet": decoder.unet}), [decoder.text_encoder, decoder.text_encoder_2]
    reads = _as_one({f"text_encoder_{index}": encoder for index, encoder in enumerate(texts)})
    if streams := not comfy.model_management.is_device_cpu(comfy.model_management.get_torch_device()):
        for model in (decoder.unet, *filter(None, texts)):
            let_stream(model)
    found = Handle(
        decoder, managed(unet), streams, text_patcher=managed(reads), vae_patcher=managed(_as_one({"vae": decoder.vae}))
    )
    return with_decoder(found, decoder)


def with_decoder(decoder: Handle, part: DiffusionDecoder, *helpers: comfy.model_patcher.ModelPatcher) -> Handle:
    """Return the handle of a decoder of the same models, whose UNet works together with further `helpers`."""
    found = replace(decoder, part=part, helpers=(*decoder.helpers, *helpers))
    assert found.patcher is not None and found.vae_patcher is not None
    patchers = {"unet": (found.patcher, *found.helpers), "vae": (found.vae_patcher,)}
    streams = {"unet": found.streams, "vae": False}

    def prepare(name: str, work: int) -> None:
        load(*patchers[name], streams=streams[name], work=work)

    part.prepare = prepare
    return found


def let_stream(model: torch.nn.Module) -> None:
    """Let the layers of a model of another library stream their weights, as ComfyUI's own layers do.

    They become layers of ComfyUI's classes, which are torch's own as long as no weight lies on another device. The
    first layer stays as it is, and is loaded whole: it tells its library on which device the model is.
    """
    layers = [layer for layer in model.modules() if type(layer) in _STREAMING]
    first = next(model.parameters())
    for layer in layers:
        if first is not next(layer.parameters(), None):
            layer.__class__ = _STREAMING[type(layer)]


def _as_one(modules: dict[str, torch.nn.Module | None], kind: type[Weights] = Weights) -> Weights:
    weights = kind({name: module for name, module in modules.items() if module is not None})
    weakref.finalize(weights, _trim_after_collection).atexit = False
    return weights


def _trim_after_collection() -> None:
    """Return memory to the system after the next full garbage collection, such as that of ComfyUI's "free".

    glibc keeps the memory of freed tensors below 32 MB, which amounts to gigabytes for an SDXL model.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim") and _trim not in gc.callbacks:
        gc.callbacks.append(_trim)


def _trim(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.callbacks.remove(_trim)
        ctypes.CDLL(None).malloc_trim(0)


def assemble(
    language_model: Handle, vision_encoder: Handle | None, adapter: Handle | None, decoder: Handle | Painter
) -> M2Chat:
    """Return the M2Chat of these models, which loads the weights of each just before it works.

    A painter in the decoder's place brings its own models; a vision encoder beside it is for the user's pictures.

    Raises:
        ValueError: A decoder has no adapter or no vision encoder beside it.
    """
    from ..m3adapter.pipeline import M2Chat

    painter = painter_of(vision_encoder, adapter, decoder)
    sees: Any = None  # M2Chat says what it does without
    if vision_encoder is not None:
        sees, ready = vision_encoder.part, preparing(vision_encoder=vision_encoder)
    elif isinstance(decoder, M3Painter):
        sees, ready = decoder.vision_encoder, decoder.prepare
    else:
        ready = preparing()

    def prepare(part: str) -> None:
        make_ready(language_model) if part == "language_model" else ready(part)

    return M2Chat(language_model.part, sees, prepare=prepare, painter=painter)


def painter_of(vision_encoder: Handle | None, adapter: Handle | None, decoder: Handle | Painter) -> Painter:
    """Return the painter in the decoder's place, or that of a decoder with an adapter and a vision encoder."""
    if isinstance(decoder, Painter):
        return decoder
    missing = [name for name, given in (("adapter", adapter), ("vision_encoder", vision_encoder)) if given is None]
    if adapter is None or vision_encoder is None:
        raise ValueError(
            f"decoder paints what an M3-Adapter makes of the words: connect {' and '.join(missing)} too, or a painter, "
            "such as Stock Painter, in its place."
        )
    return m3_painter(vision_encoder, adapter, decoder)


@dataclass
class ManagedPainter(M3Painter):
    """An adapter and a decoder under ComfyUI's management, on one wire.

    Attributes:
        handle: The decoder's.
    """

    handle: Handle | None = None


def m3_painter(vision_encoder: Handle, adapter: Handle, decoder: Handle) -> ManagedPainter:
    """Return the painter of these models, which loads the weights of each just before it works."""
    prepare = preparing(vision_encoder=vision_encoder, adapter=adapter, decoder=decoder)
    return ManagedPainter(vision_encoder.part, adapter.part, decoder.part, prepare, OUT_OF_MEMORY, decoder)


def preparing(**handles: Handle | None) -> Callable[[str], None]:
    """Return the `prepare` of the library's stages for models by their names in M2Chat."""
    given = {name: handle for name, handle in handles.items() if handle is not None}

    def prepare(part: str) -> None:
        if part == "text_encoders":
            load_text_encoders(given["decoder"])
        else:
            make_ready(given[part])

    return prepare


def make_ready(*handles: Handle) -> None:
    """Load the weights of models that work together; make room for the work of one whose weights stay in place.

    A decoder is left out, because it loads each of its parts just before that works.
    """
    handles = tuple(handle for handle in handles if handle.vae_patcher is None)
    patchers, work = [handle.patcher for handle in handles if handle.patcher], sum(handle.work for handle in handles)
    if patchers:
        load(*patchers, streams=all(handle.streams for handle in handles), work=work)
    elif handles:
        room = max(work, comfy.model_management.minimum_inference_memory())
        make_room(room, comfy.model_management.get_torch_device())


def load_text_encoders(decoder: Handle) -> None:
    """Load the text encoders of a decoder."""
    if decoder.text_patcher is not None:
        load(decoder.text_patcher, streams=decoder.streams)


def load(*patchers: comfy.model_patcher.ModelPatcher, streams: bool = False, work: int = 0) -> None:
    """Load weights that work together.

    Args:
        patchers: The patchers of the models.
        streams: Whether their layers can work with weights on another device.
        work: Bytes that the work takes beside the weights.
    """
    comfy.model_management.load_models_gpu(list(patchers), memory_required=work, force_full_load=not streams)
    # Where there is too little room (or with --novram), the manager leaves weights behind. ComfyUI's own layers fetch
    # theirs when they need them; other layers cannot, and neither can what is no layer.
    for patcher in patchers:
        if not streams:
            patcher.model.to(patcher.load_device)
            continue
        for module in patcher.model.modules():
            for buffer in module.buffers(recurse=False):
                buffer.data = buffer.data.to(patcher.load_device)
            if not hasattr(module, "comfy_cast_weights"):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(patcher.load_device)


def make_room(size: int, device: torch.device) -> None:
    """Have ComfyUI unload models until `size` bytes are free on the device, or nothing is left to unload."""
    comfy.model_management.free_memory(size, device)


def expect(name: str, size: int, *devices: torch.device) -> None:
    """Log one line if weights of about `size` bytes will not fit on one of these devices.

    Room is what is free, plus what ComfyUI can unload on an accelerator. Swapping may make it work all the same.
    """
    rooms = {device: room(device) for device in devices}
    tightest = min(rooms, key=lambda device: rooms[device])
    if size > rooms[tightest]:
        logger.warning(
            "M2Chat: %s needs about %.1f GB, and %s has room for %.1f GB: "
            "choose a smaller dtype or model, or close other programs.",
            name, size / GIGABYTE, tightest, rooms[tightest] / GIGABYTE,
        )  # fmt: skip


def room(device: torch.device) -> int:
    """Return how many bytes are free on a device once ComfyUI has unloaded what it can."""
    free = comfy.model_management.get_free_memory(device)
    if comfy.model_management.is_device_cpu(device):  # what is unloaded from there stays there
        return free
    loaded = [each for each in comfy.model_management.current_loaded_models if each.device == device]
    return free + sum(each.model_loaded_memory() for each in loaded)
