"""Data sets for training: pictures with captions, conversations, and saved sessions."""

from __future__ import annotations

import comfy.utils
from comfy_api.latest import io

from ..m3adapter.datasets.opening import KINDS, open_dataset
from ..m3adapter.datasets.sample import DatasetError
from ..m3adapter.events import Interrupted
from . import dataset_files, wires
from .errors import complaint, names_node
from .running import ShowsText, interruptible, shown

AUTO = "auto"
SPLITS = ("train", "validation", "test", "all")


class Dataset(ShowsText, io.ComfyNode):
    """Opens a data set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Dataset",
            display_name="Dataset",
            category="M2Chat/training",
            description="Opens a data set to train an M3-Adapter on: captioned pictures, conversations with pictures, "
            "or sessions that you saved.",
            search_aliases=["training data", "image folder", "captions", "load dataset", "vist", "webdataset"],
            inputs=[
                io.Combo.Input(
                    "dataset",
                    options=dataset_files.names(),
                    tooltip="A folder or file below ComfyUI's input folder, a saved session or all of them, or "
                    "an example.",
                ),
                io.Combo.Input(
                    "layout",
                    options=[AUTO, *KINDS],
                    default=AUTO,
                    tooltip="How the data set is laid out; auto tells it by what lies there.",
                ),
                io.Combo.Input(
                    "split",
                    options=list(SPLITS),
                    default=SPLITS[0],
                    tooltip="The part to learn from. Only with train, what is held out is measured.",
                ),
                io.Float.Input(
                    "held_out",
                    default=0.05,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="The part of the conversations that is kept to measure what was learned, if the data set "
                    "has no part for validation. 0 learns from all.",
                ),
                io.Boolean.Input(
                    "check",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Decode every picture once, so that no damaged one is met while training.",
                ),
            ],
            outputs=[
                wires.Dataset.Output(display_name="dataset", tooltip="The data set, for Train M3-Adapter."),
                io.String.Output(display_name="report", tooltip="What was read, and what was left out and why."),
                io.Int.Output(display_name="samples", tooltip="How many pictures there are to learn from."),
            ],
        )

    @classmethod
    def validate_inputs(cls, dataset: str | None = None) -> bool | str:
        """Refuse what is not there, or lies elsewhere, before anything runs."""
        return complaint(dataset_files.find, dataset)

    @classmethod
    def fingerprint_inputs(cls, dataset: str | None = None, **_: object) -> str:
        """Return a text that changes when the data set does."""
        return dataset_files.fingerprint(dataset_files.find(dataset)) if isinstance(dataset, str) else ""

    @classmethod
    @names_node
    def execute(cls, dataset: str, layout: str, split: str, held_out: float, check: bool = True) -> io.NodeOutput:
        """Look at every line and picture of it."""
        if layout not in (AUTO, *KINDS):
            raise ValueError(f"layout is {layout!r}: choose one of {', '.join((AUTO, *KINDS))}.")
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}: choose one of {', '.join(SPLITS)}.")
        path = dataset_files.find(dataset)
        part = "" if split == "all" else split
        bar: comfy.utils.ProgressBar | None = None
        with interruptible() as should_stop:

            def told(done: int, count: int) -> None:
                nonlocal bar
                if should_stop():
                    raise Interrupted
                bar = bar or comfy.utils.ProgressBar(count)
                bar.update_absolute(done, count)

            mark = dataset_files.fingerprint(path)
            try:
                opened = open_dataset(
                    path,
                    None if layout == AUTO else layout,
                    split=part or None,
                    held_out=held_out,
                    check=check,
                    on_progress=told,
                )
            except DatasetError as error:
                raise ValueError(f"dataset: {error}") from error
        report = str(opened.report)
        files = dataset_files.DatasetFiles(
            path, opened.report.kind, part, held_out, check, mark, report, len(opened), opened
        )
        return io.NodeOutput(files, report, len(opened), ui=shown(report))


NODES = [Dataset]
