"""The cache of prompts' beginnings: nothing is read twice, and no result changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_llms
from m3adapter.conversation.conversation import Conversation, Picture, Slot, Text
from m3adapter.language import blocks
from m3adapter.language.auto import load_language_model
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.language_model import LanguageModel, SlotStates
from m3adapter.language.prefix_cache import PrefixCache, block_key
from m3adapter.language.sampling import Sampling
from test_language_model import VISION, toy

WORDS = Sampling(do_sample=False, max_length=12)
TOKENS = torch.randn(4, toy_llms.WIDTH, generator=torch.Generator().manual_seed(3))
REPLY = "The fox ran over the hill, and the owl sang of the sea and of the stars above it. "


def story(panels: int, *, premise: str = "A fox finds a kite.", image: torch.Tensor | None = None) -> Conversation:
    told = Conversation().user(premise, [] if image is None else [image])
    for number in range(panels):
        told = told.assistant(drawn(number)).user("Go on, please.")
    return told


def drawn(number: int) -> list[Any]:
    return [Text(f"{number}. {REPLY}"), Picture(f"a fox by the sea, {number}")]


def slot_of(told: Conversation) -> tuple[Conversation, Slot]:
    return told.assistant(drawn(99)), Slot(len(told.turns), 1)


class Counter:
    """Counts the tokens that go through a model."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokens = 0
        model.model.base_model.register_forward_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, args: Any, named: dict[str, Any], _out: Any) -> None:
        given = named["inputs_embeds"] if named.get("inputs_embeds") is not None else named["input_ids"]
        self.tokens += given.shape[1]

    def of(self, work: Callable[[], Any]) -> tuple[Any, int]:
        """The result of the work, and how many tokens it took."""
        self.tokens = 0
        return work(), self.tokens


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(getattr(toy_llms, request.param)(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def counter(model: LanguageModel) -> Counter:
    return Counter(model)


def both(model: LanguageModel, told: Conversation) -> tuple[str, SlotStates]:
    with torch.no_grad():
        return "".join(model.reply(told, sampling=WORDS)), model.encode_slot(*slot_of(told), TOKENS)


def same(one: tuple[str, SlotStates], other: tuple[str, SlotStates]) -> bool:
    return (
        one[0] == other[0] and torch.equal(one[1].context, other[1].context) and torch.equal(one[1].text, other[1].text)
    )


@pytest.mark.slow
def test_nothing_changes_whether_it_remembers_or_not(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model.forget()
    warm = {panels: both(model, story(panels)) for panels in (0, 3, 7, 8)}
    assert same(warm[8], both(model, story(8))) and same(warm[3], both(model, story(3)))
    model.forget()
    assert same(both(model, story(8)), warm[8]) and len(model.prefixes) > 3
    usual, few = model.prefixes.limit, model.prefixes.used * 9 // 10
    for limit in (0, few):  # off, and too little room for all
        model.prefixes.limit = limit
        assert all(same(both(model, story(panels)), warm[panels]) for panels in (8, 3))
        assert model.prefixes.used <= limit and (len(model.prefixes) > 0) == (limit > 0)
    model.prefixes.limit = usual
    # And all but the last digits are those of the prompt read as a whole.
    monkeypatch.setattr(model, "_reader", None)
    reply, states = both(model, story(8))
    assert reply == warm[8][0] and not torch.equal(states.context, warm[8][1].context)
    for mine, its in ((states.context, warm[8][1].context), (states.text, warm[8][1].text)):
        assert (mine - its).abs().max() < 4e-4 < 0.1 < mine.abs().max()


def test_states_that_need_gradients_are_read_as_a_whole(model: LanguageModel) -> None:
    with torch.no_grad():
        states = model.encode_slot(*slot_of(story(8)), TOKENS)
    tokens = TOKENS.clone().requires_grad_()
    learned = model.encode_slot(*slot_of(story(8)), tokens)
    learned.context.sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().min() > 0
    assert (learned.context - states.context).abs().max() < 4e-4


def test_an_exchange_costs_what_is_new(model: LanguageModel, counter: Counter) -> None:
    model.forget()
    sizes = [len(model.prompts.for_reply(story(panels), 4000).ids) for panels in range(9)]
    exchange = sizes[8] - sizes[7]
    for panels in (0, 1, 2, 3):
        (_, states), tokens = counter.of(lambda count=panels: both(model, story(count)))
        asked = len(states.text) + len(states.context) + WORDS.max_length
        assert not panels or tokens < exchange + asked + 2 * 60, "what is new, the opening twice, and what is asked for"
    request = slot_of(story(3))
    _, tokens = counter.of(lambda: model.encode_slot(*request, TOKENS))
    with torch.no_grad():
        _, again = counter.of(lambda: model.encode_slot(*request, TOKENS))
    assert again < 0.2 * tokens, "gradients need the whole prompt"


def test_instructions_are_read_once(model: LanguageModel, counter: Counter) -> None:
    model.forget()
    first = len(model.prompts.for_reply(story(0), 4000).ids)
    _, cold = counter.of(lambda: both(model, story(0)))
    _, other = counter.of(lambda: both(model, story(0, premise="Two mice sail in a walnut shell.")))
    assert cold - other > 0.8 * first


def test_an_edit_and_a_step_back_keep_what_was_before_them(model: LanguageModel, counter: Counter) -> None:
    model.forget()
    both(model, story(8))
    back = story(5)
    edited = back.assistant([Text("It rained."), Picture("rain")]).user("And then?")
    for told in (back, edited):
        whole = len(model.prompts.for_reply(told, 4000).ids)
        _, tokens = counter.of(lambda told=told: "".join(model.reply(told, sampling=WORDS)))
        assert tokens < whole / 4


@pytest.mark.slow
def test_changed_weights_are_noticed(model: LanguageModel) -> None:
    model.forget()
    before = both(model, story(8))
    weight = model.model.get_input_embeddings().weight
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(1.5)
        other = both(model, story(8))
        model.forget()
        assert same(both(model, story(8)), other) and not same(before, other)
        weight.copy_(kept)
    assert same(both(model, story(8)), before)


@pytest.fixture
def seeing(tokenizer: Any) -> LanguageModel:
    return toy(tokenizer, context=2048)


def test_what_was_seen_is_told_apart(seeing: LanguageModel) -> None:
    told = story(20, image=torch.zeros(4, 4, 3))
    looks = torch.randn(2, 4, VISION, generator=torch.Generator().manual_seed(1)) * 3
    assert seeing.prompts.for_reply(told, 1700).ends and looks[0].ne(looks[1]).all()
    request, tokens = slot_of(told), torch.randn(4, 32, generator=torch.Generator().manual_seed(2))

    def states(*shown: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return seeing.encode_slot(*request, tokens, visual=shown).context

    one, other, unseen = states(looks[0]), states(looks[1]), states()
    assert not torch.allclose(one, other, atol=1e-4) and not torch.allclose(one, unseen, atol=1e-4)
    assert torch.equal(states(looks[0]), one) and torch.equal(states(looks[1]), other) and torch.equal(states(), unseen)
    seeing.forget()
    assert torch.equal(states(looks[1]), other)


def test_a_short_prompt_is_one_piece(seeing: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    short = next(
        panels for panels in range(40) if len(seeing.prompts.for_reply(story(panels + 1), 1700).ids) > blocks.FIRST
    )
    assert short > 3 and not seeing.prompts.for_reply(story(short), 1700).ends
    assert seeing.prompts.for_reply(story(short + 1), 1700).ends
    tokens = torch.randn(4, 32)

    def all_of_it() -> tuple[str, SlotStates]:
        with torch.no_grad():
            reply = "".join(seeing.reply(story(short), sampling=Sampling(temperature=2.0, max_length=40), seed=7))
            return reply, seeing.encode_slot(*slot_of(story(short)), tokens)

    found = all_of_it()
    assert len(seeing.prefixes) == 0
    monkeypatch.setattr(seeing, "_reader", None)  # transformers' own cache, and the whole prompt
    assert same(found, all_of_it())


@pytest.mark.parametrize("make", ["gemma3", "qwen2_5_vl"])
def test_models_that_keep_more_than_keys_and_values_read_every_prompt_as_a_whole(make: str, tmp_path: Path) -> None:
    other = load_language_model(getattr(toy_llms, make)(tmp_path))
    both(other, story(8))
    assert other.prompts.for_reply(story(8), 4000).ends and len(other.prefixes) == 0


def test_cuts_depend_on_what_is_before_them(model: LanguageModel, seeing: LanguageModel) -> None:
    for prompts in (model.prompts, seeing.prompts, model.prompts.without_instructions(), model.prompts.with_thinking()):
        longest = prompts.for_reply(story(20), 10**6)
        assert len(longest.ends) > 5
        for panels in range(20):
            told = story(panels)
            prompt = prompts.for_reply(told, 10**6)
            in_slot = prompts.for_slot(*slot_of(told), 10**6)
            assert prompt.ends == in_slot.ends == tuple(end for end in longest.ends if end < len(prompt.ids))
            assert not prompt.ends or prompt.ends[-1] < len(prompt.ids)
            assert not in_slot.ends or in_slot.ends[-1] < min(in_slot.answer)


def part(size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.zeros(1, 1, size, 1), torch.zeros(1, 1, size, 1))]


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache = PrefixCache(limit=4 * 80)
    keys: list[bytes] = []
    for number in range(4):
        keys.append(block_key(keys[-1] if keys else b"", [number]))
        cache.put(keys[-1], part(10), keys[:-1])
    assert cache.used == 320 and len(cache) == 4
    cache.use(keys[:2])
    other = block_key(keys[1], [9])
    cache.put(other, part(10), keys[:2])
    assert cache.get(keys[2]) is None and cache.get(keys[0]) and cache.get(other) and cache.used == 320
    cache.put(block_key(b"", [5]), part(41), ())
    assert cache.used == 0 or cache.get(block_key(b"", [5])) is None, "what is larger than all room is not kept"
    cache.limit = 0
    assert len(cache) == cache.used == 0
    cache.put(keys[0], part(1), ())
    assert len(cache) == 0
    assert block_key(b"", [1, 2]) != block_key(b"", [1]) != block_key(b"", [1], b"x")


def test_an_untrained_models_instructions_are_a_block(model: LanguageModel) -> None:
    assert model.config == LanguageModelConfig.untrained()
    first = model.prompts.for_reply(story(0), 4000)
    assert len(first.ends) == 1 and first.ends[0] > 300
