"""The examples of the documentation, run with the starter in few steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from m3adapter import Conversation
from m3adapter.adapter.gate_sweep import PAPER
from tools import environment

EXAMPLES = environment.REPO / "docs" / "examples"
MOST_LINES = 40
pytestmark = pytest.mark.slow


def run(name: str, *arguments: object, **options: object) -> None:
    """Run an example as its users do, with other arguments."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(*arguments, **options)


def pictures(folder: Path) -> int:
    """How many pictures of the assistant a saved conversation has; none may be open."""
    conversation = Conversation.load(folder)
    assert not conversation.open_slots()
    return len(conversation.pictures())


def test_an_example_fits_on_a_screen() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in paths] == ["custom_decoder", "dialogue", "gate_sweep", "story"]
    assert all(len(path.read_text("utf-8").splitlines()) < MOST_LINES for path in paths)


def test_a_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("story", tmp_path, panels=1, steps=2)
    printed = capsys.readouterr().out
    assert "painting: " in printed and printed.splitlines()[-1] == str(next(tmp_path.glob("*.html")))
    assert pictures(tmp_path) >= 1 and list(tmp_path.glob("*.epub"))


def test_a_dialogue(tmp_path: Path) -> None:
    run("dialogue", tmp_path, steps=2)
    told = Conversation.load(tmp_path)
    assert [turn.role for turn in told.turns] == ["user", "assistant"] * 3
    first = told.pictures()[0]
    assert told.picture(first).caption == "a red fox with a ball on the beach" and pictures(tmp_path) >= 3


def test_a_gate_sweep(tmp_path: Path) -> None:
    run("gate_sweep", tmp_path / "gates.png", steps=2)
    sheet = Image.open(tmp_path / "gates.png")
    assert sheet.width > 5 * 128 and sheet.height > 2 * 128 and sheet.getpixel((0, 0)) == PAPER


def test_a_custom_decoder(tmp_path: Path) -> None:
    run("custom_decoder", tmp_path, steps=2)
    assert pictures(tmp_path) >= 2
