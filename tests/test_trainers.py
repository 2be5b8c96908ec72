"""Every trainer of the starter's parts runs, resumes, and writes what the next one reads."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.storybook.judge import Judge
from m3adapter.storybook.labels import labels
from m3adapter.storybook.render import render
from m3adapter.storybook.world import LOOKS, SPECIES, Character, Scene
from m3adapter.training import autoencoder, clip, clip_tokenizer, decoder, judge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def few() -> pytest.MonkeyPatch:
    """Every collection of pictures has a few at most, and networks are narrow."""
    with pytest.MonkeyPatch.context() as patch:
        pictures, held_out = autoencoder.pictures, judge.held_out
        patch.setattr(autoencoder, "pictures", lambda rng, count, *world: pictures(rng, min(count, 4), *world))
        patch.setattr(judge, "held_out", lambda count, seed: held_out(min(count, 4), seed))
        patch.setattr(autoencoder, "WIDTHS", (32, 32, 32, 32))
        yield patch


@pytest.fixture(scope="module")
def trained_parts(few: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the autoencoder's and of CLIP's training."""
    folder = tmp_path_factory.mktemp("trained")
    few.setattr(autoencoder, "crops", lambda images, figures, *rest: (images[:2], figures[:2]))
    autoencoder.main(["--output", str(folder), "--steps", "2", "--batch", "2", "--latent-channels", "4"])
    clip.main(["--output", str(folder), "--steps", "2", "--batch", "2"])
    return folder


def step_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["step"]


