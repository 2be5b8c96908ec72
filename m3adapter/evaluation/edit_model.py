"""The gate on reference tokens, measured on an edit model that `train edit` made.

It paints slots of held-out stories with the same noise at every gate, and the judge classifies the pictures. The
figures are those of the gate curve of `evaluation.starter`; the reference is the one that tells the look, as for the
IP-Adapter in `evaluation.ip_adapter`.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion import edit_model
from ..diffusion.reference_gate import ReferenceGate
from ..pipeline import M2Chat
from ..storybook.judge import Judge
from .ip_adapter import deciding
from .starter import BATCH, GUIDANCE, STEPS, Bench

GATES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@torch.no_grad()
def measure(
    *, starter: Path, folder: Path, seed: int = 0, device: str = "cpu", dtype: str = "float32", pictures: int = 200
) -> dict[str, Any]:
    """Measure an edit model over the gate.

    Args:
        starter: The folder of weights, of which autoencoder and text encoders are used.
        folder: What `train edit` wrote.
        seed: Chooses stories, layouts and noise; those of `evaluation.ip_adapter` with the same seed.
        device: Where the models run.
        dtype: The name of torch's floating point type in which the edit model computes.
        pictures: Number of slots, each painted once per gate.

    Returns:
        The report: `edit_curve`, a row for each gate.

    Raises:
        OSError: There is no edit model in the folder.
        ValueError: It was not trained for this autoencoder.
    """
    began, torch_dtype = time.time(), getattr(torch, dtype)
    model = M2Chat.from_pretrained(starter, device=device)
    transformer, vae = edit_model.open_model(folder, device), model.decoder.vae
    channels = vae.config.latent_channels
    if transformer.config.in_channels != channels * edit_model.PATCH**2:
        raise ValueError(f"The edit model was not trained for an autoencoder with {channels} channels.")
    bench = Bench(model, Judge.load(), random.Random(f"ip evaluation {seed}"), seed)
    chosen = bench.slots(pictures, lambda sample: bool(sample.known))
    text = model.encode_text([sample.caption for sample in chosen])
    embeds, pooled = text.embeds[:, : edit_model.WORDS].to(device), text.pooled.to(device)
    shown = torch.stack([bench.picture(deciding(sample)) for sample in chosen]).permute(0, 3, 1, 2) * 2 - 1
    references = torch.cat([vae.encode(part.to(device)).latent_dist.mode() for part in shown.split(BATCH)])
    references = references * vae.config.scaling_factor
    noise = torch.stack([
        torch.randn(references.shape[1:], generator=torch.Generator().manual_seed(bench.rng.randrange(2**32)))
        for _ in chosen
    ]).to(device)  # fmt: skip
    report: dict[str, Any] = {"pictures": pictures, "seed": seed, "steps": STEPS, "guidance": GUIDANCE, "dtype": dtype}
    report["edit_curve"] = []
    for strength in GATES:
        images: list[Tensor] = []
        for rows in torch.arange(pictures).split(BATCH):
            with torch.autocast(torch.device(device).type, torch_dtype, enabled=torch_dtype != torch.float32):
                latents = edit_model.paint(
                    transformer,
                    embeds[rows],
                    pooled[rows],
                    references[rows],
                    noise[rows],
                    gate=ReferenceGate(strength=strength),
                    times=edit_model.schedule(STEPS),
                    guidance=GUIDANCE,
                )
            decoded = vae.decode(latents / vae.config.scaling_factor).sample
            images += (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()
        report["edit_curve"].append({"gate": strength, **bench.scores(chosen, bench.judge.judge(images))})
        print(report["edit_curve"][-1], flush=True)
    report["seconds"] = round(time.time() - began)
    return report
