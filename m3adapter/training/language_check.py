"""Checks of the language model's replies: whether it tells stories as asked, in wordings that it has not seen."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..conversation.markup import parse
from ..conversation.segments import Picture, Text
from ..language.language_model import LanguageModel
from ..language.sampling import Sampling
from ..storybook.stories import Exchange, Split, story, to_conversation
from ..storybook.world import LOOKS, PLACES, PROPS, SPECIES

if TYPE_CHECKING:
    from torch import Tensor

_WORD = re.compile(r"[a-z]+")


@dataclass
class ReplyReport:
    """Fractions of checked replies.

    Attributes:
        parsed: Texts and pictures alternate, and there are as many as asked.
        told: Every caption names a species and a place, and both are in its own text.
        complete: As `told`, and the prop and colours of the caption are in its text; colours may be in earlier text.
        followed: What the user named and the true caption shows is in the first caption; only replies to users who
            named something count.
        by_task: The fraction followed, by task of the true first picture.
        examples: Replies that failed a check: name of the check, the user's message, the reply.
    """

    parsed: float = 0.0
    told: float = 0.0
    complete: float = 0.0
    followed: float = 0.0
    by_task: dict[str, float] = field(default_factory=dict)
    examples: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """Return all figures on one line."""
        tasks = " ".join(f"{task} {value:.2f}" for task, value in sorted(self.by_task.items()))
        figures = ((name, getattr(self, name)) for name in ("parsed", "told", "complete", "followed"))
        return " ".join(f"{name} {value:.3f}" for name, value in figures) + f" ({tasks})"


def words(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    return set(_WORD.findall(text.lower()))


def check_replies(
    model: LanguageModel, split: Split, count: int, seed: int = 0, *, sampling: Sampling | None = None
) -> ReplyReport:
    """Let the model answer messages of held-out stories, each after the true story so far, and check the replies.

    Users' pictures are given as one-hot rows of SPECIES, as the stand-in for the visual projection takes them.

    Args:
        model: What to check, with the stand-in as its visual projection.
        split: Which stories.
        count: Number of messages.
        seed: Chooses the stories.
        sampling: How to write; greedily by default.
    """
    sampling = sampling or Sampling(do_sample=False)
    rng = random.Random(seed)
    totals: Counter[str] = Counter()
    good: Counter[str] = Counter()
    report = ReplyReport()
    for number in range(count):
        told = story(rng, split)
        # The first message of every other story, a random one of the others.
        at = 0 if number % 2 == 0 else rng.randrange(len(told.exchanges))
        visual = [_one_hot(exchange) for exchange in told.exchanges[: at + 1] if exchange.user_scene]
        conversation = to_conversation(told, at)
        reply = "".join(model.reply(conversation, visual=visual, sampling=sampling, seed=number))
        before = " ".join(turn.text for turn in conversation.turns)
        for name, passed in _judged(reply, told.exchanges[at], before).items():
            totals[name] += 1
            good[name] += passed
            if not passed:
                report.examples.append((name, told.exchanges[at].message, reply))
    share = {name: good[name] / total for name, total in totals.items()}
    report.parsed, report.told = share.get("parsed", 0.0), share.get("told", 0.0)
    report.complete, report.followed = share.get("complete", 0.0), share.get("followed", 0.0)
    report.by_task = {name.partition(" ")[2]: value for name, value in share.items() if name.startswith("followed ")}
    return report


def _judged(reply: str, truth: Exchange, before: str) -> dict[str, bool]:
    segments = parse(reply)
    pairs = list(zip(segments[::2], segments[1::2], strict=False))
    parsed = (
        len(segments) == 2 * len(truth.panels)
        and all(isinstance(text, Text) and isinstance(picture, Picture) for text, picture in pairs)
        and reply.rstrip().endswith(">")
    )
    results = {"parsed": parsed}
    if not parsed:
        return results
    checks = [_pair(text.text, picture.caption, before) for text, picture in pairs]  # type: ignore[union-attr]
    results["told"] = all(told for told, _ in checks)
    results["complete"] = all(complete for _, complete in checks)
    panel = truth.panels[0]
    asked = words(truth.message) & words(panel.caption) & {*SPECIES, *PLACES, *PROPS, *LOOKS}
    if truth.user_scene:
        asked |= {truth.user_scene.characters[0].species}
    if asked:
        results["followed"] = results[f"followed {panel.task}"] = asked <= words(pairs[0][1].caption)  # type: ignore[union-attr]
    return results


def _pair(text: str, caption: str, before: str) -> tuple[bool, bool]:
    captioned, said = words(caption), words(text)
    told = all(captioned & {*names} and captioned & {*names} <= said for names in (SPECIES, PLACES))
    complete = told and captioned & {*PROPS} <= said and captioned & {*LOOKS} <= said | words(before)
    return told, complete


def _one_hot(exchange: Exchange) -> Tensor:
    assert exchange.user_scene is not None
    index = SPECIES.index(exchange.user_scene.characters[0].species)
    return torch.eye(len(SPECIES))[index].expand(4, -1)


def failures(report: ReplyReport, limit: int = 8) -> Sequence[str]:
    """Return some failed replies, a line each."""
    return [f"  [{name}] {message!r} -> {reply!r}" for name, message, reply in report.examples[:limit]]
