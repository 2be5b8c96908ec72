"""What all trainings share is exact: normalisation, optimizer, loop, the decoder's loss."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import toys
from m3adapter.training import decoder
from m3adapter.training.fast_norm import FastGroupNorm, use_fast_norm
from m3adapter.training.loop import Average, cosine, resume, save_state
from m3adapter.training.muon import Muon, orthogonal
from m3adapter.training.whitening import Whitening

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


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)], ids=str)
def test_muon_of_a_matrix_is_torchs(shape: tuple[int, int]) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.xfail("this torch has no Muon")
    torch.manual_seed(0)
    mine = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(mine.detach().clone())
    optimizers = (
        Muon([("weight", mine)], lr=0.1, weight_decay=0.03),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.03, adjust_lr_fn="match_rms_adamw"),
    )
    target = torch.randn(shape)
    for _ in range(5):
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (parameter - target).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0.02)  # steps are of 0.1, in bfloat16 or float32


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


def test_windows_know_their_position(monkeypatch) -> None:
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
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.full((count,), 1 - 2**-24))  # the largest it draws
    latents = torch.zeros(32, 4, 2, 2)
    loss = decoder.v_loss(
        lambda noisy, *_, **__: Namespace(sample=noisy), latents, latents, latents, *decoder.schedule_terms()
    )
    assert loss.isfinite().all()


# Whitening


def test_whitening_makes_all_directions_count_alike() -> None:
    generator = toys.generator()
    mixed = torch.randn(4000, 1, 6, generator=generator) * torch.tensor([9.0, 4, 2, 2, 1, 1]) + torch.tensor([5.0] * 6)
    pooled = torch.randn(4000, 3, generator=generator) * 2
    white, white_pooled = Whitening.measure(mixed, pooled)(mixed, pooled)
    rows = white.flatten(0, 1)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(6), atol=0.2, rtol=0)
    torch.testing.assert_close(white_pooled.T @ white_pooled / 4000, torch.eye(3), atol=0.15, rtol=0)
    assert not any(part.any() for part in Whitening.measure(mixed, pooled)(mixed * 0, pooled * 0))


def test_whitening_folds_into_the_weights() -> None:
    unet = decoder.build(4, 12, 8).eval()
    generator = toys.generator()
    embeds, pooled = torch.randn(2, 5, 12, generator=generator), torch.randn(2, 8, generator=generator)
    whitening = Whitening.measure(torch.randn(50, 5, 12, generator=generator), torch.randn(50, 8, generator=generator))
    noisy, times = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([3, 700])

    def out(embeds: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        added = {"text_embeds": pooled, "time_ids": torch.ones(2, 6)}
        with torch.no_grad():
            return unet(noisy, times, embeds, added_cond_kwargs=added).sample

    trained, plain = out(*whitening(embeds, pooled)), out(embeds, pooled)
    assert not torch.allclose(trained, plain, atol=1e-3)
    whitening.fold(unet)
    torch.testing.assert_close(out(embeds, pooled), trained, atol=1e-5, rtol=1e-4)
    whitening.unfold(unet)
    torch.testing.assert_close(out(embeds, pooled), plain, atol=1e-4, rtol=1e-3)
