"""A comparison of two ways to keep a character's look: the gate on references, and a character sheet in the captions.

Both paint the same slots of held-out stories with the same noise, and the judge classifies the pictures. The sheet says
what the oldest reference of a character shows; the decoder's own text encoders read it, and nothing sees a reference.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..conversation.cast import Character, with_looks
from ..diffusion.condition import Condition
from ..pipeline import M2Chat
from ..storybook.dataset import Sample
from ..storybook.judge import Judge, Verdict
from .figures import mean
from .ip_adapter import paint
from .starter import GUIDANCE, STEPS, Bench, changes_look

GATES = (0.0, 0.5, 1.0)


def compare(
    *, starter: Path, seed: int = 0, device: str = "cpu", dtype: str = "float32", pictures: int = 200
) -> dict[str, Any]:
    """Measure the gate, plain captions, and captions with the sheet.

    Args:
        starter: The folder of weights.
        seed: Chooses stories, layouts and noise.
        device: Where the models run.
        dtype: The name of torch's floating point type in which they run.
        pictures: Number of slots, each painted once per row; a quarter as many show a change of look.

    Returns:
        The report: `rows` by name, each with the fraction of pictures with the right species, scene and prop, and of
        looks that are kept; and `changes`, how often a new look that the caption names is painted.
    """
    began = time.time()
    model = M2Chat.from_pretrained(starter, device=device, dtype=getattr(torch, dtype))
    bench = Bench(model, Judge.load(), random.Random(f"sheet evaluation {seed}"), seed)
    rows: dict[str, dict[str, float]] = {}
    kept = bench.slots(pictures, lambda sample: bool(sample.known))
    for name, verdict in _verdicts(bench, kept):
        rows[name] = bench.scores(kept, verdict)
        print(name, rows[name], flush=True)
    changed = bench.slots(max(pictures // 4, 1), changes_look)
    changes = {name: _named(changed, verdict) for name, verdict in _verdicts(bench, changed)}
    print("changes", changes, flush=True)
    report = {"pictures": pictures, "seed": seed, "steps": STEPS, "guidance": GUIDANCE, "dtype": dtype}
    return {**report, "rows": rows, "changes": changes, "seconds": round(time.time() - began)}


def sheet(sample: Sample) -> list[Character]:
    """Return the cast of a picture, with the looks that its references tell."""
    shown = (sample.shown(index) for index in range(len(sample.scene.characters)))
    return [Character(actor.species, looks=actor.look) for actor in shown if actor is not None]


def _verdicts(bench: Bench, chosen: Sequence[Sample]) -> list[tuple[str, Verdict]]:
    features = bench.features(chosen)
    noise = [bench.rng.randrange(2**32) for _ in chosen]
    described = [with_looks(sample.caption, sheet(sample)) for sample in chosen]
    conditions: dict[str, Condition] = {f"gate {gate:g}": bench.fuse(features, gate) for gate in GATES}
    conditions["caption"] = bench.model.encode_text([sample.caption for sample in chosen])
    conditions["caption with sheet"] = bench.model.encode_text(described)
    decoder = bench.model.decoder
    return [
        (name, bench.judge.judge(paint(condition, noise, lambda part: decoder)))
        for name, condition in conditions.items()
    ]


def _named(chosen: Sequence[Sample], verdict: Verdict) -> float:
    """Return how often all looks that a caption names are painted."""
    return mean(
        all(
            verdict.look(row, sample.scene.characters[i].species) == sample.scene.characters[i].look
            for i in sample.named
        )
        for row, sample in enumerate(chosen)
    )
