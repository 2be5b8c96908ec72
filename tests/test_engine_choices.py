"""ComfyUI's options apply to the decoder too: attention, memory, previews, compiling."""

from __future__ import annotations

from typing import Any

import pytest

from runs import inside

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return inside("choices")


def test_the_unet_attends_as_comfyui_does(found: dict[str, Any]) -> None:
    assert found["usual"] == {"calls": 0, "apart": 0.0}, "torch's own, as diffusers"
    assert found["split"]["calls"] > 0 and 0 < found["split"]["apart"] < 1e-4
    assert found["sdpa"]["calls"] > 0 and found["sdpa"]["apart"] == 0, "the same function, called by ComfyUI"


def test_channels_last_is_comfyuis_option(found: dict[str, Any]) -> None:
    assert found["channels_last"] == [False, True] and found["last_apart"] < 1e-4


def test_previews_are_made_by_comfyuis_method_and_only_for_a_page(found: dict[str, Any]) -> None:
    made = found["previews"]
    assert made["none"] is None and made["nobody"] is None and made["gone"] is None and made["nan"] is None
    assert made["latent2rgb"] == made["everybody"] == ["JPEG", [16, 16], 512]
    assert made["taesd"] == ["JPEG", [64, 64], 512], "with the small decoder, where its file lies"
    assert made["sdxl"] == made["playground"] == ["JPEG", [8, 8], 512]
    assert made["unknown"] is None


def test_a_stock_model_can_be_compiled(found: dict[str, Any]) -> None:
    assert found["compiled"]["graphs"] > 0 and found["compiled"]["apart"] < 1e-4


def test_what_a_language_model_remembers_leaves_the_device_with_it(found: dict[str, Any]) -> None:
    assert found["remembered"] == [1, 0]
