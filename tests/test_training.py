"""Training: its parts are exact, every trainer runs and resumes, and each stage of M3FT changes its own parameters."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import toys
from m3adapter.adapter import M3Adapter
from m3adapter.checkpoint import load_adapter
from m3adapter.condition import Condition
from m3adapter.diffusion import DiffusionDecoder
from m3adapter.language_model import SlotStates
from m3adapter.storybook import stories
from m3adapter.storybook.judge import Judge
from m3adapter.storybook.render import render
from m3adapter.storybook.world import LOOKS, SPECIES, Character, Scene
from m3adapter.training import autoencoder, clip, decoder, judge, language, m3ft, m3ft_data
from m3adapter.training.fast_norm import FastGroupNorm, use_fast_norm
from m3adapter.training.loop import Average, cosine, resume, save_state
from m3adapter.training.muon import Muon, orthogonal
from m3adapter.vision_encoder import VisionEncoder

# FastGroupNorm


@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (2, 8, 11)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_fast_norm_is_group_norm(shape: tuple[int, ...], channels_last: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape) * 3 + 1
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    results = []
    for kind in (nn.GroupNorm, FastGroupNorm):
        norm = kind(4, 8, eps=1e-3)
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 2, 8))
            norm.bias.copy_(torch.linspace(2, 1, 8))
        given = x.clone().requires_grad_(True)
        out = norm(given)
        (out * torch.arange(out.numel()).view_as(out).remainder(13)).sum().backward()
        results.append((out, given.grad, norm.weight.grad, norm.bias.grad))
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-3)


def test_fast_norm_in_bfloat16() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6, dtype=torch.bfloat16, requires_grad=True)
    slow, fast = nn.GroupNorm(2, 8).bfloat16(), FastGroupNorm(2, 8)
    assert fast(x).dtype == torch.bfloat16
    torch.testing.assert_close(fast(x), slow(x), rtol=0.05, atol=0.05)
    fast(x).float().square().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and fast.weight.grad.dtype == torch.float32


def test_fast_norm_takes_the_place_of_group_norm() -> None:
    model = nn.Sequential(nn.GroupNorm(2, 4), nn.Sequential(nn.GroupNorm(1, 4, affine=False)), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert use_fast_norm(model) is model
    assert [type(model[0]), type(model[1][0]), type(model[2])] == [FastGroupNorm, nn.GroupNorm, nn.BatchNorm2d]
    assert model.state_dict().keys() == before.keys()
    assert model(torch.randn(2, 4, 3, 3)).isfinite().all()


# Muon


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=toys.generator())
    found = torch.linalg.svdvals(orthogonal(matrix))
    assert found.min() > 0.5 and found.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest = u @ v
    assert torch.cosine_similarity(orthogonal(matrix).flatten(), nearest.flatten(), dim=0) > 0.95


def test_muon_learns_with_each_kind_of_parameter() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 16), nn.GELU(), nn.Linear(16, 2))
    frozen = model[0].bias.requires_grad_(False).clone()
    optimizer = Muon(model.named_parameters(), lr=0.02, plain=("4.",))
    kinds = {group["muon"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert kinds[True] == {id(model[0].weight), id(model[2].weight)}
    assert kinds[False] == {id(model[2].bias), id(model[4].weight), id(model[4].bias)}
    x = torch.randn(32, 3, 4, 4)
    y = torch.stack([x[:, 0].mean((1, 2)), x[:, 1, 0, 0] * x[:, 2, 1, 1]], dim=1)
    losses = []
    for _ in range(60):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0], losses
    assert torch.equal(model[0].bias, frozen)


def test_muons_plain_part_is_adam() -> None:
    mine, theirs = (nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
    muon = Muon([("bias", mine)], lr=0.1, betas=(0.9, 0.98))
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.98))
    for _ in range(5):
        for parameter, optimizer in ((mine, muon), (theirs, adam)):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


# The loop


def test_the_learning_rate() -> None:
    assert cosine(0, 0, warmup=10) == pytest.approx(0.1)
    assert cosine(9, 0, warmup=10) == 1
    assert cosine(50, 0.5, warmup=10, floor=0.1) == pytest.approx(0.55)
    assert cosine(99, 1, warmup=10, floor=0.1) == cosine(99, 7, warmup=10, floor=0.1) == pytest.approx(0.1)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, average: Average, steps: Sequence[int]) -> None:
    for step in steps:
        optimizer.zero_grad()
        (model(torch.ones(2, 4)) - step).square().mean().backward()
        optimizer.step()
        average.update(step)


def linear(seed: int) -> tuple[nn.Module, Muon, Average]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    return model, Muon(model.named_parameters(), lr=0.1), Average(model)


def test_the_average_follows_and_steps_aside() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    average = Average(model, decay=0.75)
    assert average.shadow.keys() == {"weight"}
    with torch.no_grad():
        for step in range(60):
            model.weight.fill_(float(step >= 40))
            average.update(step)
    assert 0.99 < float(average.shadow["weight"].mean()) < 1
    kept = model.weight.clone()
    with average.applied():
        assert torch.equal(model.weight, average.shadow["weight"])
    assert torch.equal(model.weight, kept)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert torch.equal(model.weight, kept)
    average.write()
    assert torch.equal(model.weight, average.shadow["weight"])


def test_an_average_forgets_the_start() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(100)
        average = Average(model, decay=0.9999)
        model.weight.fill_(1)
    for step in range(20):
        average.update(step)
    assert float(average.shadow["weight"]) < 2


def test_resuming_is_as_good_as_going_on(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model, optimizer, average = linear(1)
    assert resume(path, model, optimizer, average) == 0
    trained(model, optimizer, average, range(5))
    save_state(path, model, optimizer, average, 5)
    trained(model, optimizer, average, range(5, 9))
    again = linear(2)
    assert resume(path, *again) == 5
    trained(*again, range(5, 9))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again[0].parameters(), strict=True))
    assert all(torch.equal(average.shadow[name], again[2].shadow[name]) for name in average.shadow)
    assert again[2].live["weight"] is again[0].weight


# The trainers


@pytest.fixture(scope="module")
def few() -> pytest.MonkeyPatch:
    """Every collection of pictures has a few at most, and networks are narrow."""
    with pytest.MonkeyPatch.context() as patch:
        pictures, held_out = autoencoder.pictures, judge.held_out
        patch.setattr(autoencoder, "pictures", lambda rng, count: pictures(rng, min(count, 4)))
        patch.setattr(judge, "held_out", lambda count, seed: held_out(min(count, 4), seed))
        patch.setattr(autoencoder, "WIDTHS", (32, 32, 32, 32))
        yield patch


@pytest.fixture(scope="module")
def trained_parts(few: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the autoencoder's and of CLIP's training."""
    folder = tmp_path_factory.mktemp("trained")
    few.setattr(autoencoder, "crops", lambda images, figures, rng: (images[:2], figures[:2]))
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
    assert tokens.shape == (1, clip.MAX_LENGTH)
    text = CLIPTextModel.from_pretrained(trained_parts / "text_encoder")
    text_2 = CLIPTextModelWithProjection.from_pretrained(trained_parts / "text_encoder_2")
    assert text(tokens).last_hidden_state.shape[-1] == clip.TEXT_WIDTH
    assert text_2(tokens).text_embeds.shape[-1] == clip.VISION_WIDTH
    encoder = VisionEncoder.from_pretrained(trained_parts / "vision_encoder")
    assert encoder.encode([torch.rand(128, 128, 3)]).levels.shape == (1, 3, 64, clip.VISION_WIDTH)
    assert step_of(trained_parts / "clip.pt") == 2


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
    assert loaded.native_size == 128
    assert loaded.decode(loaded.encode_text(["a fox"]), seed=1, steps=1).shape == (1, 128, 128, 3)


