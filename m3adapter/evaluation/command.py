"""`python -m m3adapter evaluate --data`: from the options of the command line to a report."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..adapter.auto import open_adapter
from ..adapter.vision_encoder import VisionEncoder
from ..arguments import UserError, mendable
from ..conversation.storage import write_file
from ..datasets.opening import open_dataset
from ..datasets.sample import Dataset
from ..diffusion.auto import load_decoder
from ..language.auto import load_language_model
from ..pipeline import M2Chat
from ..storybook.judge import Judge
from ..storybook.pictures import Storybook
from ..values import label
from . import evaluators as known
from .data import GATES, Measurement
from .evaluators import Evaluator
from .networks import Embedder, Perceptual, TextEmbedder
from .replies import Replies
from .report import markdown, plot


def run(options: argparse.Namespace) -> int:
    """Measure models on a data set and write the report as JSON, Markdown and a plot.

    Args:
        options: Those of the command line, checked: see `cli.evaluate_data.check_data_options`.

    Raises:
        UserError: What an option names cannot be used; the message is one sentence.
        KeyboardInterrupt: The measurement was stopped; the gates that are complete are in the report.
    """
    data = _data(options)
    print(data.report, file=sys.stderr)
    evaluators, without, clip = _evaluators(options, data)
    model = _model(options)
    replies = None
    if options.replies and clip is not None:
        replies = Replies(model, data, options.replies, clip, options.seed, options.settings)
    measurement = Measurement(
        model,
        data,
        evaluators,
        without,
        options.gates or GATES,
        options.pictures,
        replies,
        options.seed,
        options.settings,
    )
    output: Path = options.output
    models = {name: label(path) for name, path in options.models.items()}  # without the folders' own paths

    def write(report: dict[str, Any]) -> None:
        report = {**report, "dtype": options.dtype, "models": models}
        text = json.dumps(report, indent=2, ensure_ascii=False)
        with mendable():
            write_file(output, text.encode("utf-8") + b"\n")
            write_file(output.with_suffix(".md"), markdown(report).encode("utf-8"))
            write_file(output.with_suffix(".png"), plot(report))

    with Progress() as progress:
        measurement.run(write, progress)
    for path in (output, output.with_suffix(".md"), output.with_suffix(".png")):
        print(path)
    return 0


class Progress:
    """Prints what is done: one line that changes if that is a terminal, else a line for each stage."""

    def __init__(self) -> None:
        self._live, self._stage, self._open = sys.stderr.isatty(), "", False

    def __call__(self, stage: str, done: int, count: int) -> None:
        """Say that `done` of `count` are done of a stage."""
        if self._live:
            if stage != self._stage and self._open:
                print(file=sys.stderr)
            counted = f": {done} of {count}" if done else f" ({count})"
            print(f"\r{stage}{counted} ", end="", file=sys.stderr, flush=True)
            self._open = True
        elif stage != self._stage:
            print(f"{stage} ({count})", file=sys.stderr, flush=True)
        self._stage = stage

    def __enter__(self) -> Progress:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the line."""
        if self._open:
            print(file=sys.stderr)


def _data(options: argparse.Namespace) -> Dataset:
    if options.storybook:
        count = max(options.pictures, options.replies or 0)
        return Storybook.held_out(options.split, options.seed, count)
    with mendable():
        return open_dataset(options.data, options.layout, split=options.split)


def _evaluators(
    options: argparse.Namespace, data: Dataset
) -> tuple[list[Evaluator], dict[str, str], TextEmbedder | None]:
    """Return the evaluators whose models are given, why other figures are left out, and CLIP."""
    found: list[Evaluator] = [known.Copies()]
    without: dict[str, str] = {}

    def leave_out(names: Iterable[str], reason: str) -> None:
        without.update(dict.fromkeys(names, reason))

    if isinstance(data, Storybook):
        scenes = {data[index].source: sample for index, sample in enumerate(data.pool.samples)}
        found.append(known.Judged(Judge.load(), scenes))
    else:
        leave_out(known.Judged.figures, "the judge knows the storybook's own stories only")
    clip = TextEmbedder(options.clip, options.device) if options.clip else None
    dino = Embedder(options.dino, options.device) if options.dino else None
    if clip is not None:
        found.append(known.Clip(clip))
    else:
        leave_out(known.CLIP_FIGURES, "no CLIP was given (--clip)")
    if dino is not None:
        found.append(known.Likeness(dino, "dino"))
    else:
        leave_out(known.DINO_FIGURES, "no DINO was given (--dino)")
    features = Embedder(options.features, options.device) if options.features else dino or clip
    if features is None:
        leave_out(known.Distances.figures, "no vision model was given (--features, --dino or --clip)")
    elif missing := _missing("torchmetrics"):
        if options.features:
            raise UserError(f"FID and KID need the Python package {missing}: install it with `pip install {missing}`.")
        leave_out(known.Distances.figures, f"the Python package {missing} is missing: pip install {missing}")
    else:
        found.append(known.Distances(features))
    if options.lpips:
        found.append(known.Perception(Perceptual(options.lpips, options.device)))
    else:
        leave_out(known.Perception.figures, "no weights for LPIPS were given (--lpips)")
    if not options.replies:
        leave_out(("mm_relevance",), "no replies were asked for (--replies)")
    return found, without, clip


def _missing(package: str) -> str:
    """Return the name of a package if it is not installed."""
    return "" if importlib.util.find_spec(package) else package


def _model(options: argparse.Namespace) -> M2Chat:
    """Load the models."""
    how: dict[str, Any] = {"dtype": getattr(torch, options.dtype), "device": options.device}
    paths: dict[str, Path] = options.models
    with mendable():
        return M2Chat(
            load_language_model(paths["language_model"], **how),
            VisionEncoder.from_pretrained(paths["vision_encoder"], **how),
            open_adapter(paths["adapter"], **how)[0],
            load_decoder(paths["decoder"], **how),
        )
