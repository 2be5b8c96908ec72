"""The models of a training, and which of them are on the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..diffusion.batches import release_memory

if TYPE_CHECKING:
    from ..adapter.m3_adapter import M3Adapter
    from ..adapter.vision_encoder import VisionEncoder
    from ..diffusion.decoder import DiffusionDecoder
    from ..language.language_model import LanguageModel


@dataclass
class Models:
    """The models of a training; `device` is where they work.

    Attributes:
        offload: Whether only those that work stay on the device.
        autocast: Makes the context in which trained and frozen models compute.
        let_go: Whether the language model is gone.
        recomputed: Layers of the language model whose activations are not kept for gradients.
        taught: Whether gradients flow through the language model, which then stays where it works: weights that move
            between a loss and its gradients are lost to these.
        told: Called between steps with what is being done, how much of it is done, and how much there is.
    """

    language: LanguageModel
    vision: VisionEncoder
    decoder: DiffusionDecoder
    adapter: M3Adapter
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]]
    offload: bool = False
    let_go: bool = False
    recomputed: tuple[nn.Module, ...] = ()
    taught: bool = False
    told: Callable[[str, int, int], None] | None = None

    def tell(self, work: str, done: int, count: int) -> None:
        """Say how far a piece of work is, if anybody listens."""
        if self.told is not None:
            self.told(work, done, count)

    def recompute(self, wanted: bool) -> None:
        """Say whether the language model computes its layers again for gradients; layers do so in training mode only.

        Nothing else of it is in training mode, and where no gradients flow, such layers would not read in blocks.
        """
        for layer in self.recomputed:
            layer.training = wanted

    def let_language_go(self) -> None:
        """Free the memory of a language model that cannot be moved off the device, once it has said everything."""
        self.language.forget()
        self.language.model = nn.Module()  # type: ignore[assignment]
        self.let_go = True
        release_memory(self.device)

    def large(self) -> dict[str, list[Any]]:
        """Return the frozen models by what they are for."""
        texts = [self.decoder.text_encoder, self.decoder.text_encoder_2]
        return {
            "language": [self.language.model, self.language.visual_projection],
            "vision": [self.vision.model],
            "texts": texts,
            "vae": [self.decoder.vae],
            "unet": [self.decoder.unet],
        }

    def at_work(self, *names: str) -> None:
        """Put these models on the device and, where memory is short, all others off it."""
        moved = False
        for name, parts in self.large().items():
            for model in parts:
                if model is None or (name == "language" and (self.let_go or not self.language.movable)):
                    continue
                stays = name in names or (name == "language" and self.taught)
                where = self.device if stays else torch.device("cpu")
                if (stays or self.offload) and next(model.parameters()).device != where:
                    if name == "language":
                        self.language.forget()
                    model.to(where)
                    moved = True
        if self.offload and moved:  # it takes long, and this is asked before every piece of work
            release_memory(self.device)
