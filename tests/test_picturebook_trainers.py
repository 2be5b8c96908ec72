"""The trainers draw the picture book as they draw the storybook, in this process or in others that feed them."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.picturebook.captions import captioned
from m3adapter.picturebook.judge import Judge
from m3adapter.picturebook.render import render
from m3adapter.picturebook.world import SPECIES, random_scene
from m3adapter.training import autoencoder, clip, compiling, decoder, feeding, judge, loop, picture_judge
from m3adapter.training.decoder_pictures import embed, embed_tokens
from m3adapter.training.worlds import open_world

pytestmark = pytest.mark.slow

WORLD = ("--world", "picturebook", "--steps", "2")


@pytest.fixture(scope="module")
def small() -> pytest.MonkeyPatch:
    """Narrow networks, few held-out pictures, and figures printed after every step."""

    def chatty(*arguments, **options) -> bool:
        return loop.train(*arguments, **{**options, "every": 1})

    def narrow(*widths) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_config(
            {**build(*widths).config, "block_out_channels": (32, 32, 32), "attention_head_dim": (1, 1, 1)}
        )

    build, held_out = decoder.build, picture_judge.held_out
    with pytest.MonkeyPatch.context() as patch:
        for module in (autoencoder, clip, decoder, picture_judge):
            patch.setattr(module, "train", chatty)
        patch.setattr(autoencoder, "DEEP_WIDTHS", (32, 32, 32, 32, 32))
        patch.setattr(autoencoder, "HELD_OUT", 2)
        patch.setattr(decoder, "build", narrow)
        patch.setattr(picture_judge, "held_out", lambda count, seed: held_out(min(count, 2), seed))
        yield patch


@pytest.fixture(scope="module")
def trained(small: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picturebook")
    autoencoder.main(["--output", str(folder), "--batch", "1", "--export-every", "0.01", *WORLD])
    clip.main(["--output", str(folder), "--batch", "2", "--export-every", "0.01", *WORLD])
    return folder


def test_the_autoencoder_halves_four_times(trained: Path, capsys: pytest.CaptureFixture) -> None:
    from diffusers import AutoencoderKL

    for name in ("vae", "vae_so_far"):
        model = AutoencoderKL.from_pretrained(trained / name)
        assert model.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode().shape == (1, 32, 4, 4)
        assert model.config.scaling_factor != 0.18215 and model.config.sample_size == 256


@pytest.mark.exhaustive
def test_a_step_learns_the_same_from_kept_pictures_and_compiled(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from functools import partial

    capsys.readouterr()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traced, but not translated
    monkeypatch.setattr(compiling, "use_fast_norm", lambda model: model)  # it rounds otherwise than torch's
    losses = []
    for folder, more in ((tmp_path / "plain", ()), (tmp_path / "compiled", ("--compile",))):
        autoencoder.main(["--output", str(folder), "--batch", "1", *WORLD, *more])
        arguments = ["--output", str(folder), "--vae", str(trained / "vae"), "--clip", str(trained), "--cache"]
        decoder.main([*arguments, str(tmp_path), "--pictures", "2", "--batch", "2", *WORLD, *more])
        losses.append([float(found) for found in re.findall(r"loss ([0-9.]+)", capsys.readouterr().out)])
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=0.002)


def test_figures_have_a_measure_of_their_own() -> None:
    class Wrong(nn.Module):
        """Reconstructs everything but the left half."""

        def encode(self, images):
            return type("Out", (), {"latent_dist": type("Dist", (), {"mode": staticmethod(lambda: images)})})

        def decode(self, latents):
            wrong = latents.clone()
            wrong[..., :4] += 0.2
            return type("Out", (), {"sample": wrong})

    images, figures = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    figures[..., :4] = 1
    assert autoencoder.psnr(Wrong(), images, figures) == pytest.approx(20)
    assert autoencoder.psnr(Wrong(), images) == pytest.approx(20 + 10 * np.log10(2))
    assert autoencoder.psnr(Wrong(), images, 1 - figures) > 60


def test_crops_stand_on_the_grid() -> None:
    images = torch.arange(256).float()[None, None, None] * torch.ones(2, 3, 256, 1)
    for _ in range(20):
        part, masks = autoencoder.corners(images, torch.ones(2, 1, 256, 256), random.Random(), 16)
        assert part.shape == (2, 3, 128, 128) and masks.shape == (2, 1, 128, 128)
        assert int(part[0, 0, 0, 0]) % 16 == 0


def test_the_encoders_are_trained(trained: Path) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(trained / "tokenizer")
    rng = random.Random(1)
    lengths = [len(tokenizer(captioned(rng, random_scene(rng))).input_ids) for _ in range(300)]
    assert max(lengths) <= 48 == tokenizer.model_max_length, "no caption is cut"
    plain = tokenizer("a rabbit on the beach").input_ids
    assert tokenizer("A  Rabbit on the BEACH").input_ids == plain
    assert tokenizer("Rabbit on the beach").input_ids == [plain[0], *plain[2:]], "a word is one wherever it stands"
    assert CLIPTextModel.from_pretrained(trained / "text_encoder").config.max_position_embeddings == 48
    assert (trained / "clip_so_far" / "text_encoder_2" / "model.safetensors").is_file()
    encoder = VisionEncoder.from_pretrained(trained / "vision_encoder")
    assert encoder.encode([torch.rand(256, 256, 3)]).levels.shape == (1, 3, 100, clip.VISION_WIDTH)


@pytest.mark.exhaustive
def test_the_decoder_is_trained_and_opens_unmodified(trained: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    arguments = ["--output", str(tmp_path), "--vae", str(trained / "vae"), "--clip", str(trained)]
    decoder.main([*arguments, "--pictures", "2", "--batch", "2", "--export-every", "0.01", *WORLD])
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "decoder")
    assert pipeline.vae_scale_factor == 16 and pipeline.default_sample_size == 16
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a fox", num_inference_steps=1, guidance_scale=2.0, output_type="np").images[0]
    assert image.shape == (256, 256, 3) and np.isfinite(image).all()
    written = type(pipeline.unet).from_pretrained(tmp_path / "unet_so_far").state_dict()
    final = pipeline.unet.state_dict()
    assert written.keys() == final.keys()
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert torch.allclose(written[name], final[name], atol=0.05 * float(final[name].abs().max())), "both are folded"


def test_tokens_are_embedded_as_texts_are(trained: Path) -> None:
    pipeline = decoder.assemble(trained / "vae", trained, open_world("picturebook"))
    texts = ["a fox", "two foxes are running at the fair"]
    tokens = pipeline.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    for one, other in zip(embed_tokens(pipeline, tokens), embed(pipeline, texts), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_judge_is_trained(small: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    judge.main(["--output", str(tmp_path), "--batch", "2", *WORLD])
    assert "accessory" in capsys.readouterr().out
    verdict = Judge.load(tmp_path / "judge.safetensors").judge([torch.rand(256, 256, 3)] * 2)
    assert verdict.presence.shape == (2, len(SPECIES)) and len(verdict.species(1, 2)) == 2
    assert verdict.word(0, "fox", "mood") in ("calm", "happy", "sad", "afraid")
    assert verdict.things(0) <= {*open_prop_names()}
    with pytest.raises(FileNotFoundError, match="--world picturebook"):
        Judge.load(tmp_path / "none.safetensors")


def open_prop_names() -> tuple[str, ...]:
    from m3adapter.picturebook.world import PROPS

    return PROPS


@pytest.mark.exhaustive
def test_processes_feed_a_pool(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    rng = random.Random(3)
    clip.build_tokenizer(tmp_path, [captioned(rng, random_scene(rng)) for _ in range(300)], length=24)
    feeder = feeding.Feeder("picturebook", 256, 1, seed=5, tokenizer=tmp_path, length=24)
    try:
        kept: list = []

        def make(pictures: torch.Tensor, scenes: list, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
            kept.extend(zip(pictures.clone(), scenes, strict=True))
            return {"numbers": torch.arange(len(kept) - len(scenes), len(kept)), "tokens": tokens}

        pool = feeding.Pool(feeder, 48, make, "cpu", together=32)
        pool.fill(33)
        assert pool.held == 48 and pool.drawn >= 64, "what is new replaces what is oldest"
        assert set(pool.sample(500)["numbers"].tolist()) == set(range(pool.drawn - 48, pool.drawn))
        for picture, scene in kept[:3]:
            assert any(np.array_equal(picture[..., :3].numpy(), render(scene, seed)) for seed in range(6))
            assert picture[..., 3].any()
        tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
        drawn = pool.sample(8)["tokens"]
        assert drawn.shape == (8, feeding.CAPTIONS, 24)
        for own in drawn[:, 0]:
            text = tokenizer.decode(own, skip_special_tokens=True)
            again = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
            assert torch.equal(own.long(), again), "as the pipeline's tokenizer has it"
        for process in feeder._processes:
            process.terminate()
            process.join()
        with pytest.raises(RuntimeError, match="have ended"):
            while feeder.take(0.2):
                pass
        folder = feeder._folder
    finally:
        feeder.close()
    assert not folder.exists()


def test_only_the_picture_book_is_drawn_by_processes() -> None:
    with pytest.raises(ValueError, match="--workers only draws the picturebook"):
        feeding._drawing("storybook")
