"""A comparison of two low-level paths: the M³-Adapter, and an IP-Adapter with the decoder's own text encoders.

Both paint the same slots of held-out stories with the same noise, and the judge classifies the pictures. The figures
are those of the gate curve of `evaluation.starter`: text alignment (species, scene, prop) and kept appearance.
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
        starter: The folder of weights: decoder, vision encoder, language model and M³-Adapter.
        ip_adapter: A base IP-Adapter that `train ip` wrote for this decoder and vision encoder.
        seed: Chooses stories, layouts and noise.
        device: Where the models run.
        dtype: The name of torch's floating point type in which they run.
        pictures: Number of slots, each painted once per gate and path.

    Returns:
        The report: `m3_curve` and `ip_curve`, a row for each gate; and `adaptive_gate`, the mean gate by the rule of
        `ip_adapter.adaptive_gate` for pictures of the same character, of the same character in a new look that the
        caption names, and of others.

    Raises:
        ValueError: The IP-Adapter is not for this decoder and vision encoder.
    """
    began = time.time()
    torch_dtype = getattr(torch, dtype)
    model = M2Chat.from_pretrained(starter, device=device, dtype=torch_dtype)
    adapter = load_ip_adapter(ip_adapter, device=device, dtype=torch_dtype)
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
    """Paint a picture of every condition.

    Args:
        condition: The conditions.
        noise: The seed of each picture.
        decoder: Returns the decoder for a part of the batch.
    """
    images: list[Tensor] = []
    parts = condition.split()
    for start in range(0, len(parts), BATCH):
        part = slice(start, min(start + BATCH, len(parts)))
        images += decoder(part).decode(
            Condition.concatenate(parts[part]), seed=noise[part], steps=STEPS, guidance=GUIDANCE
        )
    return images


def deciding(sample: Sample) -> Scene:
    """Return the reference that shows the first character whose look only references show."""
    species = sample.scene.characters[sample.known[0]].species
    return next(scene for scene in sample.references if species in {actor.species for actor in scene.characters})


def adaptive(bench: Bench, count: int) -> dict[str, float]:
    """Return the mean gate of the rule, at most 1, for three kinds of pictures, each with its oldest reference."""
    kinds: dict[str, Callable[[Sample], bool]] = {
        "same": lambda sample: bool(sample.references) and bool(_kept_species(sample)) and not sample.named,
        "named_change": lambda sample: bool(sample.references) and bool(_kept_species(sample)) and bool(sample.named),
        "other": lambda sample: bool(sample.references) and not _kept_species(sample),
    }

    def encode(texts: Sequence[str]) -> Tensor:
        return bench.model.encode_text(texts).pooled

    means = {}
    for name, wanted in kinds.items():
        gates = [
            adapted_gate(encode, caption(sample.references[0]), sample.caption, gate=1.0).gate
            for sample in bench.slots(count, wanted)
        ]
        means[name] = round(sum(gates) / len(gates), 4)
    return means


def _kept_species(sample: Sample) -> set[str]:
    """Return the species of the picture that its oldest reference shows as well."""
    first = {actor.species for actor in sample.references[0].characters}
    return first & {actor.species for actor in sample.scene.characters}
