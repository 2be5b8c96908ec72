"""The loss of the decoder at hand: diffusers' own formulas, whatever it predicts and however its noise runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import toys
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.diffusion.latents import latent_means, to_pictures
from m3adapter.training.decoder import schedule_terms, v_loss
from m3adapter.training.diffusion_loss import DiffusionLoss, Draws, Framing, cumulative_alphas, min_snr_weights
from m3adapter.training.loop import autocast

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
ZERO_SNR = {**SDXL, "rescale_betas_zero_snr": True}
OTHERS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 400}
COSINE = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100}


class Recorded:
    """In place of the UNet: remembers what it is given, and says something that depends on it."""

    dtype = torch.float32

    def __init__(self, **config: Any) -> None:
        values = {"addition_embed_type": "text_time", "cross_attention_dim": 8, **config}
        self.config = Namespace(**values)
        self.given: list[tuple] = []

    def __call__(self, noisy: Tensor, times: Tensor, embeds: Tensor, **more: Any) -> Namespace:
        self.given.append((noisy, times, embeds, more.get("added_cond_kwargs")))
        return Namespace(sample=noisy * 0.5 + embeds.mean())


def decoder_with(unet: Any, *, is_refiner: bool = False, **config: Any) -> Any:
    pipeline = Namespace(scheduler=Namespace(config=config), vae_scale_factor=8)
    return Namespace(unet=unet, pipeline=pipeline, is_refiner=is_refiner)


@pytest.mark.parametrize("schedule", [SDXL, ZERO_SNR, OTHERS, COSINE], ids=["sdxl", "zero snr", "linear", "cosine"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_diffusers_own_training(schedule: dict, prediction: str, gamma: float | None) -> None:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    own = DDPMScheduler(**schedule, prediction_type=prediction)
    unet = Recorded()
    loss = DiffusionLoss(decoder_with(unet, **schedule, prediction_type=prediction), min_snr=gamma)
    torch.manual_seed(1)
    latents, embeds = torch.randn(6, 4, 3, 5), torch.randn(6, 7, 8)
    last = schedule["num_train_timesteps"] - 1
    times = torch.tensor([0, 1, last // 2, last - 1, last if schedule is not ZERO_SNR else last - 2, 3])
    noise = torch.randn_like(latents)
    found = loss(latents, embeds, torch.zeros(6, 2), draws=Draws(times, noise))
    torch.testing.assert_close(unet.given[0][0], own.add_noise(latents, noise, times))
    target = {"epsilon": noise, "sample": latents, "v_prediction": own.get_velocity(latents, noise, times)}[prediction]
    expected = (unet.given[0][0] * 0.5 + embeds.mean() - target).square().mean((1, 2, 3))
    if gamma is not None:
        snr = compute_snr(own, times)
        bounded = torch.stack([snr, gamma * torch.ones_like(times)], dim=1).min(dim=1)[0]
        divided = {"epsilon": snr, "sample": 1, "v_prediction": snr + 1}[prediction]
        expected = expected * bounded / divided
    torch.testing.assert_close(found, expected)


def test_the_end_in_pure_noise_has_a_loss_for_every_prediction() -> None:
    alphas = cumulative_alphas(ZERO_SNR)
    assert alphas[-1] == 0 and alphas[0] > 0.99
    for prediction, limit in (("epsilon", 1), ("sample", 0), ("v_prediction", 0)):
        weights = min_snr_weights(alphas, prediction, 5)
        assert weights[-1] == limit and weights.isfinite().all() and (weights >= 0).all()


def test_for_the_starter_it_is_the_same_loss_to_the_bit(tmp_path: Path) -> None:
    decoder = DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path))
    torch.manual_seed(3)
    latents, embeds, pooled = torch.randn(6, 4, 16, 16), torch.randn(6, 32, 96), torch.randn(6, 32)
    torch.manual_seed(4)
    before = v_loss(decoder.unet, latents, embeds, pooled, *schedule_terms())
    torch.manual_seed(4)
    found = DiffusionLoss(decoder, early=0.6, context=autocast)(latents, embeds, pooled)
    assert torch.equal(found, before)


def test_the_unet_is_told_size_corner_and_target_size_as_sdxl_was() -> None:
    unet = Recorded()
    loss = DiffusionLoss(decoder_with(unet, **SDXL))
    latents = torch.randn(2, 4, 4, 6)
    loss(latents, torch.zeros(2, 3, 8), torch.full((2, 5), 7.0))
    added = unet.given[0][3]
    assert added["time_ids"].tolist() == [[32, 48, 0, 0, 32, 48]] * 2 and (added["text_embeds"] == 7).all()
    framing = Framing(
        torch.tensor([[600, 400], [64, 96]]), torch.tensor([[1, 0], [0, 9]]), torch.tensor([[32, 48]] * 2)
    )
    loss(latents, torch.zeros(2, 3, 8), torch.zeros(2, 5), framing)
    assert unet.given[1][3]["time_ids"].tolist() == [[600, 400, 1, 0, 32, 48], [64, 96, 0, 9, 32, 48]]
    refiner = Recorded()
    DiffusionLoss(decoder_with(refiner, is_refiner=True, **SDXL))(latents, torch.zeros(2, 3, 8), torch.zeros(2, 5))
    assert refiner.given[0][3]["time_ids"].tolist() == [[32, 48, 0, 0, 6]] * 2
    plain = Recorded(addition_embed_type=None)
    DiffusionLoss(decoder_with(plain, **SDXL))(latents, torch.zeros(2, 3, 8), torch.zeros(2, 5))
    assert plain.given[0][3] is None


def test_times_are_drawn_from_the_whole_schedule_and_noisy_ones_more_often_if_wished() -> None:
    latents = torch.zeros(500, 1, 1, 1)
    torch.manual_seed(0)
    times = DiffusionLoss(decoder_with(Recorded(), **SDXL)).draw(latents).times
    assert times.min() < 5 and times.max() > 994 and abs(times.float().mean() - 500) < 5
    early = DiffusionLoss(decoder_with(Recorded(), **SDXL), early=0.6).draw(latents).times
    assert early.float().mean() > 600


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**SDXL, "prediction_type": "flow_prediction"}, "predicts 'flow_prediction'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "FlowMatchEulerDiscreteScheduler"),
        ({**SDXL, "_class_name": "EDMEulerScheduler", "sigma_data": 0.5}, "EDMEulerScheduler"),
        ({**SDXL, "beta_schedule": "made up"}, "made up"),
    ],
)
def test_a_decoder_of_another_kind_is_refused_in_a_sentence(config: dict, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        DiffusionLoss(decoder_with(Recorded(), **config))
    assert says in str(caught.value) and toys.one_sentence(caught.value)


@pytest.mark.parametrize(
    "statistics", [{}, {"shift_factor": 0.3}, {"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4}]
)
def test_latents_are_scaled_as_the_vae_says_and_come_back(statistics: dict) -> None:
    class Config(dict):
        __getattr__ = dict.__getitem__

    raw = torch.randn(1, 4, 2, 2)
    vae = Namespace(
        config=Config(scaling_factor=0.25, force_upcast=False, **statistics), device="cpu", dtype=torch.float32,
        encode=lambda _: Namespace(latents=raw), decode=lambda latents: Namespace(sample=latents),
    )  # fmt: skip
    found = latent_means(vae, torch.zeros(1, 3, 16, 16))
    expected = {0: raw, 1: raw - 0.3, 2: (raw - 0.5) / 2}[len(statistics)] * 0.25
    torch.testing.assert_close(found, expected)
    back = to_pictures(vae, found)
    torch.testing.assert_close(back, (raw / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))
