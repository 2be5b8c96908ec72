"""Models on wires as a training takes them: loaded by ComfyUI's memory manager when they work, and differentiable.

ComfyUI runs nodes in torch's inference mode, whose tensors cannot take part in a gradient. Before a training, each
weight becomes a plain tensor of the same memory: values, devices and the handles that others hold stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.model_management
import torch

from ..m3adapter.adapter.m3_adapter import M3Adapter
from ..m3adapter.events import Interrupted
from ..m3adapter.language.language_model import LanguageModel
from ..m3adapter.training.m3ft_models import recomputed_layers
from ..m3adapter.training.models_at_work import Models
from .memory import Handle, load, make_ready

# Bytes for each byte of an adapter's weights: gradients, the optimizer's moments, and the moving average.
BESIDE_WEIGHTS = 4


@dataclass
class ManagedModels(Models):
    """The models of a training whose frozen ones are loaded by ComfyUI's memory manager.

    Attributes:
        handles: "language", "vision" and "decoder".
        work: Bytes that training takes beside the weights.
    """

    handles: dict[str, Handle] = field(default_factory=dict)
    work: int = 0

    def at_work(self, *names: str) -> None:
        """Load these models.

        Raises:
            Interrupted: The user has stopped the run.
        """
        if comfy.model_management.processing_interrupted():
            raise Interrupted
        large = self.large()
        if all(_device(part) in (None, self.device) for name in names for part in large[name]):
            return
        for name in names:
            decoder = self.handles["decoder"]
            patcher = {"texts": decoder.text_patcher, "vae": decoder.vae_patcher, "unet": decoder.patcher}.get(name)
            if patcher is not None:
                load(patcher, work=self.work)
            elif name in self.handles and self.handles[name].patcher is not None:
                load(self.handles[name].patcher, work=self.work)  # type: ignore[arg-type]
            elif name in self.handles:
                make_ready(self.handles[name])


def _device(part: Any) -> torch.device | None:
    """Return where a model is, None for one without weights; "meta" for one that is only partly on a device."""
    devices = {each.device for each in part.parameters()} if part is not None else set()
    return None if not devices else devices.pop() if len(devices) == 1 else torch.device("meta")


@contextmanager
def training_models(
    language: Handle, vision: Handle, decoder: Handle, adapter: Handle, *, dtype: str, checkpointing: bool
) -> Iterator[ManagedModels]:
    """Give the models of a training, and a copy of the adapter that can be trained; leave the others as they were.

    Args:
        language: The language model.
        vision: The vision encoder.
        decoder: The decoder.
        adapter: The adapter to begin with.
        dtype: What is computed in: "bf16" or "fp32".
        checkpointing: Whether activations are computed twice instead of kept.

    Raises:
        ValueError: A model cannot be trained with, or they do not fit together.
    """
    check_models(language, vision, decoder, adapter)
    device = comfy.model_management.get_torch_device()
    # What is remembered of prompts belongs to inference mode as well.
    language.part.forget()
    modules = [language.part.model, language.part.visual_projection, vision.part.model, decoder.part.unet]
    modules += [decoder.part.vae, decoder.part.text_encoder, decoder.part.text_encoder_2]
    for module in modules:
        if module is not None:
            make_plain(module)
    copy = M3Adapter(adapter.part.config)
    copy.load_state_dict(
        {name: value.detach().float().cpu().clone() for name, value in adapter.part.state_dict().items()}
    )
    copy.to(device).requires_grad_(False).eval()
    context: Any = partial(torch.autocast, device.type, torch.bfloat16) if dtype == "bf16" else nullcontext
    weights = sum(value.numel() * value.element_size() for value in copy.state_dict().values())
    work = BESIDE_WEIGHTS * weights + comfy.model_management.minimum_inference_memory()
    vae = decoder.part.vae
    stored = vae.dtype  # a training computes latents in float32
    unet, writes = decoder.part.unet, language.part.model
    layers = recomputed_layers(writes) if checkpointing else ()
    if checkpointing:
        unet.enable_gradient_checkpointing()
    try:
        yield ManagedModels(
            language.part, vision.part, decoder.part, copy, device, context,
            recomputed=layers, handles={"language": language, "vision": vision, "decoder": decoder}, work=work,
        )  # fmt: skip
    finally:
        if checkpointing:
            unet.disable_gradient_checkpointing()
        if layers:
            writes.gradient_checkpointing_disable()
            for layer in layers:
                layer.training = False
        if vae.dtype != stored:
            vae.to(stored)
        language.part.forget()


def check_models(language: Handle, vision: Handle, decoder: Handle, adapter: Handle) -> None:
    """Raise ValueError, naming the input, if these models cannot be trained with."""
    if type(language.part) is not LanguageModel:
        raise ValueError(
            "language_model is a text encoder of ComfyUI's, which knows nothing of gradients: load it with Load "
            "Language Model."
        )
    if not isinstance(adapter.part, M3Adapter):
        raise ValueError(
            "adapter is that of the official release, which is not trained here: connect New M3-Adapter, or Load "
            "M3-Adapter with one of this pack's."
        )
    if decoder.helpers:
        raise ValueError("decoder has an IP-Adapter: connect the decoder itself, as its loader gives it.")
    config = adapter.part.config
    for name, made_for, given in (
        ("language_model", config.llm_width, language.part.hidden_size),
        (
            "vision_encoder",
            (config.vision_width, config.vision_levels),
            (vision.part.hidden_size, len(vision.part.levels)),
        ),
        ("decoder", (config.embed_width, config.pooled_width), (decoder.part.embed_width, decoder.part.pooled_width)),
    ):
        if made_for != given:
            raise ValueError(
                f"adapter is made for a {name} of width {made_for}, and this one has {given}: connect New M3-Adapter "
                f"with the same {name}."
            )


def make_plain(module: torch.nn.Module) -> None:
    """Let weights take part in gradients, none of which are theirs: as plain tensors of the same memory."""
    made: dict[int, torch.nn.Parameter] = {}  # some weights are in a model twice
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is None:
                continue
            if value.is_inference() and type(value) is torch.nn.Parameter:
                if id(value) not in made:
                    made[id(value)] = torch.nn.Parameter(torch.from_dlpack(value.detach()), requires_grad=False)
                part._parameters[name] = made[id(value)]
            elif not value.is_inference():
                value.requires_grad_(False)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_inference():
                part._buffers[name] = torch.from_dlpack(buffer)
