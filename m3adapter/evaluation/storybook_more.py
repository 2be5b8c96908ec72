"""More figures of the shipped starter: newcomers, captions in other forms, names, foreign and weighted references.

They are measured as on the picture book (`picturebook_cases`), but the storybook gives no names and knows no weights:
both are put into slots of its stories here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..picturebook import foreign
from ..picturebook.world import Character as Foreigner
from ..storybook.dataset import Sample
from ..storybook.pool import with_references
from ..storybook.render import render_with_figures
from ..storybook.retyping import TEST_NAMES
from ..storybook.world import LIGHT_PHRASES, LOOKS, PLACE_PHRASES, WEATHER_PHRASES, article, caption, random_scene
from .figure_psnr import Drawn
from .figures import mean

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter.features import SlotFeatures
    from ..storybook.judge import Verdict

HEAVY = 4.0  # weight of the reference that should win, beside one of weight 1
SCENES = 24  # whose figures are measured
UNSEEN = "blocks"  # the style of foreign references; nothing of it is a render


class Bench(Protocol):
    """A test bench, as `starter.Bench` is one."""

    rng: random.Random

    def slots(self, count: int, wanted: Callable[[Sample], bool]) -> list[Sample]: ...  # noqa: D102

    def features(self, chosen: Sequence[Sample], shown: Sequence[list[Tensor]] | None = None) -> SlotFeatures: ...  # noqa: D102

    def verdict(self, features: SlotFeatures, gate: float) -> Verdict: ...  # noqa: D102


def more_figures(bench: Bench, count: int) -> dict[str, Any]:
    """Return the figures.

    Args:
        bench: Paints and judges; its random numbers choose the slots.
        count: Number of slots of each figure.
    """
    found: dict[str, Any] = {"newcomer_has_heros_look": newcomers(bench, count)}
    found["caption_forms"] = forms = caption_forms(bench, max(16, count // 2))
    found["caption_forms_worst"] = min(forms.values())
    pairs = [named(bench.rng, sample) for sample in bench.slots(count, _both_known)]
    found["named_pair_looks"] = kept(pairs, bench.verdict(bench.features(pairs), 1.0))
    return {**found, "foreign_reference": foreign_reference(bench, count), "weighted_reference": weighted(bench, count)}


def drawn(seed: int) -> Sequence[Drawn]:
    """Return captions that name all looks and their renders; `seed` chooses the scenes, half of them of two."""
    rng = random.Random(f"figures {seed}")
    found = []
    for number in range(SCENES):
        scene = random_scene(rng, characters=1 + number % 2)
        both = [render_with_figures(scene, side) for side in range(8)]
        different = {picture.tobytes(): (picture, figures) for picture, figures in both}
        found.append((caption(scene, looks=range(len(scene.characters))), list(different.values())))
    return found


def kept(chosen: Sequence[Sample], verdict: Verdict) -> float:
    """Return how many pictures have all looks that only references show."""
    right = []
    for row, sample in enumerate(chosen):
        shown = [sample.shown(index) for index in sample.known]
        right.append(all(actor is not None and verdict.look(row, actor.species) == actor.look for actor in shown))
    return mean(right)


def newcomers(bench: Bench, count: int) -> float:
    """Return how many characters that join a known one have its look."""

    def wanted(sample: Sample) -> bool:
        new = [index for index in range(len(sample.scene.characters)) if sample.shown(index) is None]
        return len(sample.scene.characters) == 2 and len(sample.known) == 1 and len(new) == 1 and not sample.named

    chosen = bench.slots(count, wanted)
    verdict = bench.verdict(bench.features(chosen), 1.0)
    found = []
    for row, sample in enumerate(chosen):
        (known,) = sample.known
        hero = sample.shown(known)
        assert hero is not None
        found.append(verdict.look(row, sample.scene.characters[1 - known].species) == hero.look)
    return mean(found)


def caption_forms(bench: Bench, count: int) -> dict[str, float]:
    """Return how often the look of one known character is kept, by the form of the caption."""
    chosen = bench.slots(count, _alone)
    rows = {}
    for name, form in FORMS.items():
        written = [form(sample) for sample in chosen]
        rows[name] = kept(written, bench.verdict(bench.features(written), 1.0))
    return rows


def foreign_reference(bench: Bench, count: int) -> float:
    """Return how often the main colour of a reference that no renderer drew is taken over."""
    chosen, pictures = [], []
    for sample in bench.slots(count, _alone):
        (actor,) = sample.scene.characters
        look = bench.rng.choice(LOOKS)
        shown = replace(random_scene(bench.rng, characters=1), characters=(replace(actor, look=look),))
        chosen.append(with_references(sample, (shown,)))
        drawn = foreign.draw(Foreigner("fox", look), UNSEEN, bench.rng.randrange(2**31))
        pictures.append([torch.from_numpy(drawn.copy()).float() / 255])
    return kept(chosen, bench.verdict(bench.features(chosen, pictures), 1.0))


def weighted(bench: Bench, count: int) -> float:
    """Return how often the heavier of two references in unlike looks is believed."""
    chosen, rows = [], []
    for sample in bench.slots(count, _alone):
        (actor,) = sample.scene.characters
        looks = bench.rng.sample(LOOKS, 2)
        scenes = [
            replace(random_scene(bench.rng, characters=1), characters=(replace(actor, look=look),)) for look in looks
        ]
        first = bench.rng.random() < 0.5  # whether the heavier one is in front
        chosen.append((with_references(sample, tuple(scenes if first else scenes[::-1])), scenes[0]))
        rows.append((HEAVY, 1.0) if first else (1.0, HEAVY))
    features = replace(bench.features([sample for sample, _ in chosen]), vision_weight=torch.tensor(rows))
    verdict = bench.verdict(features.to(features.vision.device), 1.0)
    # `kept` goes by the oldest reference; here the heavier one decides.
    return kept([with_references(sample, (heavier,)) for sample, heavier in chosen], verdict)


def recaptioned(sample: Sample, text: str) -> Sample:
    """Return a slot with another caption that means the same."""
    conversation = sample.conversation.with_caption(sample.slot, text)
    return replace(sample, conversation=conversation, caption=text)


def named(rng: random.Random, sample: Sample, *, alone: bool = False) -> Sample:
    """Return a slot whose characters have names, which the user's last message gives them.

    Args:
        rng: Chooses the names.
        sample: The slot.
        alone: Whether the caption calls them by these alone.
    """
    names = rng.sample(TEST_NAMES, len(sample.scene.characters))
    text, calls = sample.caption, []
    for name, actor in zip(names, sample.scene.characters, strict=True):
        text = re.sub(rf"\ban? {actor.species}\b", name if alone else f"{name} the {actor.species}", text)
        calls.append(f"The {actor.species} is called {name}.")
    turn = sample.slot.turn - 1
    said = sample.conversation.turns[turn].text
    return recaptioned(
        replace(sample, conversation=sample.conversation.with_text(turn, " ".join([said, *calls]))), text
    )


def _the(sample: Sample) -> Sample:
    species = sample.scene.characters[0].species
    return recaptioned(sample, caption(sample.scene).replace(article(species), f"the {species}", 1))


def _list(sample: Sample) -> Sample:
    scene = sample.scene
    around = (PLACE_PHRASES[scene.place], LIGHT_PHRASES[scene.light], WEATHER_PHRASES[scene.weather])
    parts = [scene.characters[0].species, scene.prop or "", *(phrase.split(" ")[-1] for phrase in around)]
    return recaptioned(sample, ", ".join(filter(None, parts)))


def _name(sample: Sample, alone: bool) -> Sample:
    return named(random.Random(sample.caption), sample, alone=alone)


# Ten ways in which people write the caption of one known character.
FORMS: dict[str, Callable[[Sample], Sample]] = {
    "plain": lambda sample: recaptioned(sample, caption(sample.scene)),
    "without articles": lambda sample: recaptioned(sample, re.sub(r"\ban? |\bthe ", "", caption(sample.scene))),
    "capital and full stop": lambda sample: recaptioned(sample, caption(sample.scene).capitalize() + "."),
    "large": lambda sample: recaptioned(sample, caption(sample.scene).upper()),
    "the": _the,
    "list": _list,
    "place first": lambda sample: recaptioned(sample, caption(sample.scene, style=2)),
    "other words": lambda sample: recaptioned(sample, caption(sample.scene, style=3)),
    "name and kind": lambda sample: _name(sample, False),
    "name alone": lambda sample: _name(sample, True),
}


def _alone(sample: Sample) -> bool:
    """Return whether a slot has one known character, and a user's message before it."""
    return len(sample.scene.characters) == len(sample.known) == 1 and _asked(sample)


def _both_known(sample: Sample) -> bool:
    return len(sample.scene.characters) == len(sample.known) == 2 and _asked(sample)


def _asked(sample: Sample) -> bool:
    before = sample.conversation.turns[sample.slot.turn - 1]
    return before.role == "user" and bool(before.text)
