"""Schedulers by the names that users of ComfyUI and diffusers know, their timestep spacing and prediction type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import shown

AS_THE_MODEL_SAYS = "as the model says"

_KARRAS = {"use_karras_sigmas": True}
_ODE, _SDE = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
# Name: diffusers' class, and settings that are added to the model's own configuration.
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
# What some of diffusers' schedulers do not support and would ignore.
_OWN_SPACING = ("dpmpp_2m_karras", "dpmpp_2m_sde_karras", "dpmpp_sde", "dpmpp_sde_karras", "lcm")
_NO_ZERO_SNR = ("heun", "dpmpp_sde", "dpmpp_sde_karras")
_NO_X0 = ("euler_ancestral", "heun")


def check_scheduler(name: str) -> None:
    """Raise ValueError for a name that is not in `SCHEDULERS`."""
    _one_of("scheduler", name, SCHEDULERS)


def check_spacing(name: str) -> None:
    """Raise ValueError for a name that is not in `SPACINGS`."""
    _one_of("spacing", name, SPACINGS)


def check_prediction(name: str) -> None:
    """Raise ValueError for a name that is not in `PREDICTIONS`."""
    _one_of("prediction", name, PREDICTIONS)


def _one_of(field: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"There is no {field} {shown(name)}: choose one of {', '.join(names)}.")


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Build diffusers' scheduler of a name, with the noise schedule and prediction type of a model.

    Args:
        name: One of `SCHEDULERS` except "as the model says".
        config: The configuration of the model's own scheduler.

    Raises:
        ValueError: The name is unknown.
    """
    import diffusers

    check_scheduler(name)
    class_name, settings = _TABLE[name]
    # The spacing of sigmas is the chosen scheduler's, not that of the scheduler that came with the model.
    plain = {option: False for option in config if option.startswith("use_") and option.endswith("_sigmas")}
    return getattr(diffusers, class_name).from_config(config, **{**plain, **settings})


def choose_scheduler(
    own: Any, name: str | None = None, spacing: str | None = None, prediction: str | None = None
) -> Any:
    """Return a model's own scheduler, or the one that is chosen instead.

    A model whose noise schedule ends in pure noise (zero terminal SNR) has to start there, which only the spacing
    `trailing` does. It is therefore used whatever the model's configuration says, unless another one is chosen.

    Args:
        own: The model's own scheduler.
        name: One of `SCHEDULERS`; None is "as the model says".
        spacing: One of `SPACINGS`; None is "as the model says".
        prediction: One of `PREDICTIONS`; None is "as the model says".

    Raises:
        ValueError: A name is unknown, or the scheduler does not support the choice.
    """
    name = name or AS_THE_MODEL_SAYS
    spacing = spacing or AS_THE_MODEL_SAYS
    prediction = prediction or AS_THE_MODEL_SAYS
    check_scheduler(name)
    check_spacing(spacing)
    check_prediction(prediction)
    zero_snr = bool(own.config.get("rescale_betas_zero_snr"))
    for applies, unsupported, cannot in (
        (spacing != AS_THE_MODEL_SAYS, _OWN_SPACING, f"has a spacing of its own, and {spacing} would change nothing"),
        (zero_snr, _NO_ZERO_SNR, "cannot begin in pure noise, as this model (zero terminal SNR) has to"),
        (prediction == "x0", _NO_X0, "cannot work with the prediction x0"),
    ):
        if applies and name in unsupported:
            raise ValueError(f"The scheduler {name} {cannot}: choose euler, or leave that as the model says.")
    chosen: dict[str, Any] = {}
    if spacing != AS_THE_MODEL_SAYS:
        chosen["timestep_spacing"] = spacing
    elif zero_snr and own.config.get("timestep_spacing") != "trailing":
        chosen["timestep_spacing"] = "trailing"
    if prediction != AS_THE_MODEL_SAYS:
        chosen["prediction_type"] = _PREDICTIONS[prediction]
    if name != AS_THE_MODEL_SAYS:
        return build_scheduler(name, {**own.config, **chosen})
    return type(own).from_config(own.config, **chosen) if chosen else own
