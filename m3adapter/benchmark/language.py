"""Rows about the language model: writing beside reading, the cost of late turns, prompts, and choosing a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..conversation.conversation import Conversation, Slot
from . import tales
from .rows import TOO_LONG, Bench, Group, Row
from .timing import Figure, Side, figure, interleave, ratio, seconds

if TYPE_CHECKING:
    from torch import Tensor

    from ..language.language_model import LanguageModel

NEW_TOKENS = 32  # of a measured reply
IMAGE_TOKENS = 4  # as many as a fresh M3-Adapter has
EXCHANGES = 400
VOCABULARY = 2**18


def image_tokens(model: LanguageModel) -> Tensor:
    """Return untrained image tokens [K, H] for a model."""
    import torch

    drawn = torch.randn(IMAGE_TOKENS, model.hidden_size, generator=torch.Generator().manual_seed(0))
    return drawn.to(model.model.device) / model.hidden_size**0.5


def write(model: LanguageModel, conversation: Conversation, seed: int = 0, tokens: int = NEW_TOKENS) -> int:
    """Write the first chunks of a reply, and return how many there were."""
    return len(list(islice(model.reply(conversation, seed=seed), tokens)))


def read(model: LanguageModel, tokens: Tensor, conversation: Conversation, slot: Slot) -> None:
    """Read a slot."""
    import torch

    with torch.no_grad():
        model.encode_slot(conversation, slot, tokens)


@contextmanager
def counted(model: LanguageModel) -> Iterator[list[int]]:
    """Yield a list to which the number of tokens of each pass through the model is added."""
    passes: list[int] = []

    def count(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = named.get("inputs_embeds")
        given = named.get("input_ids") if given is None else given
        given = arguments[0] if given is None else given
        passes.append(given.shape[0] * given.shape[1])

    hook = model.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def rereading(model: LanguageModel) -> LanguageModel:
    """Return the same model, which reads every prompt from its beginning, in one pass, and remembers nothing of it."""
    other = type(model)(model.model, model.tokenizer, model.visual_projection, model.config)
    other._reader = None
    return other


LATE = Group(
    (
        Row("reply_turn20_over_turn2", f"SmolLM2: reply of {NEW_TOKENS} tokens at turn 20 / at turn 2", goal=1.5),
        Row("slot_turn20_tokens", "SmolLM2: slot at turn 20, tokens through the model", "tokens", "count", 120),
        Row("exchange_over_reread", "SmolLM2: exchange at turn 20 / re-reading everything", goal=0.3),
        Row("reply_over_slot_smollm2", f"SmolLM2, turn 2: reply of {NEW_TOKENS} tokens / slot"),
    ),
    lambda bench: late_turns(bench),
)


def late_turns(bench: Bench) -> dict[str, Figure | str]:
    """Measure replies and slots at turns 2 and 20 of a story that was told until then.

    In each round the reply before ends in different words, so that it is read for the first time, as in a story.
    """
    model = bench.plain_model
    tokens = image_tokens(model)
    count = bench.rounds(5, 1)
    tails = tales.variants(2 * (count + 1) + bench.rounds(3, 1))
    of_replies, of_slots, further = tails[: count + 1], tails[count + 1 : 2 * count + 2], tails[2 * count + 2 :]
    for turn in (2, 20):  # what a story has read by the time of that turn
        write(model, tales.asked(turn - 1), tokens=1)
    sizes = []

    def reply(turn: int) -> Side:
        stories = [tales.asked(turn, tail=tail) for tail in of_replies]
        return Side(lambda number: write(model, stories[number]))

    def slot(turn: int) -> Side:
        stories = [tales.replied(tales.asked(turn, tail=tail), turn - 1) for tail in of_slots]

        def call(number: int) -> None:
            with counted(model) as passes:
                read(model, tokens, *stories[number])
            if turn == 20 and number >= 0:
                sizes.append(sum(passes))

        # A slot is read after its reply was written.
        return Side(call, lambda number: write(model, tales.asked(turn, tail=of_slots[number]), tokens=1))

    def exchange(reader: LanguageModel, number: int) -> None:
        conversation = tales.asked(20, tail=further[number])
        write(reader, conversation)
        read(reader, tokens, *tales.replied(conversation, 19))

    times = interleave(
        {
            "reply at turn 2": reply(2),
            "slot at turn 2": slot(2),
            "reply at turn 20": reply(20),
            "slot at turn 20": slot(20),
        },
        count,
        clock="CPU",
        warm=0 if bench.quick else 1,
    )
    exchanges = interleave(
        {"exchange": partial(exchange, model), "read anew": partial(exchange, rereading(model))},
        len(further),
        clock="CPU",
        warm=0,  # the same was read above
    )
    return {
        "reply_turn20_over_turn2": ratio(times, "reply at turn 20", "reply at turn 2"),
        "slot_turn20_tokens": figure(sizes, {"seconds": figure(times["slot at turn 20"]).value}),
        "exchange_over_reread": ratio(exchanges, "exchange", "read anew"),
        "reply_over_slot_smollm2": ratio(times, "reply at turn 2", "slot at turn 2"),
    }


TURNS = Group(
    (
        Row("slot_476_seconds", "SmolLM2: slot of 476 tokens at turn 1, read for the first time", "s"),
        Row("turns_1_to_20", "SmolLM2: reply at turn 20 / at turn 1, at every turn of one story"),
    ),
    lambda bench: turns(bench),
)


def turns(bench: Bench) -> dict[str, Figure | str]:
    """Measure one story from its first turn to its twentieth, and a slot of real length in its first."""
    model = bench.plain_model
    tokens = image_tokens(model)
    conversation, slot = first_of_length(model, 476)
    reading = Side(lambda number: read(model, tokens, conversation, slot), lambda number: model.forget())
    times = interleave({"slot": reading}, bench.rounds(5, 2), clock="CPU")
    found: dict[str, Figure | str] = {"slot_476_seconds": seconds(times, "slot")}
    if bench.quick:
        return {**found, "turns_1_to_20": TOO_LONG}
    told: dict[str, list[float]] = {}
    for turn in range(1, 21):
        told |= interleave({f"turn {turn}": partial(_reply, model, tales.asked(turn))}, 1, clock="CPU", warm=0)
    return {**found, "turns_1_to_20": ratio_over(told, "turn 20", "turn 1")}


def _reply(model: LanguageModel, conversation: Conversation, number: int) -> None:
    write(model, conversation)


def ratio_over(times: dict[str, list[float]], one: str, other: str) -> Figure:
    """Return the ratio of two sides beside the medians of all."""
    found = ratio(times, one, other)
    return Figure(
        found.value, found.spread, found.rounds, {name: figure(values).value for name, values in times.items()}
    )


def first_of_length(model: LanguageModel, length: int) -> tuple[Conversation, Slot]:
    """Return a first exchange whose slot takes about `length` tokens, and that slot."""
    words = tales.PREMISE
    while True:
        conversation, slot = tales.replied(Conversation().user(words), 0)
        ids = model.prompts.for_slot(conversation, slot, model.context_length - IMAGE_TOKENS).ids
        if len(ids) + IMAGE_TOKENS >= length:
            return conversation, slot
        words += " Tell it slowly."


PROMPTS = Group(
    (
        Row(
            "prompt_400_seconds",
            f"building the prompt of {EXCHANGES} exchanges, when one more was told",
            "s",
            goal=0.02,
        ),
        Row("prompt_400_cold_seconds", f"building the prompt of {EXCHANGES} exchanges that were just opened", "s"),
    ),
    lambda bench: prompts(bench),
)


def prompts(bench: Bench) -> dict[str, Figure | str]:
    """Measure prompts of the starter's language model, whose context has long been full."""
    writer, limit = bench.chat.language_model.prompts, bench.chat.language_model.context_length - 256
    count = bench.rounds(9, 3)
    tails = tales.variants(2 * count + 4)
    stories = [{turn: tales.asked(turn, tail=tail) for turn in (20, EXCHANGES)} for tail in tails[: count + 1]]
    writer.for_reply(tales.asked(EXCHANGES - 1), limit)
    warm = interleave(
        {
            "20 exchanges": lambda number: writer.for_reply(stories[number + 1][20], limit),
            "400 exchanges": lambda number: writer.for_reply(stories[number + 1][EXCHANGES], limit),
        },
        count,
        clock="CPU",
    )
    return {"prompt_400_seconds": seconds(warm, "400 exchanges", "20 exchanges"), **cold_prompts(bench, limit)}


