"""Recognises model files and folders by names and shapes alone: SDXL base, SDXL refiner, or another kind of model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..values import is_whole, label, shown
from . import model_files
from .model_files import check_whole

Shapes = Mapping[str, Sequence[int]]

BASE, REFINER = "an SDXL base model", "an SDXL refiner"
NO_VAE = "an SDXL model without its VAE"
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "conditioner.embedders."
INDEX = "model_index.json"

# Models other than checkpoints with a UNet, recognised by the first pattern that matches one of their names.
_BEFORE = (
    ("a LoRA", r"lora_(up|down|A|B)\b|\.lora\.|\bhada_w1|\blokr_w1|^lora_(unet|te)"),
    ("a ControlNet", r"^control_model\.|controlnet_cond_embedding|input_hint_block"),
    ("an IP-Adapter", r"^(ip_adapter|image_proj)\."),
    ("a T2I-Adapter", r"^(adapter\.)?body\.\d"),
    ("an M3-Adapter", r"^low_attention\."),
    ("an embedding (textual inversion)", r"^(clip_[lg]|emb_params)$"),
    ("a Flux model", r"\bdouble_blocks\.0\.img_attn|^single_transformer_blocks\.0"),
    ("a Stable Diffusion 3 model", r"\bjoint_blocks\.0"),
    ("a Stable Cascade model", r"^clip_txt_mapper|^down_blocks\.1\.0\.channelwise"),
    ("a video model", r"\btime_(stack|mixer)\b|motion_modules"),
    ("a Playground 2.5 model", r"^edm_mean$"),
    ("a CosXL model", r"^edm_vpred\."),
)
# Merges may leave some of these names in complete checkpoints, where they are not used.
_LEFT_BEHIND = ("a LoRA", "an IP-Adapter", "an embedding (textual inversion)")
_AFTER = (
    ("a UNet in diffusers' layout (choose the whole diffusers folder)", r"^(down_blocks\.0|input_blocks\.0)\."),
    ("a VAE alone", r"^(first_stage_model\.)?(en|de)coder\.(conv_in|down|up|mid)"),
    ("a text encoder alone", r"\btext_model\.encoder\.layers|\btransformer\.resblocks"),
    ("a language model", r"\b(embed_tokens|lm_head)\.weight"),
    ("a diffusion transformer of another kind", r"\b(blocks|layers|transformer_blocks|double_layers)\.0\."),
)
_PIPELINES = {
    "StableDiffusion3": "a Stable Diffusion 3 model",
    "Flux": "a Flux model",
    "StableCascade": "a Stable Cascade model",
    "StableVideoDiffusion": "a video model",
}


def recognise(source: str | Path | Shapes) -> str:
    """Return what a model is, as a noun: `BASE`, `REFINER`, or another one such as "a LoRA". No weights are read.

    Args:
        source: A safetensors file, a diffusers folder, or the shapes of a single-file checkpoint's weights by name.

    Raises:
        FileNotFoundError: There is no such file, or no diffusers model in the folder.
        ValueError: The file cannot be opened: it is a pickle, or cut off.
    """
    if isinstance(source, Mapping):
        return _recognise_shapes(source)
    path = Path(source)
    return _recognise_folder(path) if path.is_dir() else _recognise_shapes(shapes(path))


def check_decoder(path: str | Path, *, own_vae: bool = True) -> str:
    """Check that a model is an SDXL base model or refiner.

    Args:
        path: A safetensors file or diffusers folder.
        own_vae: Whether the model's own VAE is used, so that it must have one.

    Returns:
        `BASE` or `REFINER`.

    Raises:
        FileNotFoundError: There is no such file, or no diffusers model in the folder.
        ValueError: It is another kind of model, or cannot be opened.
    """
    path = Path(path)
    kind = recognise(path)
    if kind == NO_VAE:
        if own_vae:
            raise ValueError(f"{path.name} is {kind}: choose one from models/vae as its vae.")
        kind = _base_or_refiner(shapes(path))
    if kind not in (BASE, REFINER):
        raise ValueError(
            f"{path.name} is {kind}: choose an SDXL base model or refiner, which is what M2Chat paints with."
        )
    if path.is_dir():
        _check_parts(path)
        for file in weight_files(path, own_vae=own_vae):
            shapes(file)
    return kind


def _check_parts(folder: Path) -> None:
    """Raise ValueError if a component of a folder asks for code of its own, or for a kernel."""
    for name, value in _index(folder).items():
        if isinstance(value, list) and value and value[0] not in (None, "diffusers", "transformers"):
            raise ValueError(
                f"{folder.name} needs code that comes with the model (for its {name}), and such code is not run: "
                "choose a model that needs none."
            )
        config = folder / name / "config.json"
        if not name.startswith("text_encoder") or not config.is_file():
            continue
        for field in ("attn_implementation", "_attn_implementation"):
            if read_json(config).get(field) not in (None, "sdpa", "eager"):
                raise ValueError(
                    f"{name}/config.json of {folder.name} asks for an attention kernel from the internet, and "
                    f"nothing is downloaded: remove {field} from it."
                )


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights in a safetensors file by name; errors as for `recognise`."""
    return {name: shape for name, (shape, _) in header(path).items()}


