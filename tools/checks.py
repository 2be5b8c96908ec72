"""The checks of the source code that are not tests: style, formatting, and the types of Python and JavaScript."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from . import environment

PYTHON = str(environment.PYTHON)
# The nodes import the library relatively, as parts of the package that ComfyUI makes of this folder. Mypy sees them
# below a package of a name that does not depend on the folder's: see [tool.mypy].
TYPES = environment.HOME / "types"

# The scripts import each other by where ComfyUI serves them, so TypeScript gets them in those places, with declarations
# of what is ComfyUI's or a library's.
SCRIPTS = environment.HOME / "javascript"
DECLARATIONS = environment.REPO / "tools" / "javascript"
TYPESCRIPT = "typescript@5.9.3"

COMMANDS: dict[str, tuple[str, ...]] = {
    "lint": (PYTHON, "-m", "ruff", "check"),
    "format": (PYTHON, "-m", "ruff", "format", "--check"),
    "types": (PYTHON, "-m", "mypy"),
    "javascript": (shutil.which("npx") or "npx", "--yes", "--package", TYPESCRIPT, "tsc", "--project", str(SCRIPTS)),
}


def run(names: Sequence[str] = ()) -> int:
    """Run the checks of these names, or all of them; return how many of them fail.

    Raises:
        environment.UserError: If a check needs a program that is not installed.
    """
    chosen = names or tuple(COMMANDS)
    if "types" in chosen:
        TYPES.mkdir(parents=True, exist_ok=True)
        environment.link_pack(TYPES)
    if "javascript" in chosen:
        if shutil.which("npx") is None:
            raise environment.UserError(
                "The check of the JavaScript needs Node.js with npm: install them, or name other checks."
            )
        lay_out_scripts()
    failed = []
    for name in chosen:
        print(f"{name} ...", flush=True)
        if subprocess.call(COMMANDS[name], cwd=environment.REPO):
            failed.append(name)
    print(f"Failed: {', '.join(failed)}." if failed else "Nothing found.", flush=True)
    return len(failed)


def lay_out_scripts() -> None:
    """Copy the scripts and the declarations to where they find each other."""
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    web = environment.REPO / "web"
    for path in web.rglob("*.js"):
        copy = SCRIPTS / "extensions" / "m2chat" / path.relative_to(web)
        if "vendor" not in path.parts:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    shutil.copytree(DECLARATIONS, SCRIPTS, dirs_exist_ok=True)
