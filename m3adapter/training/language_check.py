"""Checks of the language model's replies: whether it tells stories as asked, in wordings that it has not seen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..language.language_model import LanguageModel
from ..language.sampling import Sampling
from ..storybook.stories import to_conversation
from .tales import Split, Tales, storybook

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ReplyReport:
    """Fractions of checked replies.

    Attributes:
        parsed: Texts and pictures alternate, and there are as many as asked.
        told: Every caption names a species and a place, and both are in its own text.
        complete: As `told`, and the prop and colours of the caption are in its text; colours may be in earlier text.
        followed: What the user named and the true caption shows is in the first caption; only replies to users who
            named something count.
        examples: Replies that failed a check: name of the check, the user's message, the reply.
    """

    parsed: float = 0.0
    told: float = 0.0
    complete: float = 0.0
    followed: float = 0.0
    examples: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """Return all figures on one line."""
        return " ".join(f"{name} {getattr(self, name):.3f}" for name in ("parsed", "told", "complete", "followed"))


def check_replies(
    model: LanguageModel,
    split: Split,
    count: int,
    seed: int = 0,
    *,
    sampling: Sampling | None = None,
    tales: Tales | None = None,
) -> ReplyReport:
    """Let the model answer messages of held-out stories, each after the true story so far, and check the replies.

    Users' pictures are given as one-hot rows of the species, as the stand-in for the visual projection takes them.

    Args:
        model: What to check, with the stand-in as its visual projection.
        split: Which stories.
        count: Number of messages.
        seed: Chooses the stories.
        sampling: How to write; greedily by default.
        tales: Whose stories; the storybook's by default.
    """
    tales = tales or storybook()
    sampling = sampling or Sampling(do_sample=False)
    rng = random.Random(seed)
    totals: Counter[str] = Counter()
    good: Counter[str] = Counter()
    report = ReplyReport()
    for number in range(count):
        told = tales.story(rng, split)
        # The first message of every other story, a random one of the others.
        at = 0 if number % 2 == 0 else rng.randrange(len(told.exchanges))
        visual = [_one_hot(exchange.user_scene, tales) for exchange in told.exchanges[: at + 1] if exchange.user_scene]
        conversation = to_conversation(told, at)
        reply = "".join(model.reply(conversation, visual=visual, sampling=sampling, seed=number))
        before = " ".join(turn.text for turn in conversation.turns)
        for name, passed in tales.judged(reply, told.exchanges[at], before).items():
            totals[name] += 1
            good[name] += passed
            if not passed:
                report.examples.append((name, told.exchanges[at].message, reply))
    share = {name: good[name] / total for name, total in totals.items()}
    report.parsed, report.told = share.get("parsed", 0.0), share.get("told", 0.0)
    report.complete, report.followed = share.get("complete", 0.0), share.get("followed", 0.0)
    return report


def _one_hot(scene: Any, tales: Tales) -> Tensor:
    index = tales.species.index(scene.characters[0].species)
    return torch.eye(len(tales.species))[index].expand(4, -1)


def failures(report: ReplyReport, limit: int = 8) -> Sequence[str]:
    """Return some failed replies, a line each."""
    return [f"  [{name}] {message!r} -> {reply!r}" for name, message, reply in report.examples[:limit]]