def header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type (in safetensors' spelling, such as "F16") of each weight in a safetensors file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be opened: it is a pickle, or cut off.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path.name}.")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        check_whole(path)
        with path.open("rb") as stream:
            start = stream.read(8)
        # A header's length may begin with the same byte as a pickle, but ends in zeros.
        if start.startswith(b"PK\x03\x04") or (start.startswith(b"\x80") and not start.endswith(bytes(4))):
            raise ValueError(
                f"{path.name} is a pickle, which may run any code: get the model as safetensors."
            ) from error
        raise ValueError(f"{path.name} is cut off or not a safetensors file: get it again.") from error


def weight_files(path: Path, *, own_vae: bool = True) -> list[Path]:
    """Return the safetensors files that are loaded of a file or diffusers folder.

    Of a folder these are the plain files of each component, or else those of the fp16 variant.

    Args:
        path: The file or folder.
        own_vae: Whether the folder's own VAE is loaded.

    Raises:
        ValueError: A component of the folder has no such files.
    """
    if path.is_file():
        return [path]
    files: list[Path] = []
    for component in _models(_index(path)):
        if component == "vae" and not own_vae:
            continue
        available = sorted((path / component).glob("*.safetensors"))
        plain = [file for file in available if re.fullmatch(r"[^.]+\.safetensors", file.name)]
        chosen = plain or [file for file in available if ".fp16" in file.name]
        if not chosen:
            raise ValueError(
                f"{path.name} has no safetensors weights in its folder {component}: get that folder again."
            )
        files += chosen
    return files


def _models(index: dict[str, Any]) -> list[str]:
    """Return the components of a pipeline that have weights."""
    parts = {name: index.get(name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    return [name for name, part in parts.items() if isinstance(part, list) and part and part[0]]


def _index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"There is no diffusion decoder in {folder.name}: {INDEX} is missing.")
    return read_json(folder / INDEX)


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration beside a model's weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold a JSON object.
    """
    try:
        return model_files.read_json(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path.parent.parent.name} lacks {path.parent.name}/{path.name}: get it again."
        ) from error


def _recognise_folder(folder: Path) -> str:
    index = _index(folder)
    name = str(index.get("_class_name"))
    if known := [noun for start, noun in _PIPELINES.items() if name.startswith(start)]:
        return known[0]
    if not name.startswith("StableDiffusion") or not isinstance(index.get("unet"), list):
        return f"a model for diffusers' {name}"
    config = folder / "unet" / "config.json"
    unet = read_json(config)
    channels = [unet.get(name, 4) for name in ("in_channels", "out_channels")]
    for number in channels:
        if not is_whole(number, 1, 2**16):
            raise ValueError(f"{label(config)} has a number of channels that is {shown(number)}: get the file again.")
    extra = channels[0] - channels[1]
    if unet.get("addition_embed_type") != "text_time":
        return _noun(_stable_diffusion(unet.get("cross_attention_dim")), extra)
    if extra:
        return _noun("SDXL", extra)
    return REFINER if index.get("requires_aesthetics_score") else BASE


def _recognise_shapes(found: Shapes) -> str:
    names = "\n".join(found)
    first = found.get(f"{UNET}input_blocks.0.0.weight")
    whole = first and any(name.startswith(TEXT) for name in found)
    for noun, mark in _BEFORE if first else (*_BEFORE, *_AFTER):
        if not (whole and noun in _LEFT_BEHIND) and re.search(mark, names, re.MULTILINE):
            return noun
    if not first:
        return "an unknown kind of model"
    extra = first[1] - found.get(f"{UNET}out.2.weight", (first[1],))[0]
    label = found.get(f"{UNET}label_emb.0.0.weight")
    context = next((shape[1] for name, shape in found.items() if name.endswith("attn2.to_k.weight")), 0)
    if label is None or _stable_diffusion(context) != "Stable Diffusion":
        return _noun(_stable_diffusion(context), extra)
    if extra:
        return _noun("SDXL", extra)
    if label[1] == 2816 and f"{UNET}input_blocks.8.1.transformer_blocks.9.norm1.weight" not in found:
        return "a distilled SDXL model (SSD-1B, Vega or Koala)"
    if not any(name.startswith(TEXT) for name in found):
        return "the UNet of an SDXL model without its text encoders"
    if not any(name.startswith(VAE) for name in found):
        return NO_VAE
    return _base_or_refiner(found)


def _base_or_refiner(found: Shapes) -> str:
    return BASE if any(name.startswith(f"{TEXT}1.model.") for name in found) else REFINER


def _stable_diffusion(context: Any) -> str:
    """Return the name of the Stable Diffusion whose prompt embeddings have that width."""
    known = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2"}
    return known.get(context, "Stable Diffusion") if isinstance(context, int) else "Stable Diffusion"


def _noun(family: str, extra: int) -> str:
    """Return a noun for a model whose UNet takes `extra` more channels than it outputs."""
    article = "an" if family == "SDXL" else "a"
    use = {0: "model", 5: "inpainting model", 4: "model for editing by instruction", 3: "upscaling model"}
    return f"{article} {family} {use.get(extra, 'model with further input channels')}"
