"""What a launch with FSDP, or with an engine that is not for this, is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import toys
from m3adapter.arguments import UserError
from m3adapter.training import sharding
from m3adapter.training.recipe import recipe_of

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
GOOD = {"stage2": {"batch": 8, "micro_batch": 2}, "lora": {"rank": 4, "merge": False}}


@pytest.mark.parametrize(
    ("asked", "changes", "says"),
    [
        ({}, {"lora": {"rank": 0}}, ""),
        (FSDP, {}, ""),
        ({**FSDP, "FSDP_VERSION": "1"}, {}, "set fsdp_version to 2"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, {}, "set fsdp_offload_params to false"),
        (FSDP, {"lora": {"rank": 0}}, "set lora.rank"),
        (FSDP, {"lora": {"rank": 4, "merge": True}}, "lora.merge does not go with FSDP"),
        (FSDP, {"stage2": {"batch": 6, "micro_batch": 2}}, "give a multiple of 4"),
        (FSDP, {"stage2": {"batch": 8, "projection": True}}, "stage2.projection does not go with FSDP"),
        (FSDP, {"models": {"quantization": "4bit"}}, "models.quantization does not go with FSDP"),
        (FSDP, {"run": {"offload": True}}, "run.offload does not go with FSDP"),
        (FSDP, {"run": {"pictures": 2}}, "run.pictures does not go with FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "asks for DeepSpeed: choose FSDP version 2"),
    ],
)
def test_what_a_launch_asks_for_is_done_or_refused(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], changes: dict[str, dict], says: str
) -> None:
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sharding, "accelerator", lambda: SimpleNamespace(num_processes=2))
    recipe = recipe_of({**GOOD, **changes})
    if not says:
        sharding.check_sharding(recipe)
        return
    with pytest.raises(UserError) as caught:
        sharding.check_sharding(recipe)
    assert says in str(caught.value) and toys.one_sentence(caught.value)


def test_a_single_process_divides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    assert not sharding.asked_for()
