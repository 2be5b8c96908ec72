"""The report: JSON for programs, and a table in Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..conversation.storage import write_file
from .machine import sentence
from .rows import Row
from .timing import Figure

BEGIN, END = "<!-- the table of `bench`, written by it -->", "<!-- the end of the table -->"

Results = Mapping[str, "Figure | str"]


def as_json(rows: Sequence[Row], results: Results, machine: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """Return the report as JSON: `{"rows": {key: {"value", "spread", ...}}, "machine": {...}}`.

    The value of a row that was not measured is null, and its `reason` says why.
    """
    entries: dict[str, Any] = {}
    for row in rows:
        entry: dict[str, Any] = {"title": row.title, "unit": row.unit, "clock": row.clock, "goal": row.goal}
        found = results[row.key]
        if isinstance(found, str):
            entry |= {"value": None, "spread": None, "reason": found}
        else:
            entry |= {
                "value": found.value,
                "spread": list(found.spread),
                "rounds": found.rounds,
                "sides": dict(found.sides),
            }
        entries[row.key] = entry
    return {"rows": entries, "quick": quick, "machine": dict(machine)}


def table(rows: Sequence[Row], results: Results, machine: dict[str, Any], *, quick: bool) -> str:
    """Return the report in Markdown."""
    lines = [
        f"{sentence(machine)}.{' With --quick: few rounds.' if quick else ''}",
        "",
        "| What is measured | Key | Value | Quartiles | Goal | Time | Compared |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = results[row.key]
        goal = "" if row.goal is None else f"≤ {shown(row.goal, row.unit)}"
        if isinstance(found, str):
            lines.append(f"| {row.title} | `{row.key}` | – | | {goal} | | not measured: {found} |")
            continue
        low, high = (shown(value, row.unit) for value in found.spread)
        met = "" if row.goal is None else (" ✓" if found.value <= row.goal else " ✗")
        sides = ", ".join(f"{name} {short(value)}" for name, value in found.sides.items())
        value = f"{shown(found.value, row.unit)}{met}"
        lines.append(f"| {row.title} | `{row.key}` | {value} | {low} – {high} | {goal} | {row.clock} | {sides} |")
    return "\n".join(lines)


def shown(value: float, unit: str) -> str:
    """Return a value with its unit, to three significant digits."""
    return short(value) if unit == "x" else f"{short(value)} {unit}"


def short(value: float) -> str:
    """Return a number to three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0") if "e" in text else text


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report as a file."""
    write_file(path, json.dumps(report, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")


def write_table(path: Path, text: str) -> None:
    """Write the table into a page, in place of the one between its two marks.

    Raises:
        ValueError: The page has no such marks.
    """
    page = path.read_text("utf-8")
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"{path} has no place for the table: it needs a line {BEGIN} and a line {END}.")
    write_file(path, f"{before}{BEGIN}\n{text}\n{END}{after}".encode())
