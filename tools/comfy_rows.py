"""The rows of the benchmark that are measured in ComfyUI: turns of the gate, previews, and a whole story.

Time is measured from queueing to the picture, or to the end of the story, as a waiting user would.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from m3adapter.benchmark.command import IN_COMFYUI
from m3adapter.benchmark.rows import Bench, Group
from m3adapter.benchmark.timing import Figure, Rounds, figure, interleave, ratio

from . import comfy, environment, story

GRAPH = environment.REPO / "tests" / "workflows" / "dialogue.json"
FIRST, SECOND = "4:", "5:"  # the turns, by the ids of the nodes in them
SHOWN = "shown"
STEPS, PREVIEW_STEPS = 20, 4  # the latter as in web/live_gate.js
PREVIEWS = {"none": "none", "default": None, "latent2rgb": "latent2rgb"}  # as a page asks for them

Json = dict[str, Any]


def of_second_turn(nodes: Json, node_id: str) -> str:
    """Return the key of the node of a type in the second turn."""
    return next(key for key, node in nodes.items() if key.startswith(SECOND) and node["class_type"] == node_id)


NODES = json.loads(GRAPH.read_text("utf-8"))
REPLY, FUSE, DECODE = (of_second_turn(NODES, f"M2Chat_{name}") for name in ("Reply", "FuseM3Adapter", "Decode"))


class SecondTurn:
    """The second turn of the template `dialogue` on a server, up to its picture.

    Args:
        server: A running ComfyUI.
        steps: Denoising steps of a picture.
    """

    def __init__(self, server: comfy.Server, steps: int = STEPS) -> None:
        before = {
            key for key, node in NODES.items() if node["class_type"] in ("M2Chat_LoadStarter", "M2Chat_Conversation")
        }
        nodes = {key: node for key, node in NODES.items() if key in before or key.startswith((FIRST, SECOND))}
        self.server, self.steps = server, steps
        self.graph: Json = copy.deepcopy(nodes)
        self.graph[SHOWN] = {"class_type": "PreviewImage", "inputs": {"images": [DECODE, 0]}}
        self.graph[DECODE]["inputs"]["steps"] = steps
        self.seen = 0  # images of the picture in the making, in the last run
        self._drawn = 0

    def whole(self, number: int) -> None:
        """Run the whole turn, with another reply."""
        self._drawn += 1
        self.graph[REPLY]["inputs"]["sampling_mode.seed"] = self._drawn
        self.run({REPLY, FUSE, DECODE})

    def picture(self, previews: str | None = None) -> None:
        """Paint the picture with another seed."""
        self._drawn += 1
        self.graph[DECODE]["inputs"]["seed"] = self._drawn
        self.run({DECODE}, previews)

    def turn_gate(self, steps: int) -> None:
        """Turn the gate, and paint the picture in this many steps."""
        self._drawn += 1
        self.graph[FUSE]["inputs"]["gate"] = 0.5 + self._drawn / 1000
        self.graph[DECODE]["inputs"]["steps"] = steps
        self.run({FUSE, DECODE})
        self.graph[DECODE]["inputs"]["steps"] = self.steps

    def run(self, runs: set[str], previews: str | None = None) -> None:
        """Queue the graph and wait for the end.

        Raises:
            RuntimeError: Nodes of the second turn other than `runs` ran, so the time would be that of something else.
        """
        ran: set[str] = set()
        self.seen = 0

        def take(event: Json) -> None:
            node = event["data"].get("node")
            if event["type"] == "executing" and node in (REPLY, FUSE, DECODE):
                ran.add(node)
            self.seen += event["type"] == "preview"

        comfy.succeeded(self.server.follow(self.graph, take, previews=previews))
        if ran != runs:
            raise RuntimeError(f"Of the second turn, the nodes {sorted(ran)} ran, not {sorted(runs)}.")


def gate_rounds(turn: SecondTurn, rounds: int) -> Rounds:
    """Return the seconds of each way to a picture in each round."""
    preview = min(PREVIEW_STEPS, turn.steps)
    turn.whole(0)  # what the others need to have run before
    return interleave(
        {
            "whole turn": turn.whole,
            "picture alone": lambda number: turn.picture(),
            "gate turned, preview": lambda number: turn.turn_gate(preview),
            "gate turned": lambda number: turn.turn_gate(turn.steps),
        },
        rounds,
        clock="wall",
    )


def preview_rounds(turn: SecondTurn, rounds: int) -> tuple[Rounds, dict[str, float]]:
    """Return the seconds of a picture with each kind of previews in each round, and how many images came."""
    came: dict[str, float] = {}

    def paint(name: str, number: int) -> None:
        turn.picture(PREVIEWS[name])
        came[f"images by {name}"] = float(turn.seen)

    times = interleave({name: partial(paint, name) for name in PREVIEWS}, rounds, clock="wall")
    return times, came


def story_seconds(folder: Path) -> tuple[float, float]:
    """Start a ComfyUI and return the seconds that a story of four panels takes at first, and another after it."""
    found = []
    with started(folder) as server:
        for gate in (1.0, 1.001):  # the same words, painted again
            graph = story.load_graph(story.GRAPH, {"panels": 4, "gate": gate})
            began = time.perf_counter()
            comfy.succeeded(server.follow(graph, lambda event: None))
            found.append(time.perf_counter() - began)
    return found[0], found[1]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[comfy.Server]:
    """Start a ComfyUI that may use all cores, and wait until it answers."""
    flags = environment.prepare_base(folder)
    device = [] if environment.has_accelerator() else ["--cpu"]
    before = os.environ.pop("OMP_NUM_THREADS", None)
    try:
        server = comfy.Server(environment.PYTHON, environment.ENGINE, *flags, *device, log=folder / "comfyui.log")
    finally:
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    with server:
        server.wait_ready()
        yield server


def measure(bench: Bench) -> dict[str, Figure | str]:
    """Measure the wanted rows."""
    found: dict[str, Figure | str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if set(bench.wanted) & {row.key for row in IN_COMFYUI if not row.key.startswith("story4")}:
            with started(folder) as server:
                turn = SecondTurn(server)
                gate = gate_rounds(turn, bench.rounds(15, 3))
                previews, came = preview_rounds(turn, bench.rounds(15, 2))
            found |= {
                "gate_turn_over_picture": ratio(gate, "gate turned", "picture alone"),
                "gate_preview_over_picture": ratio(gate, "gate turned, preview", "picture alone"),
                "turn_over_picture": ratio(gate, "whole turn", "picture alone"),
                "previews_over_none": with_sides(ratio(previews, "default", "none"), came),
                "previews_latent2rgb_over_none": with_sides(ratio(previews, "latent2rgb", "none"), came),
            }
        if {"story4_seconds", "story4_again_seconds"} & set(bench.wanted):
            if not found:  # an earlier start has read the files
                story_seconds(folder)
            times = [story_seconds(folder) for _ in range(bench.rounds(5, 1))]
            found["story4_seconds"], found["story4_again_seconds"] = (figure(part) for part in zip(*times, strict=True))
    return found


def with_sides(found: Figure, more: dict[str, float]) -> Figure:
    """Return a figure with more of what was compared."""
    return Figure(found.value, found.spread, found.rounds, {**found.sides, **more})


GROUPS = (Group(IN_COMFYUI, measure),)
