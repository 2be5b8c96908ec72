"""The options of `evaluate --data`, which measures any models on any stories: see `evaluation.command`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import values
from ..arguments import UserError, check_writable, mendable
from ..weights.model_files import read_json
from ..weights.starter import STARTER

STORYBOOK = "storybook"
PICTURES = 50
# The models of an M²Chat, each of which may come from elsewhere: option, name in the starter's folder, help.
MODELS = (
    ("language_model", "language_model", "a language model's folder or .gguf file"),
    ("vision_encoder", "vision_encoder", "a vision encoder's folder"),
    ("adapter", "adapter.safetensors", "an M3-Adapter"),
    ("decoder", "decoder", "an SDXL model's folder or .safetensors file"),
)
ONLY_DATA = (
    "layout", "clip", "dino", "features", "lpips", "replies", "gates", "steps", "guidance", "width", "height",
    "batch_size", *(name for name, _, _ in MODELS),
)  # fmt: skip


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an evaluation on a data set."""
    group = parser.add_argument_group("on any stories", "docs/training.md explains layouts and figures")
    group.add_argument(
        "--data", metavar="PATH", help=f"measure on this data set, or on the shipped world's stories: {STORYBOOK}"
    )
    group.add_argument("--layout", metavar="KIND", help="its layout (default: told by what lies there)")
    group.add_argument("--clip", type=Path, metavar="DIR", help="a local CLIP, for CLIP-T, CLIP-I and MM-Relevance")
    group.add_argument("--dino", type=Path, metavar="DIR", help="a local DINO or DINOv2")
    group.add_argument(
        "--features", type=Path, metavar="DIR", help="a local vision model for FID and KID (default: --dino, or --clip)"
    )
    group.add_argument(
        "--lpips", type=Path, metavar="FILE", help="torchvision's AlexNet, VGG16 or SqueezeNet weights, for LPIPS"
    )
    group.add_argument("--replies", type=int, metavar="N", help="replies to write for MM-Relevance (default: 0)")
    group.add_argument("--gates", type=float, nargs="+", metavar="X", help="0..4 (default: 0 0.25 0.5 0.75 1 1.5 2)")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: 20)")
    group.add_argument("--guidance", type=float, metavar="X", help="how closely to follow captions (default: 2)")
    for side in ("width", "height"):
        group.add_argument(f"--{side}", type=int, metavar="N", help="in pixels (default: the model's own)")
    group.add_argument("--batch-size", type=int, metavar="N", help="pictures painted at once (default: 1)")
    for name, _, what in MODELS:
        group.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="PATH", help=f"{what} for the shipped one")


def check_without_data(options: argparse.Namespace) -> None:
    """Raise UserError for options that say nothing without a data set."""
    for name in ONLY_DATA:
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} belongs to an evaluation on stories: give --data as well.")
    if options.split == "train":
        raise UserError("The split is train, which is for --data only: give validation or test.")


def check_report(path: Path, *others: Path) -> None:
    """Raise UserError if there is already a file that is not an earlier report, or belongs to one."""
    earlier: dict[str, Any] = {}
    if path.exists():
        try:
            earlier = read_json(path)
        except ValueError:
            earlier = {}
        if "seed" not in earlier:
            raise UserError(f"{path} already exists and is not a report: name another file.")
    for other in others:
        if other.exists() and "gate_curve" not in earlier:
            raise UserError(f"{other} already exists and belongs to no report: name another file.")


def check_data_options(options: argparse.Namespace) -> None:
    """Check the options of an evaluation on a data set, and fill in what is not given.

    It sets `settings` of painting, the paths of `models` by their options, and whether the data are the `storybook`.

    Raises:
        UserError: An option is wrong; the message is one sentence.
    """
    for given, name in (
        (options.ip_adapter, "--ip-adapter"),
        (options.edit_model, "--edit-model"),
        (options.sheet, "--sheet"),
        (options.without, "--without"),
    ):
        if given:
            raise UserError(f"Give either {name} or --data: the comparison is a measurement of its own.")
    if not options.data.strip():  # such as a variable of the shell that is not set
        raise UserError(f"--data is empty: name a data set, or {STORYBOOK}.")
    if options.world:
        raise UserError("Give either --world or --data: a data set is a world of its own.")
    with mendable():
        values.check_seed(options.seed)
        for name, low, high in (("pictures", 1, 2**31), ("replies", 0, 2**31)):
            if getattr(options, name) is not None:
                values.whole(name, getattr(options, name), low, high)
        checks = {"steps": values.check_steps, "guidance": values.check_guidance, "batch_size": values.check_batch_size}
        settings = {name: getattr(options, name) for name in (*checks, "width", "height")}
        settings = {name: value for name, value in settings.items() if value is not None}
        for name, value in settings.items():
            checks[name](value) if name in checks else values.check_side(name, value)
        gates = tuple(sorted(set(options.gates or ())))
        for gate in gates:
            values.check_gate(gate)
        if options.replies and options.clip is None:
            raise UserError("MM-Relevance compares replies with CLIP: give --clip as well as --replies.")
        if options.output.suffix in (".md", ".png"):
            raise UserError(
                f"{options.output} is for the JSON report, beside which .md and .png are written: name it .json."
            )
        if options.output.is_dir():
            raise UserError(f"{options.output} is a folder: name a file for the report.")
        check_report(options.output, options.output.with_suffix(".md"), options.output.with_suffix(".png"))
        options.models = {
            name: getattr(options, name) or (options.starter or STARTER) / part for name, part, _ in MODELS
        }
        for name, _, what in MODELS:
            if not options.models[name].exists():
                raise UserError(f"There is no {options.models[name]}: --{name.replace('_', '-')} takes {what}.")
        options.output.parent.mkdir(parents=True, exist_ok=True)
    check_writable("--output", options.output.parent)
    options.settings = {"steps": 20, "guidance": 2.0, **settings}
    options.gates, options.pictures, options.split = gates, options.pictures or PICTURES, options.split or "validation"
    options.storybook = options.data == STORYBOOK
    if options.storybook and options.layout:
        raise UserError(f"The {STORYBOOK} has no layout: leave --layout out, or give ./{STORYBOOK} for a folder.")
    if options.storybook and options.split == "train":
        raise UserError(f"Nothing is measured on stories that the {STORYBOOK} trains on: give validation or test.")
