"""A custom node that makes ComfyUI on a CPU treat weights as it does on NVIDIA's cards, by its "dynamic VRAM".

Its own layers are made without weights there and get those of the checkpoint, in the checkpoint's type; its patchers
leave weights where they are, and the layers cast them. What moves the bytes is a library for CUDA: it is left out here.
"""

from __future__ import annotations

from typing import Any

import comfy.memory_management
import comfy.model_management as management
import comfy.model_patcher
import comfy.utils
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import safetensors
import torch

# The CPU by another name, which ComfyUI takes for an accelerator.
DEVICE = torch.device("cpu:0")


class NoBuffer:
    """In place of pinned memory."""

    size = 0

    def __init__(self, *_: Any) -> None:
        pass


def load(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights and metadata of a file, without its mapping of files."""
    with safetensors.safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


comfy.utils.load_safetensors = load
comfy_aimdo.host_buffer.HostBuffer = NoBuffer
comfy_aimdo.model_vbar.vbars_analyze = lambda device: 0
management.vram_state = management.VRAMState.NORMAL_VRAM
management.get_torch_device = lambda: DEVICE
management.is_device_cpu = lambda device: device != DEVICE
comfy.model_patcher.ModelPatcherDynamic._vbar_get = lambda self, create=False: None
comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
comfy.memory_management.aimdo_enabled = True

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
