"""The first minute: what a new user finds who has never opened ComfyUI's page before."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import looks
import run
from comfy_server import ComfyServer
from tools import environment

PATIENCE = 120_000
STORYBOOK = "window.app?.graph?.nodes?.some(node => node.type === 'M2Chat_Story')"


def settings(comfy: ComfyServer, **values: Any) -> None:
    """Set ComfyUI's settings of its user, with underscores for dots."""
    body = {name.replace("__", "."): value for name, value in values.items()}
    comfy.request("/settings", json.dumps(body).encode())


@pytest.fixture
def new_profile(comfy: ComfyServer) -> Iterator[None]:
    """A ComfyUI that nobody has opened yet, as `python run.py comfyui` sets it up."""
    settings(comfy, Comfy__TutorialCompleted=False, M2Chat__Start=environment.FIRST_TEMPLATE)
    yield
    settings(comfy, Comfy__TutorialCompleted=True, M2Chat__Start="")


@pytest.fixture(params=looks.FRONT_ENDS, ids=str)
def visitor(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page of a browser that has never been here."""
    page = request.param.new_page(browser, request.getfixturevalue("comfy").url)
    yield page
    page.close()


def shown(page: Page) -> list[str]:
    """The nodes on the canvas once the storybook is there and nothing lies over it."""
    page.wait_for_function(STORYBOOK, timeout=PATIENCE)
    page.wait_for_timeout(2000)
    assert page.locator("[role=dialog]:visible, .p-toast-message-error:visible").count() == 0
    assert page.get_by_text("No templates found").count() == 0
    return page.evaluate("app.graph.nodes.map(node => node.type)")


def test_a_new_profile_opens_with_the_storybook(comfy: ComfyServer, visitor: Page, new_profile: None) -> None:
    visitor.goto(comfy.url)
    assert "CheckpointLoaderSimple" not in shown(visitor)
    # Returning users find what they had, and no second storybook beside it.
    visitor.goto(comfy.url)
    shown(visitor)
    told = "app.extensionManager.workflow.openWorkflows.filter(open => open.path.includes('storybook')).length"
    assert visitor.evaluate(told) == 1
    # Another browser has nothing to come back to.
    visitor.evaluate("localStorage.clear(); sessionStorage.clear()")
    visitor.goto("about:blank")
    visitor.goto(comfy.url)
    assert "CheckpointLoaderSimple" not in shown(visitor)


def test_a_comfyui_of_others_opens_with_what_is_theirs(comfy: ComfyServer, visitor: Page, new_profile: None) -> None:
    settings(comfy, Comfy__TutorialCompleted=True, M2Chat__Start="")
    visitor.goto(comfy.url)
    visitor.wait_for_function("window.app?.graph?.nodes?.length", timeout=PATIENCE)
    visitor.wait_for_timeout(2000)
    assert not visitor.evaluate(STORYBOOK)
    visitor.goto(f"{comfy.url}/?template=storybook&source=m2chat")  # but a template has an address there as well
    shown(visitor)


def test_the_engine_starts_without_an_error(comfy: ComfyServer) -> None:
    log = comfy.log.read_text("utf-8")
    head = log[: log.index("To see the GUI go to")]
    assert not re.findall(r".*(?:ERROR|not installed|Failed to|WARNING).*", head)


def test_a_base_directory_says_what_opens_first_and_keeps_what_was_set(tmp_path: Path) -> None:
    environment.prepare_base(tmp_path)
    path = tmp_path / environment.SETTINGS
    assert json.loads(path.read_text("utf-8")) == {"M2Chat.Start": "storybook"} and environment.is_new(tmp_path)
    path.write_text('{\n    "Comfy.TutorialCompleted": true\n}', "utf-8")
    environment.prepare_base(tmp_path)
    assert json.loads(path.read_text("utf-8")) == {"Comfy.TutorialCompleted": True} and not environment.is_new(tmp_path)


@pytest.mark.parametrize(
    ("folder", "new", "address"),
    [
        (None, True, "/?template=storybook&source=m2chat"),
        (None, False, ""),
        ("m2chat", True, "/?template=storybook&source=m2chat"),
        ("comfyui-m2chat.1", True, "/?template=storybook&source=comfyui-m2chat.1"),
        ("M²Chat for ComfyUI", True, ""),
    ],
)
def test_the_command_opens_the_storybook_under_the_name_that_the_pack_is_served_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str | None, new: bool, address: str
) -> None:
    class Server:
        url = "http://there"
        process = SimpleNamespace(wait=lambda: 0)
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731
        wait_ready = lambda self: None  # noqa: E731

    opened: list[str] = []
    monkeypatch.setattr(run.webbrowser, "open", opened.append)
    for module, start in ((run.comfy, "own_server"), (run, "existing_server")):
        monkeypatch.setattr(module, start, lambda *_, **__: Server())
    monkeypatch.setattr(environment, "ensure", lambda: None)
    monkeypatch.setattr(environment, "is_new", lambda _: new)
    command = ["comfyui"]
    if folder:
        (tmp_path / "main.py").touch()
        (tmp_path / "custom_nodes").mkdir()
        (tmp_path / "custom_nodes" / folder).symlink_to(environment.REPO, target_is_directory=True)
        command += ["--comfyui", str(tmp_path)]
    assert run.main(command) == 0 and opened == [f"http://there{address}"]


def test_the_package_can_do_what_its_readme_opens_with(tmp_path: Path) -> None:
    left_out = [line.strip("/") for line in (environment.REPO / ".comfyignore").read_text("utf-8").split()]
    assert not set("*?[!") & set("".join(left_out)), "only plain names are understood here"
    package = tmp_path / "m2chat"
    away = shutil.ignore_patterns(".git", "__pycache__", ".pytest_cache", "starter", *left_out)
    shutil.copytree(environment.REPO, package, ignore=away, symlinks=True)
    readme = (package / "README.md").read_text("utf-8")
    commands = re.search(r"```\n(.+?)\n```", readme, re.DOTALL)[1].splitlines()
    assert commands == ["python run.py story", "python run.py test"]
    assert readme.index("```") < 40, "the commands come first"
    paths = "[run.story.GRAPH, *e.PINS]"
    code = f"import run; from tools import environment as e; assert all(p.is_file() for p in {paths}), {paths}"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=package, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert answer.returncode == 0, answer.stderr
    assert (package / "tests" / "conftest.py").is_file() and (package / "pyproject.toml").is_file()
