"""A real ComfyUI for the tests: the server of ``tools.comfy``, with what only tests need."""

from __future__ import annotations

import io
import json
import os
import urllib.parse
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from tools import comfy, environment

may_start = True  # set for each test by conftest.py


def check_start() -> None:
    """Fail a test that is about to start ComfyUI and is not marked ``comfy``."""
    assert may_start, "a test that starts ComfyUI is to be marked `comfy`"


class ComfyServer(comfy.Server):
    """A ComfyUI with this pack in it, and a base directory of its own.

    It runs on the CPU, or on the device of ComfyUI's choice if M2CHAT_ACCELERATOR is set.

    Args:
        base: an empty folder for its base directory.
        arguments: more command-line arguments for ComfyUI, say ``"--cache-none"``.
    """

    log: Path

    def __init__(self, base: Path, *arguments: str) -> None:
        check_start()
        self.base = base
        self.output_dir = base / "output"
        self.input_dir = base / "input"
        flags = environment.prepare_base(base)
        for name in ("toy_painters.py", "front_ends.py"):
            if not (link := base / "custom_nodes" / name).exists():
                link.symlink_to(Path(__file__).with_name(name))
        if not os.environ.get("M2CHAT_ACCELERATOR"):
            flags.append("--cpu")
        super().__init__(environment.PYTHON, environment.ENGINE, *flags, *arguments, log=base / "comfyui.log")

    def object_info(self) -> dict[str, Any]:
        """Return the description of every node, by node id."""
        return self.get("/object_info")

    def follow(
        self,
        graph: dict[str, Any],
        on_event: Callable[[dict[str, Any]], None],
        timeout: float = 600.0,
        *,
        previews: str | None = None,
    ) -> dict[str, Any]:
        """Follow a run in a thread, in which `on_event` is called: while a browser is open, this one has a loop."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(super().follow, graph, on_event, timeout, previews=previews).result()

    def events(
        self,
        graph: dict[str, Any],
        on_event: Callable[[dict[str, Any]], None] | None = None,
        timeout: float = 600.0,
        previews: str | None = None,
    ) -> list[dict[str, Any]]:
        """Run a graph and return its websocket events; ``on_event`` sees each as it comes and may, say, interrupt."""
        seen: list[dict[str, Any]] = []

        def take(event: dict[str, Any]) -> None:
            seen.append(event)
            if on_event:
                on_event(event)

        self.follow(graph, take, timeout, previews=previews)
        return seen

    def interrupt(self) -> None:
        """Interrupt the current run."""
        self.request("/interrupt", b"{}")

    def free(self) -> None:
        """Make ComfyUI drop its models and its cache, as the unload buttons do; it does so shortly after."""
        self.request("/free", json.dumps({"unload_models": True, "free_memory": True}).encode())

    def upload_image(self, image: Path | Image.Image, name: str | None = None) -> str:
        """Put an image into the input folder through HTTP and return the name that LoadImage takes."""
        if isinstance(image, Path):
            data, name = image.read_bytes(), name or image.name
        else:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            data, name = buffer.getvalue(), name or f"{uuid.uuid4().hex}.png"
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))["name"]

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """Return a file by its ComfyUI reference: ``view(**entry["outputs"]["9"]["images"][0])``."""
        query = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        return self.request(f"/view?{query}")
