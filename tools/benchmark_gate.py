"""Measure what turning the gate costs in ComfyUI, in comparison with a whole turn and with painting alone.

    python -m tools.benchmark_gate

Starts ComfyUI with the pack and runs the second turn of the template `dialogue`. Each round measures the time from
queueing to the picture for the whole turn (another reply), the picture alone (another seed of the decoder), and a turn
of the gate with the preview's steps and with all steps, as the live gate queues them. Medians are reported, and ratios
compare times of the same round. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import comfy, environment

GRAPH = environment.REPO / "tests" / "workflows" / "dialogue.json"
FIRST, SECOND = "4:", "5:"  # the turns, by the ids of the nodes in them
SHOWN = "shown"
PREVIEW_STEPS = 4  # as in web/live_gate.js

Json = dict[str, Any]


def of_second_turn(nodes: Json, node_id: str) -> str:
    """Return the key of the node of a type in the second turn."""
    return next(key for key, node in nodes.items() if key.startswith(SECOND) and node["class_type"] == node_id)


NODES = json.loads(GRAPH.read_text("utf-8"))
REPLY, FUSE, DECODE = (of_second_turn(NODES, f"M2Chat_{name}") for name in ("Reply", "FuseM3Adapter", "Decode"))


def second_turn() -> Json:
    """Return the graph of the template up to the picture of its second turn, which it shows."""
    before = {key for key, node in NODES.items() if node["class_type"] in ("M2Chat_LoadStarter", "M2Chat_Conversation")}
    graph = {key: node for key, node in NODES.items() if key in before or key.startswith((FIRST, SECOND))}
    graph[SHOWN] = {"class_type": "PreviewImage", "inputs": {"images": [DECODE, 0]}}
    return graph


def seconds(server: comfy.Server, graph: Json, runs: set[str]) -> float:
    """Return the seconds from queueing to the picture.

    Args:
        server: A running ComfyUI.
        graph: What to queue.
        runs: Nodes of the second turn that must run.

    Raises:
        RuntimeError: Other nodes ran, so that the time would be that of something else.
    """
    began = time.perf_counter()
    shown: float | None = None
    ran: set[str] = set()

    def take(event: Json) -> None:
        nonlocal shown
        node = event["data"].get("node")
        if event["type"] == "executing" and node in (REPLY, FUSE, DECODE):
            ran.add(node)
        if event["type"] == "executed" and node == SHOWN:
            shown = time.perf_counter() - began

    comfy.succeeded(server.follow(graph, take))
    if shown is None or ran != runs:
        raise RuntimeError(f"In the second turn, the nodes {sorted(ran)} ran instead of {sorted(runs)}.")
    return shown


def measure(server: comfy.Server, repeats: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds of each way to a picture in each round; a first round does not count."""
    graph = copy.deepcopy(second_turn())
    graph[DECODE]["inputs"]["steps"] = steps
    times: dict[str, list[float]] = {"turn": [], "picture": [], "preview": [], "gate": []}
    for number in range(repeats + 1):
        graph[REPLY]["inputs"]["sampling_mode.seed"] = number
        times["turn"].append(seconds(server, graph, {REPLY, FUSE, DECODE}))
        graph[DECODE]["inputs"]["seed"] = number
        times["picture"].append(seconds(server, graph, {DECODE}))
        graph[FUSE]["inputs"]["gate"] = 0.5 + number / 100
        graph[DECODE]["inputs"]["steps"] = min(PREVIEW_STEPS, steps)
        times["preview"].append(seconds(server, graph, {FUSE, DECODE}))
        graph[FUSE]["inputs"]["gate"] += 0.005
        graph[DECODE]["inputs"]["steps"] = steps
        times["gate"].append(seconds(server, graph, {FUSE, DECODE}))
    return {name: rounds[1:] for name, rounds in times.items()}


def report(times: dict[str, list[float]], steps: int) -> str:
    """Return the table."""

    def line(name: str, key: str) -> str:
        ratios = [
            statistics.median(a / b for a, b in zip(times[key], times[other], strict=True))
            for other in ("turn", "picture")
        ]
        return f"| {name} | {statistics.median(times[key]):.2f} s | {ratios[0]:.2f} | {ratios[1]:.2f} |"

    return "\n".join(
        [
            f"{steps} steps, medians of {len(times['gate'])} rounds",
            "",
            "| from queueing to the picture | time | of a whole turn | of the picture alone |",
            "|---|---|---|---|",
            line("whole turn: reply, encode, fuse, decode", "turn"),
            line("picture alone: decode with another seed", "picture"),
            line(f"gate turned: preview of {PREVIEW_STEPS} steps", "preview"),
            line("gate turned: full picture", "gate"),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark_gate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a picture (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default: %(default)s)")
    options = parser.parse_args(arguments)
    environment.ensure()
    device = [] if environment.has_accelerator() else ["--cpu"]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        flags = environment.prepare_base(base)
        log = base / "comfyui.log"
        with comfy.Server(environment.PYTHON, environment.ENGINE, *flags, *device, log=log) as server:
            server.wait_ready()
            print(report(measure(server, options.repeats, options.steps), options.steps))


if __name__ == "__main__":
    main()
