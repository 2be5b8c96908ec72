"""What a run in ComfyUI did and showed."""

from __future__ import annotations

import io
import json
import subprocess
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


def inside(scenario: str, *arguments: object) -> dict[str, Any]:
    """The result of a scenario of inside_comfy.py."""
    check_start()
    command = [environment.PYTHON, Path(__file__).with_name("inside_comfy.py"), scenario, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
