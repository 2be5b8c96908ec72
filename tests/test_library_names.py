"""The pack uses the libraries' current names: nothing that it does causes a deprecation warning."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import torch

import toy_llms
import toys
from m3adapter.compat import cache_of, with_cache
from m3adapter.conversation.conversation import Conversation
from m3adapter.diffusion.auto import load_decoder
from m3adapter.language.auto import load_language_model
from m3adapter.language.sampling import Sampling


def test_writing_and_painting_use_no_name_that_the_libraries_give_up(tmp_path: Path) -> None:
    folder = toys.save_decoder(tmp_path / "decoder")
    words = toy_llms.qwen3(tmp_path / "words")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        load_decoder(folder).decode(toys.condition(), seed=1, steps=2)
        model = load_language_model(words)
        assert "".join(model.reply(Conversation().user("Hello."), sampling=Sampling(do_sample=False, max_length=40)))


def test_a_cache_has_the_name_that_the_model_knows() -> None:
    class Old(torch.nn.Module):
        def forward(self, input_ids, past_key_values=None): ...

    class New(torch.nn.Module):
        def forward(self, input_ids, cache=None): ...

    cache = SimpleNamespace()
    assert with_cache(Old(), cache) == {"past_key_values": cache} and with_cache(New(), cache) == {"cache": cache}
    assert cache_of({"past_key_values": cache}) is cache and cache_of({"cache": cache}) is cache
