"""The gate on reference latents, on toys of every class of the engine that reads them."""

from __future__ import annotations

import pytest

from runs import inside

pytestmark = pytest.mark.comfy


def test_a_toy_of_every_family_paints_and_looks_at_its_reference() -> None:
    found = inside("toys_paint")
    assert len(found) == 13
    for family, seen in found.items():
        side = 64 if family in ("flux2_klein", "mage_flow") else 32
        assert seen["size"] == [side, side, 3] and seen["finite"] and seen["latent"], family
        assert seen["moved"] > 0.1, family
