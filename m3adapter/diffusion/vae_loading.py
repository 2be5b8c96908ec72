"""Opens a VAE from a file or folder of its own, for an SDXL model that has another one or none.

A file does not store the scale of its latents. It has to be the model's anyway, so it is taken from the configuration
of the model's own VAE.
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
# From the names that older versions of diffusers gave the layers of a VAE's attention to today's.
_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"(?<=mid_block\.attentions\.0\.)({'|'.join(_NAMES)})(?=\.)")
_KL = r"^(first_stage_model\.|vae\.)?{half}\.(conv_in\.|mid)"


def check_vae(path: str | Path) -> str:
    """Return the name of diffusers' class for a VAE, judging by names and shapes; no weights are read.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It is not a VAE for pictures, only half of one, or damaged.
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
        class_name = TINY
    else:
        halves = {half for half in ("encoder", "decoder") if _first(shapes, _KL.format(half=half))}
        class_name = KL
    if not halves:
        noun = recognise(path)
        raise ValueError(f"{path.name} is {noun}: choose a VAE for SDXL.")
    if not halves >= {"encoder", "decoder"}:
        raise ValueError(f"{path.name} is half of a VAE, the {halves.pop()} alone: choose one with both halves.")
    if any(len(shape) > 4 for shape in shapes.values()):
        raise ValueError(f"{path.name} is a VAE for video: choose a VAE for SDXL.")
    return class_name


def load_vae(path: str | Path, *, channels: int, config: str | Path, dtype: torch.dtype) -> Any:
    """Open the VAE in a file or diffusers folder.

    Args:
        path: A .safetensors file, in the original layout or diffusers', of AutoencoderKL or AutoencoderTiny (TAESDXL);
            or a folder with diffusers' config.json.
        channels: Number of channels of the diffusion model's latents.
        config: For an AutoencoderKL from a file, a folder with the configuration of such a VAE as vae/config.json.
        dtype: Type of the weights.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It is not a VAE (see `check_vae`), does not fit the model, or is incomplete.
    """
    import diffusers

    path = Path(path)
    class_name = check_vae(path)
    if path.is_file() and class_name == KL:
        _check_channels(path, _latent_channels(path), channels)
    if path.is_dir():
        check_config(path / CONFIG)
        check_types(path / CONFIG, getattr(diffusers, class_name))
    try:
        if path.is_dir():
            vae = getattr(diffusers, class_name).from_pretrained(
                path, use_safetensors=True, variant=_variant(path), torch_dtype=dtype, local_files_only=True
            )
        elif class_name == TINY:
            vae = _open_tiny(path, dtype)
        else:
            vae = diffusers.AutoencoderKL.from_single_file(
                _single_file(path, config),
                config=str(config),
                subfolder="vae",
                torch_dtype=dtype,
                local_files_only=True,
            )
    except NotImplementedError as error:  # a weight on the meta device was to be converted
        raise ValueError(f"{path.name} is incomplete: it lacks weights that a VAE has.") from error
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise ValueError(f"{path.name} is a VAE of another size than SDXL's: choose a VAE for SDXL.") from error
    if any(value.is_meta for value in vae.state_dict().values()):
        raise ValueError(f"{path.name} is incomplete: it lacks weights that a VAE has.")
    _check_channels(path, vae.config.latent_channels, channels)
    return vae.eval().requires_grad_(False)


def _variant(folder: Path) -> str | None:
    """Return the variant of the weights in a folder if there are no plain ones."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _single_file(path: Path, config: str | Path) -> str | dict[str, Any]:
    """Return the path of a file in the original layout, or the weights of one in diffusers' layout.

    diffusers recognises its own layout only if all names are those of today.
    """
    import diffusers
    from safetensors.torch import load_file

    if not any(name.startswith("decoder.mid_block.") for name in header(path)):
        return str(path)
    with torch.device("meta"):
        values = diffusers.AutoencoderKL.load_config(str(config), subfolder="vae", local_files_only=True)
        known = diffusers.AutoencoderKL.from_config(values).state_dict()
    weights = {_OLD.sub(lambda match: _NAMES[match[0]], name): value for name, value in load_file(path).items()}
    return {name: value for name, value in weights.items() if name in known}


def _open_tiny(path: Path, dtype: torch.dtype) -> Any:
    import diffusers
    from safetensors.torch import load_file

    vae: Any = diffusers.AutoencoderTiny()
    vae.load_state_dict(load_file(path))
    return vae.to(dtype)


def _latent_channels(path: Path) -> int:
    shapes = {name: shape for name, (shape, _) in header(path).items()}
    return shapes[_first(shapes, r"^(first_stage_model\.|vae\.)?decoder\.conv_in\.weight$")][1]


def _check_channels(path: Path, channels: int, expected: int) -> None:
    if channels != expected:
        raise ValueError(
            f"{path.name} is a VAE with latents of {channels} channels, and the diffusion model's have {expected}: "
            "choose a VAE for SDXL."
        )


def _first(names: Any, pattern: str) -> str:
    """Return the first name that matches a pattern, or ""."""
    return next((name for name in names if re.match(pattern, name)), "")
