"""ComfyUI's view of the pack: the nodes, one file for each topic, and what connects them to the library `m3adapter`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    adapters,
    adaptive_gate,
    cast,
    character_sheet,
    clip_language,
    clip_vision,
    conversation,
    datasets,
    describing,
    diffusion_loading,
    editing,
    export,
    export_routes,
    folders,
    gate_references,
    gate_sweep,
    ip_adapter,
    ip_adapter_loading,
    language_loading,
    loading,
    next_picture,
    pages,
    picture,
    planning,
    reply,
    save_adapter,
    session_routes,
    sessions,
    stock,
    stock_painter,
    story,
    story_writing,
    text_and_pictures,
    training,
)

NODES: list[type[io.ComfyNode]] = [
    *loading.NODES,
    *language_loading.NODES,
    *diffusion_loading.NODES,
    *adapters.NODES,
    *conversation.NODES,
    *reply.NODES,
    *picture.NODES,
    *next_picture.NODES,
    *text_and_pictures.NODES,
    *gate_sweep.NODES,
    *story.NODES,
    *pages.NODES,
    *planning.NODES,
    *cast.NODES,
    *character_sheet.NODES,
    *describing.NODES,
    *sessions.NODES,
    *editing.NODES,
    *story_writing.NODES,
    *export.NODES,
    *stock.NODES,
    *stock_painter.NODES,
    *clip_vision.NODES,
    *ip_adapter_loading.NODES,
    *ip_adapter.NODES,
    *gate_references.NODES,
    *adaptive_gate.NODES,
    *clip_language.NODES,
    *datasets.NODES,
    *training.NODES,
    *save_adapter.NODES,
]


class M2ChatExtension(ComfyExtension):
    """The extension with all nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the node classes; ComfyUI calls this once at its start."""
        folders.register()
        session_routes.register()
        export_routes.register()
        return NODES


async def comfy_entrypoint() -> M2ChatExtension:
    """Return the extension; ComfyUI calls this once."""
    return M2ChatExtension()
