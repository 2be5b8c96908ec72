"""The checks of the source code that are not tests: style, formatting and types."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from . import environment

PYTHON = str(environment.PYTHON)
# The nodes import the library relatively, as parts of the package that ComfyUI makes of this folder. Mypy sees them
# below a package of a name that does not depend on the folder's: see [tool.mypy].
TYPES = environment.HOME / "types"

COMMANDS = {
    "lint": (PYTHON, "-m", "ruff", "check"),
    "format": (PYTHON, "-m", "ruff", "format", "--check"),
    "types": (PYTHON, "-m", "mypy"),
}


def run(names: Sequence[str] = ()) -> int:
    """Run the checks of these names, or all of them; return how many of them fail."""
    chosen = names or tuple(COMMANDS)
    if "types" in chosen:
        TYPES.mkdir(parents=True, exist_ok=True)
        environment.link_pack(TYPES)
    failed = []
    for name in chosen:
        print(f"{name} ...", flush=True)
        if subprocess.call(COMMANDS[name], cwd=environment.REPO):
            failed.append(name)
    print(f"Failed: {', '.join(failed)}." if failed else "Nothing found.", flush=True)
    return len(failed)
