"""The wheel of the library: what is in it, and that it tells a story with no repository near it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import m3adapter
from m3adapter.version import read_version
from tools import environment

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what it is made of: building leaves files in the folder."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(environment.REPO / name, folder)
    for name in ("m3adapter", "nodes", "tools", "web"):
        shutil.copytree(environment.REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*PIP, "wheel", *offline, "-w", str(folder / "dist"), str(folder)], check=True)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's packages alone; everything else is the environment's."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)], check=True)
    return folder


def python(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python in a folder with the installed wheel and return what it prints."""
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_library_with_its_data_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"m2chat-{m3adapter.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"m2chat-{m3adapter.__version__}.dist-info/"
    files = {name for name in names if not name.startswith(info)}
    library = environment.REPO / "m3adapter"
    wanted = [path for path in library.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert files == {path.relative_to(environment.REPO).as_posix() for path in wanted}
    assert {info + "licenses/LICENSE", info + "licenses/NOTICE"} <= names


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_python_of_the_readme_runs_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (environment.REPO / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 8
    quick = code.replace(
        '"A fox who finds a kite on the beach.", 4', '"A fox who finds a kite on the beach.", 1, steps=2'
    )
    printed = python(installed, tmp_path, "-c", quick.replace("seed=8", "seed=8, steps=2"))
    assert Path(tmp_path, printed.splitlines()[-1]).is_file()


@pytest.mark.slow
def test_the_wheel_tells_a_story_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    where = python(installed, tmp_path, "-c", "import m3adapter; print(m3adapter.__file__, m3adapter.__version__)")
    assert where.split() == [str(installed / "m3adapter" / "__init__.py"), m3adapter.__version__]
    story = ("story", "A fox finds a key in the forest", "--panels", "1", "--steps", "2", "--output", "told")
    printed = python(installed, tmp_path, "-m", "m3adapter", *story)
    assert Path(tmp_path, printed.splitlines()[-1]).is_file()
    assert len(list(tmp_path.glob("told/picture_*.png"))) == 1


def test_the_version_is_read_from_where_the_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "m2chat"\nversion = "7.8.9"\n', "utf-8")
    assert read_version(tmp_path) == "7.8.9"
    monkeypatch.setattr("importlib.metadata.version", {"m2chat": "4.5.6"}.__getitem__)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "7.8.9"\n', "utf-8")
    assert read_version(tmp_path) == read_version(tmp_path / "nowhere") == "4.5.6"
