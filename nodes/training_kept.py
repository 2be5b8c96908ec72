"""What was trained before under a name: the inputs of each training, and what a new one has differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "inputs.json"  # in the folder of a training


def keep(folder: Path, inputs: Mapping[str, Any], wires: Mapping[str, str]) -> None:
    """Write the inputs of a training into its folder: values of widgets, and a digest of what is on each wire."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"inputs": dict(inputs), "wires": dict(wires)}), "utf-8")


def is_kept(folder: Path) -> bool:
    """Return whether a folder has the inputs of its training."""
    return (folder / FILE).is_file()


def differs(folder: Path, inputs: Mapping[str, Any], wires: Mapping[str, str]) -> str:
    """Return a sentence on what a training has differently from the latest other one of its name; "" for the first."""
    others = [path for path in folder.parent.glob(f"*/{FILE}") if path.parent != folder]
    if not others:
        return ""
    latest = max(others, key=lambda path: path.stat().st_mtime_ns)
    try:
        before = json.loads(latest.read_text("utf-8"))
        found = [
            f"{name} is {value} instead of {before['inputs'][name]}"
            for name, value in inputs.items()
            if before["inputs"].get(name, value) != value
        ]
        found += [f"{name} is another one" for name, mark in wires.items() if before["wires"].get(name, mark) != mark]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a file that somebody has edited says nothing
        return ""
    reason = f", since {' and '.join(found)}" if found else ""
    return f"It begins anew{reason}; the training before is kept in {latest.parent.name}."