def test_latents_of_another_seed_are_not_taken(trained_parts: Path, tmp_path: Path, capsys) -> None:
    from diffusers import AutoencoderKL

    pipeline = Namespace(vae=AutoencoderKL.from_pretrained(trained_parts / "vae"))
    scenes, first = decoder.cached_latents(pipeline, tmp_path / "latents.pt", 2, seed=1)
    assert torch.equal(decoder.cached_latents(pipeline, tmp_path / "latents.pt", 2, seed=1)[1], first)
    assert capsys.readouterr().out.count("encoded") == 1
    others, second = decoder.cached_latents(pipeline, tmp_path / "latents.pt", 2, seed=2)
    assert capsys.readouterr().out.count("encoded") == 1
    assert scenes != others and not torch.equal(first, second)
    assert first.dtype == torch.bfloat16 and first.shape == (2, 4, 16, 16)


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
    truth = clip.labels(scenes)
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


def test_the_language_model_is_trained_and_resumed(tmp_path: Path, capsys) -> None:
    from m3adapter.language_model import LanguageModel

    arguments = ["--output", str(tmp_path), "--batch", "2", "--length", "64", "--check-every", "1", "--checks", "1"]
    small = ["--tokenizer-stories", "30", "--vocabulary", "400", "--width", "32", "--layers", "1", "--heads", "2"]
    language.main([*arguments, *small, "--steps", "1"])
    assert "language step 1 loss" in capsys.readouterr().out and step_of(tmp_path / "language.pt") == 1
    language.main([*arguments, *small, "--steps", "2"])
    assert "resumed at step 1" in capsys.readouterr().out
    told = LanguageModel.from_pretrained(tmp_path / "language_model")
    assert told.hidden_size == 32 and told.visual_projection is not None
    again = tmp_path / "again"
    language.main([*arguments[2:], "--output", str(again), "--init", str(tmp_path / "language_model"), "--steps", "0"])
    copied = LanguageModel.from_pretrained(again / "language_model")
    assert all(torch.equal(a, b) for a, b in zip(told.model.parameters(), copied.model.parameters(), strict=True))


