"""Samplers by the names that users of ComfyUI and of diffusers know them by, and where on the schedule they step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import shown

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
SPACINGS = (AS_THE_MODEL_SAYS, "leading", "trailing", "linspace")
# What a UNet predicts, by ComfyUI's names and diffusers'.
_PREDICTIONS = {"eps": "epsilon", "v_prediction": "v_prediction", "x0": "sample"}
PREDICTIONS = (AS_THE_MODEL_SAYS, *_PREDICTIONS)
# What some of diffusers' schedulers do not know, and would ignore.
_OWN_SPACING = ("dpmpp_2m_karras", "dpmpp_2m_sde_karras", "dpmpp_sde", "dpmpp_sde_karras", "lcm")
_NO_ZERO_SNR = ("heun", "dpmpp_sde", "dpmpp_sde_karras")
_NO_X0 = ("euler_ancestral", "heun")


def check_scheduler(name: str) -> None:
    """Raises ValueError, one sentence, for a name that is none of `SCHEDULERS`."""
    _one_of("scheduler", name, SCHEDULERS)


def check_spacing(name: str) -> None:
    """Raises ValueError, one sentence, for a name that is none of `SPACINGS`."""
    _one_of("spacing", name, SPACINGS)


def check_prediction(name: str) -> None:
    """Raises ValueError, one sentence, for a name that is none of `PREDICTIONS`."""
    _one_of("prediction", name, PREDICTIONS)


def _one_of(field: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"There is no {field} {shown(name)}: choose one of {', '.join(names)}.")


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


def choose_scheduler(
    own: Any, name: str | None = None, spacing: str | None = None, prediction: str | None = None
) -> Any:
    """A model's own scheduler, or the one that is chosen in its place.

    A model whose schedule ends in pure noise (zero terminal SNR) has to begin there, which only the spacing `trailing`
    does. It is that, whatever the model's configuration says, unless another one is chosen.

    Args:
        own: The model's own scheduler.
        name, spacing, prediction: One of `SCHEDULERS`, `SPACINGS` and `PREDICTIONS`; None is "as the model says".

    Raises ValueError, one sentence: an unknown name, or what a scheduler cannot do.
    """
    name, spacing, prediction = (each or AS_THE_MODEL_SAYS for each in (name, spacing, prediction))
    check_scheduler(name)
    check_spacing(spacing)
    check_prediction(prediction)
    from_noise = bool(own.config.get("rescale_betas_zero_snr"))
    for wrong, names, cannot in (
        (spacing != AS_THE_MODEL_SAYS, _OWN_SPACING, f"has a spacing of its own, and {spacing} would change nothing"),
        (from_noise, _NO_ZERO_SNR, "cannot begin in pure noise, as this model (zero terminal SNR) has to"),
        (prediction == "x0", _NO_X0, "cannot work with the prediction x0"),
    ):
        if wrong and name in names:
            raise ValueError(f"The scheduler {name} {cannot}: choose euler, or leave that as the model says.")
    chosen: dict[str, Any] = {}
    if spacing != AS_THE_MODEL_SAYS:
        chosen["timestep_spacing"] = spacing
    elif from_noise and own.config.get("timestep_spacing") != "trailing":
        chosen["timestep_spacing"] = "trailing"
    if prediction != AS_THE_MODEL_SAYS:
        chosen["prediction_type"] = _PREDICTIONS[prediction]
    if name != AS_THE_MODEL_SAYS:
        return build_scheduler(name, {**own.config, **chosen})
    return type(own).from_config(own.config, **chosen) if chosen else own
