"""The IP-Adapter's trainer at toy size, and the comparison of both low-level paths over the gate."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import toys
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.cli import main as cli
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.evaluation import ip_adapter as ip_evaluation
from m3adapter.ip_adapter.image_attention import attached, ip_processors
from m3adapter.ip_adapter.image_prompt import ImageGate, ImagePrompt, Reference
from m3adapter.ip_adapter.ip_adapter import load_ip_adapter
from m3adapter.storybook.dataset import samples
from m3adapter.storybook.stories import story
from m3adapter.storybook.world import Character, Scene, caption
from m3adapter.training import ip
from m3adapter.training.decoder import schedule_terms, v_loss
from m3adapter.training.decoder_pictures import embed
from m3adapter.weights.starter import STARTER

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy decoder and a toy vision encoder."""
    folder = tmp_path_factory.mktemp("parts")
    toys.save_decoder(folder)
    toys.vision_encoder().save_pretrained(folder / "vision")
    return folder


def arguments(parts: Path, output: Path) -> list[str]:
    given = {"output": output, "decoder": parts / "decoder", "vision": parts / "vision", "pictures": 4, "batch": 2}
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


def test_it_is_trained_resumed_and_written_as_published(parts: Path, tmp_path: Path, capsys) -> None:
    frozen = {
        name: value.clone()
        for name, value in DiffusionDecoder.from_pretrained(parts / "decoder").unet.state_dict().items()
    }
    assert cli.main(["train", "ip", *arguments(parts, tmp_path), "--steps", "2"]) == 0
    first = load_file(tmp_path / ip.FILE)
    ip.main([*arguments(parts, tmp_path), "--steps", "4", "--windows", "0"])
    assert "resumed at step 2" in capsys.readouterr().out
    again = load_file(tmp_path / ip.FILE)
    decoder = DiffusionDecoder.from_pretrained(parts / "decoder")
    assert all(torch.equal(value, frozen[name]) for name, value in decoder.unet.state_dict().items())
    assert again.keys() == toys.ip_adapter_weights(decoder.unet).keys()
    trained = {name for name, value in again.items() if not torch.equal(value, first[name])}
    assert trained >= {name for name in again if "norm" not in name}, "half precision may hide a step of the norm"
    adapter = load_ip_adapter(tmp_path / ip.FILE, dtype=torch.float32)
    assert (adapter.config.kind, adapter.config.image_width) == ("base", toys.VISION_WIDTH)
    seen = VisionEncoder.from_pretrained(parts / "vision").embed([torch.rand(40, 60, 3)])
    reference = Reference(adapter, adapter.encode(seen)[0], adapter.encode(torch.zeros_like(seen))[0])
    looking = decoder.with_image_prompt(ImagePrompt((reference,), ImageGate()))
    painted = [each.decode(toys.condition(), seed=1, steps=2) for each in (decoder, looking)]
    assert not torch.equal(*painted)


def test_a_fresh_one_adds_nothing(parts: Path) -> None:
    decoder = DiffusionDecoder.from_pretrained(parts / "decoder")
    adapter = ip.fresh(decoder, 16).eval()
    with torch.no_grad():
        tokens = adapter.encode(torch.randn(1, 16, generator=toys.generator()))[0]
    looking = decoder.with_image_prompt(ImagePrompt((Reference(adapter, tokens, tokens),), ImageGate()))
    painted = [each.decode(toys.condition(), seed=1, steps=2) for each in (decoder, looking)]
    torch.testing.assert_close(*painted, atol=1e-5, rtol=0)


@pytest.mark.exhaustive
def test_it_learns_what_only_the_reference_tells(tmp_path: Path) -> None:
    """With the starter's decoder, trained on the same two pictures again and again."""
    data = ["--pictures", "2", "--windows", "1"]
    ip.main(["--output", str(tmp_path), *data, "--batch", "4", "--steps", "40", "--lr", "1e-2"])
    decoder = DiffusionDecoder.from_pretrained(STARTER / "decoder")
    learned = ip.pairs(decoder, VisionEncoder.from_pretrained(STARTER / "vision_encoder"), 2, seed=0)
    adapter = load_ip_adapter(tmp_path / ip.FILE, dtype=torch.float32)
    text = embed(decoder.pipeline, [caption(scene) for scene in learned.scenes])

    @torch.no_grad()
    def loss(rows: list[int]) -> float:
        tokens = adapter.encode(learned.seen[rows])[:, None]

        def unet(noisy: torch.Tensor, times: torch.Tensor, said: torch.Tensor, added_cond_kwargs: dict) -> object:
            return decoder.unet(noisy, times, said, added_cond_kwargs={**added_cond_kwargs, "image_embeds": [tokens]})

        torch.manual_seed(0)
        with attached(decoder.unet, ip_processors([adapter], decoder.unet)):
            found = [v_loss(unet, learned.latents.float(), *text, *schedule_terms()).mean() for _ in range(8)]
        return float(sum(found))

    assert loss([0, 1]) < loss([1, 0])


def test_references_show_the_same_characters_elsewhere() -> None:
    scene = Scene((Character("fox", "blue"), Character("owl", "red")), "kite", "beach")
    rng = random.Random(0)
    shown = [ip.reference_of(scene, rng) for _ in range(300)]
    same = [other for other in shown if set(other.characters) <= set(scene.characters)]
    assert 0.8 < len(same) / 300 < 0.97
    assert {len(other.characters) for other in same} == {1, 2} and len({other.place for other in same}) > 5


@pytest.mark.exhaustive
def test_both_paths_are_compared_over_the_gate(tmp_path: Path, monkeypatch, capsys) -> None:
    decoder = DiffusionDecoder.from_pretrained(STARTER / "decoder")
    adapter = ip.fresh(decoder, 192)
    for layer in adapter.to_v:
        torch.nn.init.normal_(layer.weight, std=0.05)
    ip.save(adapter, tmp_path / "ip.safetensors")
    monkeypatch.setattr(ip_evaluation, "GATES", (0.0, 1.0))
    monkeypatch.setattr(ip_evaluation, "STEPS", 2)
    wanted = ["evaluate", "--output", str(tmp_path / "report.json"), "--pictures", "2"]
    assert cli.main([*wanted, "--ip-adapter", str(tmp_path / "ip.safetensors")]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    for name in ("m3_curve", "ip_curve"):
        assert [row["gate"] for row in report[name]] == [0, 1]
        assert report[name][0].keys() == {"gate", "species", "scene", "prop", "appearance_kept"}
    assert report["adaptive_gate"].keys() == {"same", "named_change", "other"}
    assert report["adaptive_gate"]["same"] == 1
    capsys.readouterr()
    assert cli.main([*wanted, "--ip-adapter", str(tmp_path / "none.safetensors")]) == 2
    assert "There is no adapter file none.safetensors" in capsys.readouterr().err
    assert cli.main([*wanted, "--ip-adapter", str(tmp_path / "ip.safetensors"), "--without", "gate"]) == 2
    assert "Give either --without or --ip-adapter" in capsys.readouterr().err


def test_the_deciding_reference_tells_the_look() -> None:
    rng = random.Random(3)
    found = [sample for _ in range(100) for sample in samples(story(rng, "test")) if sample.known]
    for sample in found:
        actor = sample.shown(sample.known[0])
        assert actor in ip_evaluation.deciding(sample).characters
    assert len(found) > 20
