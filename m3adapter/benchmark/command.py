"""The command `bench`: the measurements in their order, and the report; `cli.bench` has its options."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from ..arguments import UserError, mendable
from . import language, painting, report, sessions, start, stories, training
from .machine import describe
from .rows import NEEDS_COMFYUI, Bench, Group, NotHere, Row, unmeasured
from .timing import Figure

FAILED = "the measurement failed"
# Rows that are measured in ComfyUI: `run.py bench` has their measurements.
IN_COMFYUI = (
    Row("previews_over_none", "ComfyUI: a picture with the engine's default previews / without", "x", "wall", 1.02),
    Row("previews_latent2rgb_over_none", "ComfyUI: a picture with previews by latent2rgb / without", "x", "wall"),
    Row("gate_turn_over_picture", "ComfyUI: gate turned → full picture / picture alone", "x", "wall", 1.02),
    Row("gate_preview_over_picture", "ComfyUI: gate turned → preview of 4 steps / picture alone", "x", "wall"),
    Row("turn_over_picture", "ComfyUI: a whole turn / picture alone", "x", "wall"),
    Row("story4_seconds", "ComfyUI: starter story of 4 panels, beyond a later start of the engine", "s", "wall", 6),
    Row("story4_again_seconds", "ComfyUI: starter story of 4 panels, the second of a process", "s", "wall"),
)


def library_groups() -> tuple[Group, ...]:
    """Return the groups of rows that need nothing but the library."""
    from . import real_size  # it imports torch

    return (
        *language.GROUPS,
        *stories.GROUPS,
        *painting.GROUPS,
        *sessions.GROUPS,
        *start.GROUPS,
        *training.GROUPS,
        *real_size.GROUPS,
    )


def run(options: argparse.Namespace, in_comfyui: Sequence[Group] = ()) -> int:
    """Measure the rows that the options name, and report them.

    Args:
        options: Those of `cli.bench`.
        in_comfyui: Groups that measure IN_COMFYUI.

    Returns:
        The exit status: 1 if a measurement failed, which the report says in its row's place.

    Raises:
        UserError: An option is wrong.
    """
    groups = [*library_groups(), *(in_comfyui or (Group(IN_COMFYUI, unmeasured(NEEDS_COMFYUI)),))]
    rows = [row for group in groups for row in group.rows]
    if options.list:
        print("\n".join(row.key for row in rows))
        return 0
    wanted = _wanted(options, rows)
    _check(options)
    bench = Bench(options.quick, options.device, options.dtype, options.threads, options.language_model, tuple(wanted))
    machine = describe(options.device, options.threads)
    results = measure(bench, groups, lambda text: print(text, file=sys.stderr, flush=True))
    chosen = [row for row in rows if row.key in wanted]
    text = report.table(chosen, results, machine, quick=options.quick)
    print(text)
    with mendable():
        if options.output:
            report.write_json(options.output, report.as_json(chosen, results, machine, quick=options.quick))
        if options.table:
            report.write_table(options.table, text)
    return int(any(isinstance(found, str) and found.startswith(FAILED) for found in results.values()))


def measure(bench: Bench, groups: Sequence[Group], tell: Callable[[str], None]) -> dict[str, Figure | str]:
    """Return the figure of each wanted row, or why there is none.

    The error of a failed group is its reason, so that the other rows are still reported.
    """
    import torch

    results: dict[str, Figure | str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(bench.threads)
    try:
        for group in groups:
            wanted = [row.key for row in group.rows if row.key in bench.wanted]
            if not wanted:
                continue
            tell(f"{', '.join(wanted)} …")
            began = time.perf_counter()
            try:
                found = group.measure(bench)
            except NotHere as reason:
                found = dict.fromkeys(wanted, str(reason))
            except Exception as error:  # one failure must not lose hours of other measurements
                traceback.print_exc()
                found = dict.fromkeys(wanted, f"{FAILED}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            results |= {key: found[key] for key in wanted}
            gc.collect()
            tell(f"  {time.perf_counter() - began:.0f} s")
    finally:
        torch.set_num_threads(threads)
    return results


def _wanted(options: argparse.Namespace, rows: Sequence[Row]) -> list[str]:
    keys = [row.key for row in rows]
    if options.rows is None:
        return keys
    if unknown := [key for key in options.rows if key not in keys]:
        raise UserError(f"No row is called {', '.join(unknown)}: --list prints the keys of all.")
    return [key for key in keys if key in options.rows]


def _check(options: argparse.Namespace) -> None:
    """Raise UserError before anything is measured."""
    if options.threads < 1:
        raise UserError(f"threads is {options.threads}: give a whole number from 1.")
    with mendable():
        if options.language_model and not options.language_model.exists():
            raise UserError(f"{options.language_model} does not exist: name a model's folder or GGUF file.")
        if options.output:
            if options.output.is_dir():
                raise UserError(f"{options.output} is a folder: name a file for the report.")
            options.output.parent.mkdir(parents=True, exist_ok=True)
        if options.table:
            page = options.table.read_text("utf-8")
            if report.BEGIN not in page or report.END not in page:
                raise UserError(
                    f"{options.table} has no place for the table: see docs/benchmarks.md for its two marks."
                )
