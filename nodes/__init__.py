"""ComfyUI's view of the pack: its nodes, a file per topic, and what connects them to the library `m3adapter`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    adapters,
    clip_language,
    clip_vision,
    conversation,
    diffusion_loading,
    export,
    folders,
    language_loading,
    loading,
    picture,
    reply,
    stock,
    story,
)

NODES: list[type[io.ComfyNode]] = [
    *loading.NODES,
    *language_loading.NODES,
    *diffusion_loading.NODES,
    *adapters.NODES,
    *conversation.NODES,
    *reply.NODES,
    *picture.NODES,
    *story.NODES,
    *export.NODES,
    *stock.NODES,
    *clip_vision.NODES,
    *clip_language.NODES,
]


class M2ChatExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Ask for the node classes, as ComfyUI does once at its start."""
        folders.register()
        return NODES


async def comfy_entrypoint() -> M2ChatExtension:
    """Where ComfyUI enters the pack."""
    return M2ChatExtension()
