"""The trainer of edit models at toy size, and what is measured of one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m3adapter.cli import main as cli
from m3adapter.diffusion import edit_model
from m3adapter.diffusion.reference_gate import ReferenceGate
from m3adapter.training import edit
from m3adapter.training.whitening import Whitening

WEIGHTS = f"{edit.FOLDER}/diffusion_pytorch_model.safetensors"


def small() -> edit_model.Transformer:
    made = edit_model.build(8, 20, 12, width=64, double=1, single=1)
    for index, weight in enumerate(made.parameters()):
        torch.nn.init.normal_(weight, 0, 0.2, generator=torch.Generator().manual_seed(index))
    return made.eval().requires_grad_(False)


def seen(batch: int = 2) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(batch, 8, 8, 8, generator=source),
        "times": torch.linspace(0.3, 0.8, batch),
        "embeds": torch.randn(batch, 5, 20, generator=source),
        "pooled": torch.randn(batch, 12, generator=source),
        "references": torch.randn(batch, 8, 8, 8, generator=source),
    }


def test_it_predicts_what_diffusers_attention_predicts() -> None:
    from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

    model, given = small(), seen()
    ours = edit_model.velocity(model, **given)
    with_grad = edit_model.velocity(model.requires_grad_(True), **given).detach()
    model.set_attn_processor(FluxAttnProcessor())
    assert torch.allclose(ours, edit_model.velocity(model, **given), atol=1e-5)
    assert torch.allclose(ours, with_grad, atol=1e-5)


def test_gate_0_is_no_reference_and_1_as_trained_to_the_bit() -> None:
    model, given = small(), seen()
    trained, none = (edit_model.velocity(model, **{**given, **changed}) for changed in ({}, {"references": None}))
    at = {s: edit_model.velocity(model, **given, gate=ReferenceGate(strength=s)) for s in (0, 1e-6, 0.5, 1, 2)}
    assert torch.equal(at[0], none) and torch.equal(at[1], trained)
    assert torch.allclose(at[1e-6], none, atol=1e-4)
    assert min((at[0.5] - each).abs().max() for each in (none, trained, at[2])) > 0.01


def test_tokens_become_the_latents_that_they_came_from() -> None:
    latents = torch.randn(2, 8, 6, 4)
    tokens = edit_model.tokens_of(latents)
    assert tokens.shape == (2, 6, 32) and torch.equal(edit_model.latents_of(tokens, 6, 4), latents)
    assert edit_model.positions(4, 4, 1, 2, 0).tolist() == [[1, 1, 0], [1, 1, 1], [1, 2, 0], [1, 2, 1]]


def test_folded_weights_take_embeddings_as_they_are() -> None:
    model, given = small(), seen()
    whitening = Whitening.measure(given["embeds"], given["pooled"])
    embeds, pooled = whitening(given["embeds"], given["pooled"])
    trained = edit_model.velocity(model, **{**given, "embeds": embeds, "pooled": pooled})
    edit.fold(whitening, model)
    assert torch.allclose(edit_model.velocity(model, **given), trained, atol=1e-3)


def test_references_show_the_hero_and_no_held_out_composition_is_learned() -> None:
    rng = random.Random(0)
    scenes = [scene for _ in range(100) for scene in edit.group(rng)]
    assert all(edit.in_training(scene) for scene in scenes)
    for first in range(0, len(scenes), edit.GROUP):
        assert set.intersection(*(set(scene.characters) for scene in scenes[first : first + edit.GROUP]))
    data = edit.Groups(scenes, torch.empty(0), torch.empty(0))
    shown = [(index, data.reference_of(index, rng)) for index in range(len(scenes))]
    alike = [bool({*scenes[index].characters} & {*scenes[other].characters}) for index, other in shown]
    assert 0.85 < sum(alike) / len(alike) < 0.97
    assert all(index != other for (index, other), same in zip(shown, alike, strict=True) if same)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--sheet"], "Give either --sheet or --edit-model"),
        (["--data", "storybook"], "Give either --edit-model or --data"),
        (["--without", "gate"], "Give either --without or --edit-model"),
    ],
)
def test_its_measurement_is_one_of_its_own(
    more: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["evaluate", "--edit-model", str(tmp_path), "--output", str(tmp_path / "report.json")]
    assert cli.main([*given, *more]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_is_trained_resumed_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path), "--pictures", "4", "--batch", "2", "--width", "1", "--double", "1"]
    arguments += ["--single", "1", "--threads", "1", "--alone", "0.5"]
    assert cli.main(["train", "edit", *arguments, "--steps", "2"]) == 0
    first = load_file(tmp_path / WEIGHTS)
    edit.main([*arguments, "--steps", "4"])
    assert "resumed at step 2" in capsys.readouterr().out
    again = load_file(tmp_path / WEIGHTS)
    assert first.keys() == again.keys() and any(not torch.equal(value, first[name]) for name, value in again.items())
    report = tmp_path / "report.json"
    given = ["evaluate", "--edit-model", str(tmp_path / edit.FOLDER), "--output", str(report), "--pictures", "1"]
    assert cli.main(given) == 0
    curve = json.loads(report.read_text("utf-8"))["edit_curve"]
    assert [row["gate"] for row in curve] == [0, 0.25, 0.5, 0.75, 1, 1.5, 2]
    assert all(row.keys() == {"gate", "species", "scene", "prop", "appearance_kept"} for row in curve)


@pytest.mark.slow
def test_it_learns_to_take_over_what_only_the_reference_shows() -> None:
    torch.manual_seed(0)
    model = edit_model.build(8, 20, 12, width=64, double=1, single=1)
    edit.begin_softly(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    embeds, pooled = torch.zeros(16, 2, 20), torch.zeros(16, 12)
    for _ in range(60):
        latents = torch.randn(16, 8, 1, 1).expand(-1, -1, 4, 4).contiguous()
        loss = edit.flow_loss(model, latents, embeds, pooled, latents).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    wanted = torch.randn(16, 8, 1, 1).expand(-1, -1, 4, 4).contiguous()
    apart = {}
    for strength in (0.0, 1.0):
        gate, noise = ReferenceGate(strength=strength), torch.randn(16, 8, 4, 4)
        painted = edit_model.paint(model, embeds, pooled, wanted, noise, gate=gate, guidance=1)
        apart[strength] = float((painted - wanted).square().mean())
    assert apart[1.0] < 0.5 * apart[0.0]
