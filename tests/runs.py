"""What a run in ComfyUI did and showed."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from comfy_server import ComfyServer, check_start
from tools import environment

Event = dict[str, Any]


def ran(events: list[Event]) -> set[str]:
    """Which nodes a run executed."""
    return {event["data"]["node"] for event in events if event["type"] == "executing" and event["data"]["node"]}


def picture(comfy: ComfyServer, entry: Event, name: str, index: int = 0) -> Image.Image:
    """A picture that a node of a finished run shows."""
    return Image.open(io.BytesIO(comfy.view(**entry["outputs"][name]["images"][index]))).convert("RGB")


def same(one: Image.Image, other: Image.Image, tolerance: int = 0) -> bool:
    """Whether two pictures are equal, up to a tolerance in each 8-bit value."""
    difference = ImageChops.difference(one, other)
    return one.size == other.size and max(high for _, high in difference.getextrema()) <= tolerance


def text(entry: Event, name: str = "show") -> str:
    """The text that a node of a finished run shows."""
    return entry["outputs"][name]["text"][0]


_process: subprocess.Popen[str] | None = None


def inside(scenario: str, *arguments: object) -> dict[str, Any]:
    """The result of a scenario of inside_comfy.py."""
    global _process
    check_start()
    if _process is None or _process.poll() is not None:
        command = [str(environment.PYTHON), str(Path(__file__).with_name("inside_comfy.py"))]
        _process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log.txt")
        assert _process.stdin and _process.stdout
        print(json.dumps([scenario, [*map(str, arguments)], str(result), str(log)]), file=_process.stdin, flush=True)
        overdue = threading.Timer(600, _process.kill)
        overdue.start()
        for line in _process.stdout:
            if line.startswith("ENDED "):
                break
        else:
            _process.wait()
        overdue.cancel()
        assert result.is_file(), log.read_text("utf-8")[-3000:] if log.is_file() else "inside_comfy.py did not start"
        return json.loads(result.read_text("utf-8"))
