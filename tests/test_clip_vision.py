"""Stock CLIP vision models as vision encoders: they see what the same weights see in transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

import toys
from runs import inside

pytestmark = pytest.mark.comfy


def test_a_stock_model_sees_what_ours_sees(tmp_path: Path) -> None:
    encoder = toys.vision_encoder()
    encoder.mean, encoder.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    encoder.levels = (1, 1, 3)  # a quarter, a half and all of its three layers
    encoder.save_pretrained(tmp_path)
    found = inside("clip_vision", tmp_path)
    assert found["levels"] == [1, 1, 3] and found["sizes"] == [toys.VISION_WIDTH, 32]
    assert max(found["apart"]) < 1e-5 < 0.1 < found["scale"]
    assert found["managed"], "its own patcher has loaded it"
    # SigLIP has no class token before its patches
    assert found["siglip"] == [[2, 3, toys.PATCHES, toys.VISION_WIDTH], [2, 4, toys.VISION_WIDTH]]
    assert found["refusal"] == (
        "Vision Encoder from CLIP Vision: A vision model of the kind siglip2_vision_model does not work here: load "
        "a CLIP or SigLIP model."
    )
