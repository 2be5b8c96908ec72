"""IP-Adapter on a stock MODEL: it predicts what diffusers' own predicts, and stays out of the way when shut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import toys
from runs import inside
from tools import environment

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy decoder."""
    return toys.save_decoder(tmp_path_factory.mktemp("ip"))


@pytest.fixture(scope="module")
def parity(folder: Path) -> dict[str, Any]:
    return inside("ip_parity", folder)


def test_the_patch_predicts_what_diffusers_predicts(parity: dict[str, Any]) -> None:
    assert sorted(parity["apart"]) == ["base 0.3", "base 1.0", "plus 0.3", "plus 1.0"]
    assert max(parity["apart"].values()) <= 1e-4 < 1e-2 < min(parity["acts"].values())
    assert parity["plain"] <= 1e-4


def test_a_shut_gate_is_no_patch_to_the_last_bit(parity: dict[str, Any]) -> None:
    assert len(parity["same"]) == 8 and all(parity["same"].values())


def test_a_window_reads_the_noise_level_once_a_step_and_not_in_every_layer(parity: dict[str, Any]) -> None:
    assert parity["window"] == [True, False] and parity["reads"] == 2
    assert parity["in place"] == [True, False, True], "samplers may write the next level into the same tensor"


def test_the_layers_of_sdxl_are_counted_as_in_the_published_files() -> None:
    found = inside("ip_order", environment.REPO / "m3adapter" / "diffusion" / "sdxl" / "base" / "unet" / "config.json")
    assert found["wrong"] == [] and found["count"] == 70
    assert found["widths"] == [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10
    assert found["places"] == [
        *("down.1.0", "down.1.1", "down.2.0", "down.2.1"),
        *("up.0.0", "up.0.1", "up.0.2", "up.1.0", "up.1.1", "up.1.2", "mid"),
    ]


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return inside("ip_together", folder)


def test_patches_stack_in_any_order(found: dict[str, Any]) -> None:
    assert found["second acts"] > 1e-2 and found["either order"] < 1e-5
    assert found["first is kept"]
    assert min(found[name] for name in ("theirs", "ours on theirs", "theirs under ours")) > 1e-2


def test_references_share_a_place(found: dict[str, Any]) -> None:
    assert found["references"] > 1e-2
    assert found["twice the same"] < 1e-5, "two pictures of the same are as strong as one"
    assert found["weight"] < 1e-6


def test_blocks_are_chosen(found: dict[str, Any]) -> None:
    assert found["blocks"] > 1e-2 and found["only named blocks"] == 0


def test_masks_say_where(found: dict[str, Any]) -> None:
    assert found["zeros"] == 0 and found["ones"] < 1e-6 and found["zeros beside"] < 1e-6
    for place in ("half in a layer", "half in the model"):
        outside, within = found[place]
        assert outside == 0 < 1e-2 < within


def test_loras_and_control_nets_still_act(found: dict[str, Any]) -> None:
    for name in ("sampled", "lora", "look under a lora", "control", "look under control"):
        assert found[name] > 1e-3, name


def test_batches_and_unequal_conditions(found: dict[str, Any]) -> None:
    assert min(found["unequal"]) > 1e-3 and found["batch"] < 1e-4


def test_the_model_is_unchanged_after_two_queues(found: dict[str, Any]) -> None:
    assert found["again"] and found["unchanged"] and found["no patch on the original"]


def test_other_models_are_refused(found: dict[str, Any]) -> None:
    assert found["refusals"] == [
        "The model is an SDXL refiner, for which there are no IP-Adapters: apply it to the base model.",
        "The model is an SDXL inpainting model: apply the IP-Adapter to a model that is not for inpainting.",
        "The model is of the kind BaseModel: these IP-Adapters are for SDXL models.",
        "The IP-Adapter was made for 1 cross-attentions on embeddings 96 wide, and the diffusion model has 7 on 96: "
        "use it with the kind of model that it was trained for.",
    ]


def test_it_streams_where_there_is_little_room(folder: Path) -> None:
    found = inside("ip_streamed", folder)
    for name in ("adapter", "model"):
        (whole, size), (part, _) = found["whole"][name], found["part"][name]
        assert part < whole == size, name
    assert found["apart"] < 1e-5
