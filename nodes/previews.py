"""Previews of pictures while they are painted: ComfyUI's own, as its settings say, and only if a page is watching."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.latent_formats
import latent_preview
from PIL.Image import Image
from server import PromptServer

from ..m3adapter.diffusion.finite import is_finite
from ..m3adapter.diffusion.preview import LatentRGB, Preview

EVERY = 0.25  # seconds; making one takes no time, but the server enlarges and compresses it (5 ms)
SDXL_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class StockPreview:
    """What is known about a picture while a stock model samples it.

    Attributes:
        latents: The latest estimate of its latents [B, C, h, w], or [B, C, T, h, w].
        layout: What these are like.
    """

    latents: Any
    layout: comfy.latent_formats.LatentFormat

    @property
    def is_finite(self) -> bool:
        """Whether there is anything to see. On an accelerator this waits for the step."""
        return is_finite(self.latents[:1])

    def __call__(self) -> None:
        """Return nothing: only ComfyUI's previewers know how to show it."""


ProgressPreview = tuple[str, Image, int]


class Previews:
    """The previews of one run of a node.

    ComfyUI chooses how they are made: by `--preview-method`, or by the setting of the page that queued the workflow.
    The VAE takes no part in them.
    """

    def __init__(self) -> None:
        self._previewers: dict[Any, Any] = {}
        self._made = float("-inf")

    def make(self, preview: Preview | StockPreview) -> ProgressPreview | None:
        """Return a preview for ComfyUI's progress bar; None if no page is watching, or one was made a moment ago."""
        if time.monotonic() - self._made < EVERY or not is_watched():
            return None
        previewer = self._previewer(preview)
        if previewer is None or not preview.is_finite:
            return None
        made: ProgressPreview = previewer.decode_latent_to_preview_image("JPEG", preview.latents[:1].float())
        self._made = time.monotonic()
        return made

    def _previewer(self, preview: Preview | StockPreview) -> Any:
        """Return ComfyUI's previewer for the latents of a model; None if previews are off, or it has none."""
        channels = preview.latents.shape[1]
        key = preview.layout if isinstance(preview, StockPreview) else (preview.latent_rgb, channels)
        if key not in self._previewers:
            if isinstance(preview, StockPreview):
                layout = preview.layout
            else:
                layout = latent_format(preview.latent_rgb, channels, preview.vae_config)
            self._previewers[key] = latent_preview.get_previewer(preview.latents.device, layout)
        return self._previewers[key]


def is_watched() -> bool:
    """Return whether a page shows what the running workflow sends."""
    server = PromptServer.instance
    # What no page has queued is sent to all pages.
    return bool(server.sockets) if server.client_id is None else server.client_id in server.sockets


def latent_format(
    latent_rgb: LatentRGB | None, channels: int, vae_config: Mapping[str, Any]
) -> comfy.latent_formats.LatentFormat:
    """Return ComfyUI's description of latents of this many channels, as its previewers read it."""
    if latent_rgb is None and channels == SDXL_CHANNELS:
        normalised = vae_config.get("latents_mean") is not None
        return (comfy.latent_formats.SDXL_Playground_2_5 if normalised else comfy.latent_formats.SDXL)()
    found = comfy.latent_formats.LatentFormat()
    found.latent_channels = channels
    if latent_rgb is not None:
        found.latent_rgb_factors = latent_rgb.latent_rgb_factors
        found.latent_rgb_factors_bias = latent_rgb.latent_rgb_factors_bias
    return found
