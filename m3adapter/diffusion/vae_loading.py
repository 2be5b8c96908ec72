"""Opens a VAE from a file or folder of its own, for an SDXL model that has another one or none.

A file says nothing of the scale of its latents. They have to be the model's all the same, so the configuration of the
model's own VAE tells it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ..weights.counting import check_config
from ..weights.layouts import header, read_json, recognise
from .component_configs import check_types

BUILT_IN = "built-in"
KL, TINY = "AutoencoderKL", "AutoencoderTiny"
CONFIG = "config.json"
_CLASSES = (KL, TINY)
_TINY = r"^(en|de)coder\.layers\.\d+\."
# What diffusers called the parts of a VAE's attention once, and calls them today.
_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"(?<=mid_block\.attentions\.0\.)({'|'.join(_NAMES)})(?=\.)")
_KL = r"^(first_stage_model\.|vae\.)?{half}\.(conv_in\.|mid)"


def check_vae(path: str | Path) -> str:
    """Which of diffusers' classes a VAE is of, told by names and shapes; no weights are read.

    Raises FileNotFoundError and ValueError, one sentence: it is no VAE for pictures, half of one, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        name = str(read_json(path / CONFIG).get("_class_name"))
        if name not in _CLASSES:
            raise ValueError(f"{path.name} is a model for diffusers' {name[:80]}: choose a VAE for SDXL.")
        if not list(path.glob("*.safetensors")):
            raise ValueError(f"{path.name} has no safetensors weights: get that folder again.")
        return name
    shapes = {name: shape for name, (shape, _) in header(path).items()}
    if any(re.match(_TINY, name) for name in shapes):
        halves = {name.partition(".")[0] for name in shapes}
        kind = TINY
    else:
        halves = {half for half in ("encoder", "decoder") if _first(shapes, _KL.format(half=half))}
        kind = KL
    if not halves:
        noun = recognise(path)
        raise ValueError(f"{path.name} is {noun}: choose a VAE for SDXL.")
    if not halves >= {"encoder", "decoder"}:
        raise ValueError(f"{path.name} is half of a VAE, the {halves.pop()} alone: choose one with both halves.")
    if any(len(shape) > 4 for shape in shapes.values()):
        raise ValueError(f"{path.name} is a VAE for video: choose a VAE for SDXL.")
    return kind


def load_vae(path: str | Path, *, channels: int, config: str | Path, dtype: torch.dtype) -> Any:
    """The VAE in a file or diffusers folder.

    Args:
        path: A .safetensors file, in the original layout or diffusers', of AutoencoderKL or AutoencoderTiny (TAESDXL);
            or a folder with diffusers' config.json.
        channels: Of the diffusion model's latents.
        config: For an AutoencoderKL from a file: a folder with the configuration of such a VAE as vae/config.json.
        dtype: Of the weights.

    Raises FileNotFoundError and ValueError, one sentence, as `check_vae`, and where it does not fit or is not whole.
    """
    import diffusers

    path = Path(path)
    kind = check_vae(path)
    how = {"torch_dtype": dtype, "local_files_only": True}
    if path.is_file() and kind == KL:
        _check_channels(path, _latent_channels(path), channels)
    if path.is_dir():
        check_config(path / CONFIG)
        check_types(path / CONFIG, getattr(diffusers, kind))
    try:
        if path.is_dir():
            vae = getattr(diffusers, kind).from_pretrained(path, use_safetensors=True, variant=_variant(path), **how)
        elif kind == TINY:
            vae = _tiny(path, dtype)
        else:
            weights = _known(path, config)
            vae = diffusers.AutoencoderKL.from_single_file(weights, config=str(config), subfolder="vae", **how)
    except NotImplementedError as error:  # a weight without a value was to be cast
        raise ValueError(f"{path.name} is not whole: it lacks weights that a VAE has.") from error
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise ValueError(f"{path.name} is a VAE of another size than SDXL's: choose a VAE for SDXL.") from error
    if any(value.is_meta for value in vae.state_dict().values()):
        raise ValueError(f"{path.name} is not whole: it lacks weights that a VAE has.")
    _check_channels(path, vae.config.latent_channels, channels)
    return vae.eval().requires_grad_(False)


def _variant(folder: Path) -> str | None:
    """The variant of the weights in a folder that has no others."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _known(path: Path, config: str | Path) -> str | dict[str, Any]:
    """The path of a file in the original layout; of one in diffusers', the weights that are a VAE's.

    diffusers takes a file for one in its own layout only where all names are those of today.
    """
    import diffusers
    from safetensors.torch import load_file

    if not any(name.startswith("decoder.mid_block.") for name in header(path)):
        return str(path)
    with torch.device("meta"):
        told = diffusers.AutoencoderKL.load_config(str(config), subfolder="vae", local_files_only=True)
        known = diffusers.AutoencoderKL.from_config(told).state_dict()
    weights = {_OLD.sub(lambda found: _NAMES[found[0]], name): value for name, value in load_file(path).items()}
    return {name: value for name, value in weights.items() if name in known}


def _tiny(path: Path, dtype: torch.dtype) -> Any:
    import diffusers
    from safetensors.torch import load_file

    vae = diffusers.AutoencoderTiny()
    vae.load_state_dict(load_file(path))
    return vae.to(dtype)


def _latent_channels(path: Path) -> int:
    shapes = {name: shape for name, (shape, _) in header(path).items()}
    return shapes[_first(shapes, r"^(first_stage_model\.|vae\.)?decoder\.conv_in\.weight$")][1]


def _check_channels(path: Path, found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(
            f"{path.name} is a VAE with latents of {found} channels, and the diffusion model's have {wanted}: "
            "choose a VAE for SDXL."
        )


def _first(names: Any, pattern: str) -> str:
    """The first name that matches; "" where none does."""
    return next((name for name in names if re.match(pattern, name)), "")