def cold_prompts(bench: Bench, limit: int) -> Mapping[str, Figure | str]:
    """Measure the prompts of stories whose turns are all new."""
    from ..language.prompts import PromptWriter

    model = bench.chat.language_model
    story = tales.asked(EXCHANGES)
    cold = interleave(
        {"400 exchanges": Side(lambda number: PromptWriter(model.tokenizer, model.config).for_reply(story, limit))},
        bench.rounds(5, 2),
        clock="CPU",
    )
    return {"prompt_400_cold_seconds": seconds(cold, "400 exchanges")}


CHOOSING = Group(
    (
        Row("choose_262k_seconds", "choosing one of 262 k tokens", "s", goal=0.0015),
        Row("choose_over_sort", "choosing one of 262 k tokens / sorting them"),
    ),
    lambda bench: choosing(bench),
)


def choosing(bench: Bench) -> dict[str, Figure | str]:
    """Measure the choice of a token with the default settings, beside a sort of the vocabulary."""
    import torch

    from ..language.sampling import Sampling, choose

    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(VOCABULARY, generator=generator)
    sampling, said = Sampling(), range(200)
    times = interleave(
        {
            "choice": lambda number: choose(logits, sampling, generator, said=said),
            "sort": lambda number: logits.sort(descending=True, stable=True),
        },
        bench.rounds(51, 21),
        clock="CPU",
        warm=3,
    )
    return {"choose_262k_seconds": seconds(times, "choice", "sort"), "choose_over_sort": ratio(times, "choice", "sort")}


GROUPS = (LATE, TURNS, PROMPTS, CHOOSING)
WITH_MODEL = {row.key for group in (LATE, TURNS) for row in group.rows}  # a model that was never trained for the markup
