"""M²Chat for ComfyUI: interleaved text and images from one multimodal language model."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
