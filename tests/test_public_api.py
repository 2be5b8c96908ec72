"""The library's public names: there, typed, loaded only when used, and able to save what they load."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch

import m3adapter
from m3adapter import Conversation, M2Chat, TurnSettings

NAMES = [name for name in m3adapter.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(m3adapter, name)
    assert value.__name__ == name and inspect.getdoc(value)
    assert name in dir(m3adapter)


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse(Path(m3adapter.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == m3adapter._MODULES and sorted([*typed, "__version__"]) == sorted(m3adapter.__all__)


def test_importing_the_library_imports_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "m3adapter"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "numpy", "PIL", "transformers", "diffusers"):
        monkeypatch.setitem(sys.modules, name, None)
    fresh = importlib.import_module("m3adapter")
    assert fresh is not m3adapter
    assert fresh.TurnSettings().gate == 1.0 and fresh.M2Chat is not M2Chat
    with pytest.raises(AttributeError, match="module 'm3adapter' has no attribute 'Nonsense'"):
        getattr(fresh, "Nonsense")  # noqa: B009


def test_what_has_weights_has_from_pretrained_and_conversations_have_load() -> None:
    classes = {name for name in NAMES if inspect.isclass(value := getattr(m3adapter, name)) and not is_value(value)}
    assert classes == {name for name in NAMES if hasattr(getattr(m3adapter, name), "from_pretrained")}
    assert classes >= {"DiffusionDecoder", "LanguageModel", "M2Chat", "M3Adapter", "VisionEncoder"}
    assert all(callable(getattr(getattr(m3adapter, name), "save_pretrained", None)) for name in classes)
    assert callable(Conversation.save) and callable(Conversation.load)


def is_value(cls: type) -> bool:
    """Whether a class is a frozen dataclass."""
    return dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_saved_chat_opens_and_tells_the_same(tmp_path: Path) -> None:
    chat = M2Chat.from_starter()
    chat.save_pretrained(tmp_path / "new" / "chat")
    again = M2Chat.from_pretrained(tmp_path / "new" / "chat")
    settings = TurnSettings(seed=7, steps=2)
    first, second = (model.turn(Conversation().user("A fox on the beach."), settings) for model in (chat, again))
    assert first == second and first.pictures()
    for slot in first.pictures():
        assert torch.equal(first.at(slot).image, second.at(slot).image)
