"""Samplers by the names that users of ComfyUI and of diffusers know them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .values import shown

AS_THE_MODEL_SAYS = "as the model says"

_KARRAS = {"use_karras_sigmas": True}
_ODE, _SDE = ({"algorithm_type": f"{kind}dpmsolver++"} for kind in ("", "sde-"))
# Name: diffusers' class, and what it is told beside the model's own configuration.
_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _ODE),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {**_ODE, **_KARRAS}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", _SDE),
    "dpmpp_sde_karras": ("DPMSolverSinglestepScheduler", {**_SDE, **_KARRAS}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
SCHEDULERS = (AS_THE_MODEL_SAYS, *_TABLE)


def check_scheduler(name: str) -> None:
    """Raises ValueError, one sentence, for a name that is none of `SCHEDULERS`."""
    if name not in SCHEDULERS:
        raise ValueError(f"There is no scheduler {shown(name)}: choose one of {', '.join(SCHEDULERS)}.")


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """The scheduler of that name in diffusers, with the noise schedule and the prediction type of a model.

    Args:
        name: One of `SCHEDULERS`, but for "as the model says".
        config: The configuration of the model's own scheduler.

    Raises ValueError for an unknown name.
    """
    import diffusers

    check_scheduler(name)
    kind, settings = _TABLE[name]
    # Unless it is asked for, no spacing of sigmas is taken over from the scheduler that came with the model.
    plain = {option: False for option in config if option.startswith("use_") and option.endswith("_sigmas")}
    return getattr(diffusers, kind).from_config(config, **{**plain, **settings})