# The losses


def test_v_loss_is_one_for_each_picture() -> None:
    signal, noise_part = decoder.schedule_terms()
    assert len(signal) == 1000
    torch.testing.assert_close(signal**2 + noise_part**2, torch.ones(1000))
    seen: list[torch.Tensor] = []

    def unet(noisy, times, embeds, added_cond_kwargs):
        seen.append(times)
        assert added_cond_kwargs["time_ids"].shape == (6, 6)
        return Namespace(sample=torch.zeros_like(noisy))

    torch.manual_seed(0)
    latents = torch.randn(6, 4, 2, 2)
    loss = decoder.v_loss(unet, latents, torch.zeros(6, 3, 8), torch.zeros(6, 5), signal, noise_part)
    assert loss.shape == (6,) and (loss > 0).all()
    strata = ((seen[0] + 0.5) / 1000) ** (1 / decoder.EARLY) * 6
    assert sorted(strata.long().tolist()) == list(range(6)), "a time from every part of the schedule"


def test_windows_are_told_where_they_lie(monkeypatch) -> None:
    signal, noise_part = decoder.schedule_terms()
    seen: list[torch.Tensor] = []

    def unet(noisy, times, embeds, added_cond_kwargs):
        seen.append(added_cond_kwargs["time_ids"])
        return Namespace(sample=noisy)

    for shape, corner in (((2, 4, 16, 16), (0, 0)), ((2, 4, 10, 10), (6, 3))):
        decoder.v_loss(unet, torch.zeros(shape), torch.zeros(2, 3, 8), torch.zeros(2, 5), signal, noise_part, corner)
    assert seen[0][1].tolist() == [128, 128, 0, 0, 128, 128], "a whole picture is told what the pipeline tells"
    assert seen[1][1].tolist() == [128, 128, 48, 24, 80, 80], "size, crop and window in pixels, as SDXL has them"
    corners = {decoder.window(random.Random(seed)) for seed in range(200)}
    assert {row for row, _ in corners} == {3, 4} and {column for _, column in corners} == set(range(5))


