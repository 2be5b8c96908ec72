"""Saves an M3-Adapter."""

from __future__ import annotations

import re
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..m3adapter.adapter.auto import save_adapter
from ..m3adapter.adapter.m3_adapter import M3Adapter
from ..m3adapter.values import shown as quoted
from . import inputs, wires
from .errors import complaint, names_node
from .memory import Handle
from .running import ShowsText, show_text, shown

NAME = re.compile(r"\w(?:[\w .()+-]{0,78}[\w)+-])?")
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)


def check_file_name(name: str, text: str) -> None:
    """Raise ValueError unless a text can be the name of a file or folder on every system."""
    if not NAME.fullmatch(text) or RESERVED.fullmatch(text):
        raise ValueError(
            f"{name} is {quoted(text)}: give a name of at most 80 letters, digits, spaces, hyphens and underscores."
        )


class SaveAdapter(ShowsText, io.ComfyNode):
    """Saves an adapter where Load M3-Adapter finds it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_SaveAdapter",
            display_name="Save M3-Adapter",
            category="M2Chat/training",
            description="Saves an M3-Adapter in models/m2chat, for Load M3-Adapter. It never replaces a file.",
            search_aliases=["save lora", "store adapter", "export adapter", "checkpoint"],
            inputs=[
                inputs.adapter(tooltip="The M3-Adapter to save. From Train M3-Adapter."),
                io.String.Input(
                    "prefix",
                    default="my_adapter",
                    tooltip="The name of the file, to which steps and a number are added; a / makes a folder.",
                ),
                io.Int.Input(
                    "steps",
                    optional=True,
                    force_input=True,
                    tooltip="How many steps it was trained for, which its name then says. From Train M3-Adapter.",
                ),
            ],
            outputs=[
                wires.Adapter.Output(display_name="adapter", tooltip="The same M3-Adapter, to be passed on."),
                io.String.Output(display_name="file", tooltip="Its name in the list of Load M3-Adapter."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, prefix: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return complaint(_check_prefix, prefix)

    @classmethod
    @names_node
    def execute(cls, adapter: Handle, prefix: str, steps: int | None = None) -> io.NodeOutput:
        """Write it to a new file."""
        _check_prefix(prefix)
        if not isinstance(adapter.part, M3Adapter):
            raise ValueError(
                "adapter is that of the official release, which its own file holds already: use that file."
            )
        root = Path(folder_paths.get_folder_paths("m2chat")[0])
        told = "" if steps is None else f"_{steps}_steps"
        (root / prefix).parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = root / f"{prefix}{told}_{number:05}.safetensors"
            try:
                path.touch(exist_ok=False)  # nobody else can take this name from now on
                break
            except FileExistsError:
                number += 1
        try:
            save_adapter(path, adapter.part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        name = f"m2chat/{path.relative_to(root).as_posix()}"
        text = f"Saved as {name}."
        show_text(text)
        return io.NodeOutput(adapter, name, ui=shown(text))


def _check_prefix(prefix: str) -> None:
    for part in prefix.split("/"):
        check_file_name("prefix", part)


NODES = [SaveAdapter]
