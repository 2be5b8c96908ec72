"""Loads IP-Adapter weights from a file."""

from __future__ import annotations

from pathlib import Path

import comfy.ops
from comfy_api.latest import io

from ..m3adapter.ip_adapter.files import check_file
from ..m3adapter.ip_adapter.ip_adapter import load_ip_adapter
from . import folders, wires
from .errors import complaint, names_node, with_packages
from .memory import handle, offload_device

SUFFIXES = (".safetensors", ".bin")


def _is_ip_adapter(path: Path) -> bool:
    """Return whether a file may be an IP-Adapter; a vision encoder beside it has a folder with a configuration."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not (path.parent / "config.json").is_file()


IP_ADAPTERS = folders.Shelf({"ipadapter": _is_ip_adapter})


def _check(name: str) -> None:
    check_file(IP_ADAPTERS.find(name))


class LoadIPAdapter(io.ComfyNode):
    """Loads IP-Adapter weights from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadIPAdapter",
            display_name="Load IP-Adapter",
            category="M2Chat/loaders",
            description="Loads IP-Adapter weights for SDXL (base, plus, plus-face) from models/ipadapter.",
            search_aliases=["ip-adapter", "ipadapter loader", "image prompt", "consistent character"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=IP_ADAPTERS.choices(),
                    tooltip="A .safetensors or .bin file in models/ipadapter. Its kind is recognised from its "
                    "contents.",
                )
            ],
            outputs=[
                wires.IPAdapter.Output(display_name="ip_adapter", tooltip="For IP-Adapter Reference."),
                io.String.Output(
                    display_name="report", tooltip="What the file contains, and which vision encoder it needs."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Refuse anything but IP-Adapters for SDXL before anything runs; only the header of a file is read."""
        return complaint(_check, file)

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> str:
        """Return a text that changes when the file does."""
        return IP_ADAPTERS.fingerprint(file)

    @classmethod
    @names_node
    def execute(cls, file: str) -> io.NodeOutput:
        """Load it into main memory; ComfyUI moves it to the device when it is used."""
        path = IP_ADAPTERS.find(file)
        with with_packages():
            adapter = load_ip_adapter(path, operations=comfy.ops.manual_cast, device=offload_device())
        return io.NodeOutput(handle(adapter, streams=True, model=adapter), adapter.config.describe())


NODES = [LoadIPAdapter]