def test_the_autoencoder_is_trained(trained_parts: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(trained_parts / "vae")
    latents = model.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
    assert latents.shape == (1, 4, 8, 8)
    assert model.config.scaling_factor > 0 and model.config.scaling_factor != 0.18215
    assert step_of(trained_parts / "autoencoder.pt") == 2


def test_the_text_and_vision_encoders_are_trained(trained_parts: Path) -> None:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(trained_parts / "tokenizer")
    assert tokenizer.decode(tokenizer("A blue Fox, 🦊").input_ids, skip_special_tokens=True) == "a blue fox , 🦊"
    tokens = tokenizer(["a fox"], padding="max_length", return_tensors="pt").input_ids
    assert tokens.shape == (1, clip_tokenizer.MAX_LENGTH)
    text = CLIPTextModel.from_pretrained(trained_parts / "text_encoder")
    text_2 = CLIPTextModelWithProjection.from_pretrained(trained_parts / "text_encoder_2")
    assert text(tokens).last_hidden_state.shape[-1] == clip.TEXT_WIDTH
    assert text_2(tokens).text_embeds.shape[-1] == clip.VISION_WIDTH
    encoder = VisionEncoder.from_pretrained(trained_parts / "vision_encoder")
    assert encoder.encode([torch.rand(128, 128, 3)]).levels.shape == (1, 3, 64, clip.VISION_WIDTH)
    assert step_of(trained_parts / "clip.pt") == 2


@pytest.mark.exhaustive
def test_the_decoder_is_trained_and_resumed(trained_parts: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    build = decoder.build

    def narrow(*widths: int) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_config(
            {**build(*widths).config, "block_out_channels": (32, 32, 32), "attention_head_dim": (1, 1, 1)}
        )

    monkeypatch.setattr(decoder, "build", narrow)
    arguments = ["--output", str(tmp_path), "--vae", str(trained_parts / "vae"), "--clip", str(trained_parts)]
    arguments += ["--pictures", "3", "--batch", "2"]
    decoder.main([*arguments, "--steps", "1"])
    assert step_of(tmp_path / "decoder.pt") == 1
    assert "encoded 3 pictures" in capsys.readouterr().out
    decoder.main([*arguments, "--steps", "2"])
    said = capsys.readouterr().out
    assert "resumed at step 1" in said and "encoded" not in said
    assert step_of(tmp_path / "decoder.pt") == 2
    decoder.main([*arguments, "--steps", "2"])  # there is nothing left to do
    assert step_of(tmp_path / "decoder.pt") == 2
    loaded = DiffusionDecoder.from_pretrained(tmp_path / "decoder")
    assert len(loaded.latent_rgb.latent_rgb_factors) == 4, "its previews come with it"
    assert loaded.native_size == 128
    assert loaded.decode(loaded.encode_text(["a fox"]), seed=1, steps=1).shape == (1, 128, 128, 3)


def test_pictures_of_another_seed_are_not_taken(trained_parts: Path, tmp_path: Path, capsys) -> None:
    from diffusers import AutoencoderKL

    pipeline = Namespace(vae=AutoencoderKL.from_pretrained(trained_parts / "vae"))
    path = tmp_path / "pictures.safetensors"
    first = decoder.cached_pictures(pipeline, path, 2, seed=1)
    again = decoder.cached_pictures(pipeline, path, 2, seed=1)
    assert torch.equal(again.latents, first.latents) and torch.equal(again.figures, first.figures)
    assert capsys.readouterr().out.count("encoded") == 1
    other = decoder.cached_pictures(pipeline, path, 2, seed=2)
    assert capsys.readouterr().out.count("encoded") == 1
    assert other.scenes != first.scenes and not torch.equal(other.latents, first.latents)
    assert first.latents.dtype == torch.bfloat16 and first.latents.shape == (2, 4, 16, 16)
    assert first.figures.shape == (2, 1, 16, 16) and first.figures.min() >= 0 and first.figures.max() <= 1
    assert first.figures[:, :, :5].max() == 0 < first.figures[:, :, 9:14].mean(), "they stand on the ground"


def test_the_judge_is_trained(few: pytest.MonkeyPatch, tmp_path: Path) -> None:
    judge.main(["--output", str(tmp_path), "--steps", "2", "--batch", "2"])
    assert step_of(tmp_path / "judge.pt") == 2
    loaded = Judge.load(tmp_path / "judge.safetensors")
    verdict = loaded.judge([torch.rand(128, 128, 3), torch.rand(128, 128, 3)])
    assert verdict.presence.shape == verdict.looks.shape == (2, len(SPECIES))
    assert len(verdict.species(1, 2)) == 2 and verdict.look(0, "fox") in LOOKS
    with pytest.raises(FileNotFoundError, match="none.safetensors are missing"):
        Judge.load(tmp_path / "none.safetensors")


def test_the_judges_pictures_are_kept_apart(monkeypatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(judge, "render", lambda scene, seed: (seeds.append(seed), render(scene, seed))[1])
    judge.held_out(20, 3)
    assert min(seeds) >= judge.HELD_OUT_SEED
    seeds.clear()
    judge.batch_of(random.Random(0), 20)
    assert max(seeds) < judge.HELD_OUT_SEED


def test_accuracy_counts_what_is_right() -> None:
    scenes = [
        Scene((Character("fox", "blue"), Character("owl", "red")), None, "camp"),
        Scene((Character("cat", "pink"),), "kite", "beach", "night", "rain"),
    ]
    truth = labels(scenes)
    assert truth["actors"][0, SPECIES.index("owl")] == LOOKS.index("red")
    assert (truth["actors"] == len(LOOKS)).sum() == 2 * len(SPECIES) - 3

    class Knowing(Judge):
        wrong: Callable[[dict], None] = staticmethod(lambda logits: None)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = {"actors": nn.functional.one_hot(truth["actors"], len(LOOKS) + 1).float() * 9}
            for name, size in (("prop", 13), ("place", 10), ("light", 3), ("weather", 3)):
                logits[name] = nn.functional.one_hot(truth[name], size).float()
            self.wrong(logits)
            return logits

    images = [render(scene, 1) for scene in scenes]
    knowing = Knowing()
    assert set(judge.accuracy(knowing, scenes, images).values()) == {1.0}
    fox = SPECIES.index("fox")
    knowing.wrong = lambda logits: logits["actors"][0, fox].copy_(logits["actors"][0, fox].roll(1, 0))
    assert judge.accuracy(knowing, scenes, images)["appearance"] == pytest.approx(2 / 3)
    knowing.wrong = lambda logits: logits.update(place=logits["place"].roll(1, 0))
    scores = judge.accuracy(knowing, scenes, images)
    assert scores["scene"] == 0 and scores["species"] == scores["prop"] == 1