def test_v_loss_of_the_right_answer_is_nothing(monkeypatch) -> None:
    signal, noise_part = decoder.schedule_terms()
    latents, noise = torch.randn(2, 2, 4, 4, 4, generator=toys.generator())
    monkeypatch.setattr(torch, "randn_like", lambda _: noise)

    def unet(noisy, times, embeds, added_cond_kwargs):
        a, s = signal[times].view(-1, 1, 1, 1), noise_part[times].view(-1, 1, 1, 1)
        torch.testing.assert_close(noisy.float(), a * latents + s * noise, rtol=0.02, atol=0.02)
        return Namespace(sample=a * noise - s * latents)

    assert not decoder.v_loss(unet, latents, torch.zeros(2, 3, 8), torch.zeros(2, 5), signal, noise_part).any()


def test_v_loss_at_the_end_of_the_schedule(monkeypatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda count: torch.full((count,), 1 - 2**-24))  # the largest it draws
    latents = torch.zeros(32, 4, 2, 2)
    loss = decoder.v_loss(
        lambda noisy, *_, **__: Namespace(sample=noisy), latents, latents, latents, *decoder.schedule_terms()
    )
    assert loss.isfinite().all()


# M3FT


class Reader:
    """In place of the language model: states that depend on caption and image tokens."""

    def __init__(self) -> None:
        self.model = nn.Linear(toys.LLM_WIDTH, toys.LLM_WIDTH).requires_grad_(False)

    def encode_slots(self, requests: list, image_tokens: torch.Tensor) -> list[SlotStates]:
        found = []
        for conversation, slot, _ in requests:
            caption = conversation.at(slot).caption
            states = toys.states(4, 6, caption=caption, seed=sum(caption.encode()))
            context = self.model(torch.cat([states.context, image_tokens]))
            found.append(SlotStates(context, states.text, caption))
        return found


@pytest.fixture(scope="module")
def toy_decoder(tmp_path_factory: pytest.TempPathFactory) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path_factory.mktemp("toy")))


@pytest.fixture
def arguments(tmp_path: Path) -> Namespace:
    toys.vision_encoder().save_pretrained(tmp_path / "vision")
    return Namespace(
        output=tmp_path, vision=tmp_path / "vision", seed=1, lr=0.01, batch=4, samples=8,
        steps=1, minutes=0, align=1.0, denoise_from=0.0, no_gate=False,
    )  # fmt: skip


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_changes_its_own_parameters_and_no_other(
    stage: int, arguments: Namespace, toy_decoder: DiffusionDecoder, capsys
) -> None:
    adapter, reader = toys.adapter(), Reader()
    models = nn.ModuleList([toy_decoder.unet, toy_decoder.vae, toy_decoder.text_encoder, reader.model])
    before = {name: value.clone() for name, value in adapter.named_parameters()}
    frozen = {name: value.clone() for name, value in models.state_dict().items()}
    run = m3ft.stage1 if stage == 1 else m3ft.stage2
    run(arguments, adapter, reader, toy_decoder)
    group = adapter.stage1_parameters() if stage == 1 else adapter.stage2_parameters()
    changed = {name for name, value in adapter.named_parameters() if not torch.equal(value, before[name])}
    assert changed == group.keys()
    for name, parameter in adapter.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.any())
        assert learns == (name in group), name
    assert all(torch.equal(value, frozen[name]) for name, value in models.state_dict().items())
    saved = load_adapter(arguments.output / f"adapter_stage{stage}.safetensors")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in adapter.state_dict().items())


