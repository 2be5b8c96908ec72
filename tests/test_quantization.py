"""Weights of 8 and 4 bits, by the packages that are installed: smaller, and nearly the same model."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers.utils

import toy_llms
from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.language.auto import load_language_model
from m3adapter.language.quantization import Quantization
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
