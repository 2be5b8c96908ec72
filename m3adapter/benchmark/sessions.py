"""Rows about sessions: how long one with large pictures takes to open, and its memory until they are viewed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ..conversation.conversation import Conversation
from . import tales
from .rows import Bench, Group, Row
from .timing import Figure, Rounds, figure, interleave, ratio

PICTURES, SIDE = 40, 1024
# In a process of its own, so that nothing else has used its memory.
OPEN = """
import json, os, sys, time
from pathlib import Path
import torch
from m3adapter.conversation.conversation import Conversation
from m3adapter.benchmark.sessions import resident

Conversation.load(sys.argv[2])  # a first call also imports
before = resident()
began = time.process_time()
story = Conversation.load(sys.argv[1])
seconds = time.process_time() - began
opened = resident() - before
began = time.process_time()
pixels = sum(story.picture(slot).pixels.numel() for slot in story.pictures())
print(json.dumps({"seconds": seconds, "mb": opened, "looked": time.process_time() - began, "pixels": pixels}))
"""


def resident() -> float:
    """Return the memory in MB that this process takes, or -1 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return -1.0
    return int(status.read_text("ascii", "replace").split("VmRSS:")[1].split()[0]) / 1024


SESSIONS = Group(
    (
        Row("session40_seconds", f"opening a session of {PICTURES} pictures of {SIDE} × {SIDE} pixels", "s", goal=0.2),
        Row("session40_save_over_copy", "saving it after one more turn / writing all of it", "x", "wall"),
        Row("session40_mb", "memory that it takes until they are looked at", "MB", "count", 50),
    ),
    lambda bench: sessions(bench),
)


def sessions(bench: Bench, count: int = PICTURES, side: int = SIDE) -> dict[str, Figure | str]:
    """Measure the opening of a session in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        illustrated(count, side).save(large)
        illustrated(1, 16).save(small)
        saved = saving(large, bench.rounds(7, 2))
        found = []
        for _ in range(bench.rounds(7, 2)):
            command = [sys.executable, "-c", OPEN, str(large), str(small)]
            done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    looked = {"looking at all of them": figure([one["looked"] for one in found]).value}
    figures: dict[str, Figure | str] = {"session40_seconds": figure([one["seconds"] for one in found], looked)}
    figures["session40_save_over_copy"] = ratio(saved, "saved again", "written whole")
    figures["session40_mb"] = (
        figure([one["mb"] for one in found]) if resident() >= 0 else "this system does not say what a process takes"
    )
    return figures


def saving(folder: Path, rounds: int) -> Rounds:
    """Save a session with one more turn where it was opened, and to new folders."""
    story = Conversation.load(folder)
    return interleave(
        {
            "saved again": lambda number: story.user(f"And then, {number}?").save(folder),
            "written whole": lambda number: story.user(f"And then, {number}?").save(f"{folder} {number}"),
        },
        rounds,
        clock="wall",
    )


def illustrated(count: int, side: int) -> Conversation:
    """Return a story of so many pictures, each different from the others."""
    import torch

    ramp = torch.linspace(0, 1, side)
    plane = torch.stack(
        [ramp[:, None].expand(side, side), ramp.expand(side, side), ramp.flip(0).expand(side, side)], -1
    )
    conversation = Conversation()
    for number in range(count):
        conversation = conversation.user("What happens next?")
        # In blocks, for single grains take half a minute to compress.
        grain = torch.rand(side // 8, side // 8, 1, generator=torch.Generator().manual_seed(number))
        grain = grain.repeat_interleave(8, 0).repeat_interleave(8, 1)
        conversation = conversation.assistant(tales.reply(number, (plane * 0.9 + 0.1 * grain).clamp(0, 1)))
    return conversation


GROUPS = (SESSIONS,)
