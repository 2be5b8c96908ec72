"""Weights of 8 and 4 bits, by the packages that are installed: smaller, and nearly the same model."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.utils

import toy_llms
from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.language.auto import load_language_model
from m3adapter.language.quantization import Quantization, can_move, move
from m3adapter.language.sampling import Sampling
from m3adapter.language.sizes import weight_bytes

# bitsandbytes is in requirements-dev.txt, so that there is always one.
WAYS = [("bitsandbytes", "8bit", 0.98), ("bitsandbytes", "4bit", 0.9), ("torchao", "8bit", 0.98)]
WIDTH = 128  # blocks of 64 weights share a scale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 512, "head_dim": 64, "initializer_range": 0.1}
    return toy_llms.llama(tmp_path_factory.mktemp("model") / "toy", **sizes)


@pytest.mark.parametrize(("package", "quantization", "likeness"), [way for way in WAYS if find_spec(way[0])])
def test_quantised_weights_are_smaller_and_nearly_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, quantization: Quantization, likeness: float
) -> None:
    for name in ("bitsandbytes", "torchao"):
        monkeypatch.setattr(transformers.utils, f"is_{name}_available", lambda name=name: name == package)
    whole = load_language_model(folder)
    model = load_language_model(folder, quantization=quantization)
    assert whole.movable and not model.movable
    sizes = []
    for each in (model, whole):  # some kinds of weights report their original size
        torch.save(each.model.state_dict(), written := io.BytesIO())
        sizes.append(written.tell())
    assert sizes[0] < 0.4 * sizes[1] and weight_bytes(folder, torch.float32, quantization) < 0.3 * sizes[1]

    told = Conversation().user("A fox.").assistant([Text("Yes."), Picture("a fox on the beach")])
    tokens = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = [each.encode_slot(told, Slot(1, 1), tokens).context.float() for each in (model, whole)]
    assert likeness < torch.nn.functional.cosine_similarity(*states).min() < 0.999999
    short = Sampling(max_length=8)
    one, again = ("".join(model.reply(Conversation().user("A fox."), sampling=short, seed=1)) for _ in range(2))
    assert one == again != ""


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
@pytest.mark.parametrize("fresh", [True, False])
def test_quantised_weights_leave_a_device_with_all_that_belongs_to_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, quantization: Quantization, fresh: bool
) -> None:
    model = load_language_model(folder, quantization=quantization)
    assert can_move(model.model) and not can_move(load_language_model(folder).model)

    def reply() -> str:
        return "".join(model.reply(Conversation().user("A fox."), sampling=Sampling(max_length=8), seed=1))

    before = reply()
    if fresh:
        model = load_language_model(folder, quantization=quantization)
    to, moved = torch.Tensor.to, set()

    def noted(tensor: torch.Tensor, *given: Any, **how: Any) -> torch.Tensor:
        moved.add(tensor.data_ptr())
        return to(tensor, *given, **how)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    move(model.model, "cpu")
    monkeypatch.undo()
    assert {tensor.data_ptr() for tensor in tensors(model.model)} - {0} <= moved
    assert reply() == before != ""


def tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """All tensors of a model, and those that its layers keep beside their weights."""
    names = ("CB", "SCB", "absmax", "code", "offset")
    for layer in model.modules():
        yield from [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        weight, state = getattr(layer, "weight", None), getattr(layer, "state", None)
        for owner in (weight, state, getattr(weight, "quant_state", None)):
            yield from [value for name in names if torch.is_tensor(value := getattr(owner, name, None))]