def count_calls(adapter: M3Adapter, calls: list[float]) -> Callable:
    def loss(rng: random.Random, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        calls.append(rng.random())
        value = adapter(toys.slot_features()).embeds.square().mean()
        return value, {"align": value.item()}

    return loss


def test_a_stage_goes_on_where_it_stopped(arguments: Namespace, tmp_path: Path) -> None:
    calls: list[float] = []
    adapter = toys.adapter()
    arguments.steps = 2
    m3ft.run(arguments, 1, adapter, count_calls(adapter, calls))
    assert len(calls) == 2
    again = toys.adapter(seed=5)
    m3ft.run(arguments, 1, again, count_calls(again, calls))
    assert len(calls) == 2, "nothing is left to do"
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), again.parameters(), strict=True))
    arguments.steps = 4
    m3ft.run(arguments, 1, again, count_calls(again, calls))
    uncut: list[float] = []
    arguments.output = tmp_path / "uncut"
    arguments.output.mkdir()
    m3ft.run(arguments, 1, toys.adapter(), count_calls(toys.adapter(), uncut))
    assert calls == uncut, "a resumed run draws what an uncut one would"


def test_the_alignment_counts_every_channel_alike(toy_decoder: DiffusionDecoder) -> None:
    target = m3ft.Target(toy_decoder, list(toys.CAPTIONS))
    embeds, pooled = target(list(toys.CAPTIONS[:2]))
    assert embeds.shape == (2, toys.TOKENS, toys.EMBED_WIDTH) and pooled.shape == (2, toys.POOLED_WIDTH)
    exact = Condition(embeds, pooled, embeds, pooled)
    assert target.distance(exact, embeds, pooled) == 0
    off = replace(exact, embeds=embeds + target.embed_scale)
    assert float(target.distance(off, embeds, pooled)) == pytest.approx(1, rel=1e-4)
    off = replace(exact, pooled=pooled + target.pooled_scale)
    assert float(target.distance(off, embeds, pooled)) == pytest.approx(0.3, rel=1e-4)


def test_the_gradient_of_denoising_goes_to_the_condition_only(toy_decoder: DiffusionDecoder) -> None:
    condition = toys.condition(2)
    condition.embeds.requires_grad_(True)
    scenes = [Scene((Character("fox", "blue"),), None, "camp"), Scene((Character("owl", "red"),), "kite", "city")]
    m3ft.denoising(toy_decoder, condition, scenes, random.Random(1)).backward()
    assert condition.embeds.grad is not None and condition.embeds.grad.any()
    assert all(p.grad is None for p in (*toy_decoder.unet.parameters(), *toy_decoder.vae.parameters()))


def test_the_pool_sees_each_samples_references() -> None:
    found = m3ft_data.pool(random.Random(3), 30, exchanges=(1, 2), disturbed=True)
    encoder = toys.vision_encoder()
    features, mask = found.vision(encoder, random.Random(4))
    assert features.dtype == torch.bfloat16 and features.shape[2:] == (3, toys.PATCHES, toys.VISION_WIDTH)
    assert mask.sum(1).tolist() == [len(sample.references) for sample in found.samples]
    assert not features[~mask].any() and features[mask].flatten(1).any(1).all()


def test_what_a_disturbed_sample_should_show() -> None:
    plain = m3ft_data.pool(random.Random(3), 200, exchanges=(2, 3))
    found = m3ft_data.pool(random.Random(3), 200, exchanges=(2, 3), disturbed=True)
    differ = [
        (one, other)
        for one, other in zip(plain.samples, found.samples, strict=True)
        if one.references != other.references
    ]
    assert 10 < len(differ) < 100
    for sample in found.samples:
        painted = found.painted(sample)
        assert [actor.species for actor in painted.characters] == [a.species for a in sample.scene.characters]
        for index, actor in enumerate(painted.characters):
            expected = sample.shown(index) if index in sample.known else sample.scene.characters[index]
            assert actor == expected
        for index, actor in enumerate(sample.scene.characters):
            assert (index in sample.known) == (sample.shown(index) is not None and index not in sample.named), actor


def test_training_draws_from_training_stories_only(monkeypatch) -> None:
    from m3adapter.storybook import dataset

    splits: set[str] = set()

    def story(rng: random.Random, split: str, **how: object) -> stories.Story:
        splits.add(split)
        return stories.story(rng, split, **how)

    monkeypatch.setattr(dataset, "story", story)
    m3ft_data.pool(random.Random(0), 5, exchanges=(1,))
    assert splits == {"train"}
