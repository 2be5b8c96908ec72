"""Rows about starting: the import, and the first picture of a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from ..weights.starter import STARTER, check_weights
from .rows import TOO_LONG, Bench, Group, NotHere, Row
from .timing import Figure, figure, interleave, seconds

ROOT = Path(__file__).parents[2]
FIRST = """
import json, time
began = time.perf_counter()
from m3adapter import M2Chat, Conversation
chat = M2Chat.from_starter()
loaded = time.perf_counter() - began
found = []
for seed in (1, 2, 3):
    started = time.perf_counter()
    chat.turn(Conversation().user("A fox on the beach."), seed=7, max_pictures=1)
    found.append(time.perf_counter() - started)
print(json.dumps({"load": loaded, "first": found[0], "later": min(found[1:])}))
"""

IMPORT = Group(
    (Row("import_seconds", 'python -c "import m3adapter", beyond Python\'s own start', "s", "wall"),),
    lambda bench: importing(bench),
)


def run(code: str) -> str:
    """Run code in a Python of its own, in the folder of the library, and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"A process of the benchmark failed:\n{done.stderr[-2000:]}")
    return done.stdout


def importing(bench: Bench) -> dict[str, Figure | str]:
    """Measure the import of the library in processes of their own."""
    times = interleave(
        {"import": lambda number: run("import m3adapter"), "nothing": lambda number: run("pass")},
        bench.rounds(11, 5),
        clock="wall",
    )
    times["beyond"] = [a - b for a, b in zip(times["import"], times["nothing"], strict=True)]
    return {"import_seconds": seconds(times, "beyond", "import", "nothing")}


FIRST_PICTURE = Group(
    (
        Row(
            "first_picture_cold_seconds",
            "starter: from the start of a process to its first reply with its picture",
            "s",
            "wall",
        ),
        Row(
            "first_picture_over_later",
            "starter: the first reply with its picture / a later one of the same process",
            "x",
            "wall",
        ),
    ),
    lambda bench: first_picture(bench),
)


def first_picture(bench: Bench) -> dict[str, Figure | str]:
    """Measure the first reply with a picture, and a later one, in processes of their own; files are in memory."""
    try:
        check_weights(STARTER)
    except FileNotFoundError as error:
        raise NotHere("the starter's weights are missing") from error
    if bench.quick:
        raise NotHere(TOO_LONG)
    whole, found = [], []
    for number in range(-1, 5):
        began = time.perf_counter()
        printed = run(FIRST)
        if number >= 0:  # the first process reads the files
            whole.append(time.perf_counter() - began)
            found.append(json.loads(printed.splitlines()[-1]))
    sides = {name: figure([one[name] for one in found]).value for name in ("load", "first", "later")}
    # The process goes on after its first picture.
    cold = [total - 2 * one["later"] for total, one in zip(whole, found, strict=True)]
    return {
        "first_picture_cold_seconds": figure(cold, sides),
        "first_picture_over_later": figure([one["first"] / one["later"] for one in found], sides),
    }


GROUPS = (IMPORT, FIRST_PICTURE)
