"""Two low-level paths over one gate: the M3-Adapter, and an IP-Adapter on the decoder's own reading of the caption.

Both paint the same slots of stories that neither has seen, with the same noise, and the judge reads both. The figures
are those of the gate curve of `evaluation.py`: text alignment (species, scene, prop) and kept appearance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion.condition import Condition
from ..diffusion.decoder import DiffusionDecoder
from ..ip_adapter.adaptive_gate import adapted_gate
from ..ip_adapter.image_prompt import ImageGate, ImagePrompt, Reference
from ..ip_adapter.ip_adapter import load_ip_adapter
from ..pipeline import M2Chat
from ..storybook.dataset import Sample
from ..storybook.judge import Judge
from ..storybook.world import Scene, caption
from .starter import BATCH, GATES, GUIDANCE, STEPS, Bench


def compare(
    *,
    starter: Path,
    ip_adapter: Path,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    pictures: int = 200,
) -> dict[str, Any]:
    """Measure both paths.

    Args:
        starter: Folder of weights: decoder, vision encoder, language model and M3-Adapter.
        ip_adapter: A file of the kind base, which `train ip` writes for that decoder and that vision encoder.
        seed: Chooses stories, layouts and noise.
        device, dtype: Where the models run, and in which of torch's floating point types.
        pictures: How many slots, each painted once per gate and path.

    Returns:
        The report: `m3_curve` and `ip_curve`, a row for each gate; and `adaptive_gate`, the mean gate that the rule of
        `adaptive_gate.py` gives pictures of the same character, of the same in a new look that is named, and of others.

    Raises:
        ValueError: The IP-Adapter is not one for the decoder and the vision encoder; one sentence.
    """
    began = time.time()
    kind = getattr(torch, dtype)
    model = M2Chat.from_pretrained(starter, device=device, dtype=kind)
    adapter = load_ip_adapter(ip_adapter, device=device, dtype=kind)
    adapter.config.check_image_width(model.vision_encoder.hidden_size)
    bench = Bench(model, Judge.load(), random.Random(f"ip evaluation {seed}"), seed)
    chosen = bench.slots(pictures, lambda sample: bool(sample.known))
    features = bench.features(chosen)
    text = model.encode_text([sample.caption for sample in chosen])
    with torch.no_grad():
        seen = model.vision_encoder.embed([bench.picture(deciding(sample)) for sample in chosen])
        tokens, (negative,) = adapter.encode(seen), adapter.encode(torch.zeros_like(seen[:1]))
    noise = [bench.rng.randrange(2**32) for _ in chosen]

    def look(gate: float) -> Callable[[slice], DiffusionDecoder]:
        def of(part: slice) -> DiffusionDecoder:
            reference = Reference(adapter, tokens[part], negative)
            return model.decoder.with_image_prompt(ImagePrompt((reference,), ImageGate(strength=gate)))

        return of

    report: dict[str, Any] = {"pictures": pictures, "seed": seed, "steps": STEPS, "guidance": GUIDANCE, "dtype": dtype}
    for name, painted in (
        ("m3_curve", lambda gate: paint(bench.fuse(features, gate), noise, lambda part: model.decoder)),
        ("ip_curve", lambda gate: paint(text, noise, look(gate))),
    ):
        report[name] = []
        for gate in GATES:
            scores = bench.scores(chosen, bench.judge.judge(painted(gate)))
            report[name].append({"gate": gate, **scores})
            print(name, report[name][-1], flush=True)
    report["adaptive_gate"] = adaptive(bench, pictures)
    report["seconds"] = round(time.time() - began)
    return report


def paint(condition: Condition, noise: Sequence[int], decoder: Callable[[slice], DiffusionDecoder]) -> list[Tensor]:
    """A picture of every condition, from the seed in `noise`, by the decoder for that part of the batch."""
    images: list[Tensor] = []
    parts = condition.split()
    for start in range(0, len(parts), BATCH):
        part = slice(start, min(start + BATCH, len(parts)))
        some = Condition.concatenate(parts[part])
        images += decoder(part).decode(some, seed=noise[part], steps=STEPS, guidance=GUIDANCE)
    return images


def deciding(sample: Sample) -> Scene:
    """The reference of a sample that tells the look of the first character whose look only references tell."""
    species = sample.scene.characters[sample.known[0]].species
    return next(scene for scene in sample.references if species in {actor.species for actor in scene.characters})


def adaptive(bench: Bench, count: int) -> dict[str, float]:
    """The mean of the rule's gate, 1 at most, for pictures of three kinds, each with its oldest reference."""
    kinds: dict[str, Callable[[Sample], bool]] = {
        "same": lambda sample: bool(sample.references) and bool(_shown(sample)) and not sample.named,
        "named_change": lambda sample: bool(sample.references) and bool(_shown(sample)) and bool(sample.named),
        "other": lambda sample: bool(sample.references) and not _shown(sample),
    }

    def encode(texts: Sequence[str]) -> Tensor:
        return bench.model.encode_text(texts).pooled

    means = {}
    for name, wanted in kinds.items():
        found = [
            adapted_gate(encode, caption(sample.references[0]), sample.caption, gate=1.0).gate
            for sample in bench.slots(count, wanted)
        ]
        means[name] = round(sum(found) / len(found), 4)
    return means


def _shown(sample: Sample) -> set[str]:
    """The species of the picture that its oldest reference shows."""
    first = {actor.species for actor in sample.references[0].characters}
    return first & {actor.species for actor in sample.scene.characters}
