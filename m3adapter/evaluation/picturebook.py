"""The figures of a starter whose world is the picture book: `python -m m3adapter evaluate --world picturebook`.

Every picture is classified by the picture book's judge, which was trained on renders only. `renders` holds the same
figures of true renders of what the pictures should show: what the judge and the measure themselves can reach.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..arguments import mendable
from ..gate import GateSetting
from ..picturebook.dataset import Sample
from ..picturebook.judge import Judge
from ..picturebook.render import render
from ..picturebook.stories.tale import Split
from ..picturebook.world import ACCESSORIES, LOOKS, Scene
from ..pipeline import M2Chat
from . import messages, picturebook_drawn
from .figure_psnr import psnr_of_model
from .figures import mean
from .picturebook_bench import Bench
from .picturebook_cases import FORMS, Cases
from .picturebook_scores import heros_look, looks_kept, named_looks, scores
from .starter import ABLATIONS, GATES, GUIDANCE, STEPS


class Painter(Protocol):
    """Paints slots."""

    def __call__(self, chosen: Sequence[Sample], gate: float) -> list[Tensor]:
        """Return a picture [H, W, 3] in 0..1 of each slot at a gate strength of 0..1."""


def evaluate(
    *,
    starter: Path,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    pictures: int = 500,
    without: str | None = None,
    split: Split = "test",
) -> dict[str, Any]:
    """Measure the M²Chat in `starter` on the picture book; the arguments are those of `starter.evaluate`.

    Returns:
        The report; all figures are fractions of 1, except `figure_psnr` in dB and `seconds`.

    Raises:
        UserError: The judge's weights are missing, or the messages of `tests/data/messages.jsonl` are damaged.
    """
    began = time.time()
    said = messages.load() if messages.MESSAGES.is_file() else None
    with mendable():
        judge = Judge.load()
    model = M2Chat.from_pretrained(starter, device=device, dtype=getattr(torch, dtype))
    rng = random.Random(f"picture book {seed}")
    bench = Bench(model, rng, ABLATIONS[without] if without else GateSetting())
    report: dict[str, Any] = {"world": "picturebook", "pictures": pictures, "seed": seed, "steps": STEPS}
    report |= {"guidance": GUIDANCE, "dtype": dtype}
    report |= {"without": without} if without else {}
    report |= {"split": split} if split != "test" else {}
    report["judge"] = judge_accuracy(judge, 300, seed)
    report |= figures(judge, bench, seed, pictures, split)
    report["gate_auc"] = bench.gate_auc(Cases(rng, split), max(40, pictures // 2))
    report["story6_appearance"] = bench.long_stories(judge, max(8, pictures // 12), split=split)
    report |= bench.replies(max(40, pictures // 2), split)
    report["figure_psnr"] = psnr_of_model(model, bench.paint, picturebook_drawn.drawn(seed))
    if said is None:
        print(f"messages_right is left out: {messages.MESSAGES.name} belongs to the repository", flush=True)
        report |= dict.fromkeys(("messages_right", "messages_right_by_kind"))
    else:
        report |= messages.figures(messages.answered(model, said, seed))
    report["renders"] = upper_bound(judge, seed, min(pictures, 200), split)
    report["seconds"] = round(time.time() - began)
    return report


def figures(judge: Judge, paint: Painter, seed: int, pictures: int, split: Split = "test") -> dict[str, Any]:
    """Return the figures of painted slots.

    Args:
        judge: Classifies pictures.
        paint: Paints them.
        seed: Chooses the slots: the same for every painter.
        pictures: Number of slots for the gate curve; the others use fewer.
        split: Of the stories.
    """
    cases = Cases(random.Random(f"picture book cases {seed}"), split)
    some, few = max(20, pictures // 4), max(16, pictures // 10)

    def seen(chosen: Sequence[Sample], gate: float = 1.0) -> Any:
        return judge.judge(paint(chosen, gate))

    known = cases.known(pictures)
    curve = []
    for gate in GATES:
        curve.append({"gate": gate, **scores(known, seen(known, gate))})
        print(curve[-1], flush=True)
    # Someone else's references: what the own ones tell must not be there but by chance.
    strangers = [stranger(sample, known[row - 1]) for row, sample in enumerate(known)]
    shuffled = scores(known, seen(strangers))
    found: dict[str, Any] = {"gate_curve": curve, "baselines": {"shuffled_reference": shuffled}}
    found |= {name: curve[-1][name] for name in ("species", "scene", "prop", "action", "mood")}
    newcomers = cases.newcomers(some)
    found["newcomer_has_heros_look"] = heros_look(newcomers, seen(newcomers))
    plain = cases.forms(few)
    forms = {}
    for name, form in FORMS.items():
        rewritten = [sample.recaptioned(form(sample, cases.rng, split)) for sample in plain]
        forms[name] = looks_kept(rewritten, seen(rewritten))
    found |= {"caption_forms": forms, "caption_forms_worst": min(forms.values())}
    for name, chosen, measure in (
        ("named_pair_looks", cases.named_pairs(some), looks_kept),
        ("foreign_reference", cases.foreign(some), looks_kept),
        ("weighted_reference", cases.weighted(some), looks_kept),
        ("named_change", cases.changes(some), named_looks),
    ):
        found[name] = measure(chosen, seen(chosen))
        print(name, found[name], flush=True)
    return found


def stranger(sample: Sample, other: Sample) -> Sample:
    """Return a slot with the references of another, which show nobody of it."""
    shown = (replace(one, who=(-1,) * len(one.who)) for one in other.references)
    return replace(sample, references=tuple(shown))


def upper_bound(judge: Judge, seed: int, pictures: int, split: Split = "test") -> dict[str, Any]:
    """Return the figures of true renders, and of stories whose last picture is rendered as the first."""
    rng = random.Random(f"renders {seed}")
    found = figures(judge, Renders(rng), seed, pictures, split)
    pairs = Cases(rng, split).lasting(max(8, pictures // 12))
    verdict = judge.judge([Renders(rng).draw(sample.scene) for pair in pairs for sample in pair])
    same = []
    for row, (first, _) in enumerate(pairs):
        species = first.scene.characters[0].species
        same.append(verdict.word(2 * row, species, "look") == verdict.word(2 * row + 1, species, "look"))
    return {**found, "story6_appearance": mean(same)}


@dataclass
class Renders:
    """Renders what slots should show: with the looks that references tell at gate 1, without them at gate 0.

    In between, each picture has them with the gate as its probability.
    """

    rng: random.Random

    def __call__(self, chosen: Sequence[Sample], gate: float) -> list[Tensor]:
        """Render slots."""
        drawn = []
        for sample in chosen:
            sample = replace(sample, scene=self.free(sample))
            drawn.append(self.draw(sample.painted if self.rng.random() < gate else sample.scene))
        return drawn

    def free(self, sample: Sample) -> Scene:
        """Return a scene that a caption may mean to somebody who does not know the references."""
        actors = []
        for actor, said in zip(sample.scene.characters, sample.said.characters, strict=True):
            look = actor.look if "look" in said else self.rng.choice(LOOKS)
            accessory = actor.accessory if "accessory" in said else self.rng.choice(ACCESSORIES)
            actors.append(replace(actor, look=look, accessory=accessory))
        return replace(sample.scene, characters=tuple(actors))

    def draw(self, scene: Scene) -> Tensor:
        """Render a scene [H, W, 3] in 0..1."""
        return torch.from_numpy(render(scene, self.rng.randrange(2**31)).copy()).float() / 255


def judge_accuracy(judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Return how often the judge is right about held-out renders."""
    from ..training.picture_judge import accuracy, held_out

    return {name: round(value, 4) for name, value in accuracy(judge, *held_out(count, seed)).items()}
