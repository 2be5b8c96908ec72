"""Opens a user's SDXL model as a decoder: a diffusers folder, or a single-file checkpoint in safetensors.

diffusers does the reading and the conversion. What a single file does not say, the sizes of its parts, stands in
`sdxl/`, so nothing is asked of a hub.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from ..compat import pipeline_dtype
from ..weights.counting import check_config
from ..weights.layouts import REFINER, UNET, check_decoder, header, read_json, weight_files
from ..weights.layouts import VAE as VAE_PREFIX
from .component_configs import CONFIG, SCHEDULER, building, check_parts
from .decoder import DiffusionDecoder
from .quantised import check_quantised, dequantised
from .schedulers import check_prediction, check_scheduler, check_spacing, choose_scheduler
from .vae_loading import KL, check_vae, load_vae

CONFIGS = Path(__file__).parent / "sdxl"
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def load_decoder(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    scheduler: str | None = None,
    tokenizer: str | Path | None = None,
    configs: str | Path | None = None,
    spacing: str | None = None,
    prediction: str | None = None,
    vae: str | Path | None = None,
    vae_dtype: torch.dtype | None = None,
) -> DiffusionDecoder:
    """The decoder in a diffusers folder or in a single file: SDXL base, refiner, or what was fine-tuned from them.

    Args:
        path: The folder, or the .safetensors file.
        dtype: Of the weights; None means as stored, but float32 on the CPU, where half precision is slow.
        device: Where to put it.
        scheduler: One of `schedulers.SCHEDULERS`; None is what the model says.
        tokenizer: A folder with CLIP's tokenizer, for a model that comes without; where there is none, the decoder
            paints conditions, and only `encode_text` complains.
        configs: For a single file, a folder with the configurations of its parts in diffusers' layout, in place of
            those of SDXL itself.
        spacing: Where on the schedule steps are taken, one of `schedulers.SPACINGS`; None is what the model says, or
            what its schedule needs (`choose_scheduler`).
        prediction: What the UNet gives, one of `schedulers.PREDICTIONS`; None is what the model says.
        vae: A file or folder with a VAE to take in place of the model's own, as `load_vae` opens it.
        vae_dtype: Of the VAE's weights; None means as the others.

    Raises:
        FileNotFoundError: There is no such file, or no diffusers model in the folder.
        ValueError: It is another kind of model, or incomplete, or quantised in a way that is not known, or the
            scheduler is unknown or cannot do what is asked; one sentence each.
    """
    path = Path(path)
    for check, name in ((check_scheduler, scheduler), (check_spacing, spacing), (check_prediction, prediction)):
        if name is not None:
            check(name)
    kind = check_decoder(path, own_vae=vae is None)
    if vae is not None:
        check_vae(vae)
    if dtype is None:
        dtype = torch.float32 if torch.device(device).type == "cpu" else stored_dtype(path)
    how = {"torch_dtype": dtype, "local_files_only": True, "add_watermarker": False}
    own = path if path.is_dir() else Path(configs or CONFIGS / ("refiner" if kind == REFINER else "base"))
    for part in own.iterdir():
        for name in (CONFIG, SCHEDULER):
            check_config(part / name)
    check_parts(own)
    if vae is not None:
        channels = read_json(own / "unet" / "config.json").get("in_channels", 4)
        how["vae"] = load_vae(vae, channels=channels, config=_with_kl(own), dtype=vae_dtype or dtype)
    quantised = _check_quantised(path, vae is None)
    with building(path.name, kind, own):
        if quantised:
            how |= _dequantised(path, own, dtype, vae is None)
        pipeline = _open_folder(path, kind, how) if path.is_dir() else _open_file(path, kind, own, how)
    _check_complete(path, kind, pipeline)
    if tokenizer is not None:
        _add_tokenizers(pipeline, Path(tokenizer))
    if vae_dtype is not None:
        pipeline.vae.to(vae_dtype)
    pipeline.scheduler = _scheduler(path, pipeline.scheduler, scheduler, spacing, prediction)
    return DiffusionDecoder(pipeline if torch.device(device).type == "cpu" else pipeline.to(device))


def stored_dtype(path: str | Path) -> torch.dtype:
    """The type of most of a model's weights; float16 for those that cannot be computed with (float8)."""
    count: Counter[str] = Counter()
    for file in weight_files(Path(path)):
        for shape, stored in header(file).values():
            count[stored] += torch.Size(shape).numel()
    return _TYPES.get(count.most_common(1)[0][0], torch.float16)


def count_parameters(path: str | Path) -> int:
    """How many weights a model has, read off the headers of its files."""
    found = [shape for file in weight_files(Path(path)) for shape, _ in header(file).values()]
    return sum(torch.Size(shape).numel() for shape in found)


def _pipeline_class(kind: str) -> Any:
    import diffusers

    return diffusers.StableDiffusionXLImg2ImgPipeline if kind == REFINER else diffusers.StableDiffusionXLPipeline


def _open_folder(path: Path, kind: str, how: dict[str, Any]) -> Any:
    lacking = {name: None for name in ("tokenizer", "tokenizer_2") if not (path / name).is_dir()}
    variant = "fp16" if any(".fp16" in file.name for file in weight_files(path, own_vae="vae" not in how)) else None
    how = {
        **{name: value for name, value in how.items() if name != "torch_dtype"},
        **pipeline_dtype(how["torch_dtype"]),
    }
    return _pipeline_class(kind).from_pretrained(path, variant=variant, use_safetensors=True, **lacking, **how)


def _open_file(path: Path, kind: str, configs: Path, how: dict[str, Any]) -> Any:
    how = {**how, "tokenizer": None, "tokenizer_2": None}
    pipeline = _pipeline_class(kind).from_single_file(str(path), config=str(configs), **how)
    marks = header(path)
    if "v_pred" in marks:  # how fine-tunes say that they predict velocity; without the mark nothing in the file tells
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr="ztsnr" in marks
        )
    return pipeline


def _with_kl(own: Path) -> Path:
    """The folder whose vae/config.json says what an AutoencoderKL for the model looks like: its own, or SDXL's."""
    file = own / "vae" / "config.json"
    return own if file.is_file() and read_json(file).get("_class_name") == KL else CONFIGS / "base"


def _check_quantised(path: Path, own_vae: bool) -> bool:
    """Whether a single file's weights have scales. Raises ValueError for a folder's, and for unknown kinds."""
    if path.is_file():
        return check_quantised(path)
    for file in weight_files(path, own_vae=own_vae):
        told = read_json(file.parent / "config.json").get("quantization_config")
        if told or check_quantised(file):
            raise ValueError(f"{path.name} has quantised weights in {file.parent.name}: get the folder without.")
    return False


def _dequantised(path: Path, configs: Path, dtype: torch.dtype, own_vae: bool) -> dict[str, Any]:
    """UNet and, if it is wanted, VAE of a single file whose weights have scales."""
    import diffusers

    kinds = {"unet": (diffusers.UNet2DConditionModel, UNET)}
    if own_vae:
        kinds["vae"] = (diffusers.AutoencoderKL, VAE_PREFIX)
    how = {"config": str(configs), "torch_dtype": dtype, "local_files_only": True}
    return {
        name: kind.from_single_file(dequantised(path, prefix, dtype), subfolder=name, **how)
        for name, (kind, prefix) in kinds.items()
    }


def _scheduler(path: Path, own: Any, *chosen: str | None) -> Any:
    """`choose_scheduler`, of a model's own one whose configuration another class may not be able to take."""
    try:
        return choose_scheduler(own, *chosen)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"The scheduler of {path.name} is not configured for what was chosen ({type(error).__name__}): leave it "
            "as the model says."
        ) from error


def _add_tokenizers(pipeline: Any, folder: Path) -> None:
    """CLIP's tokenizer for each text encoder that has none."""
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise FileNotFoundError(f"There is no CLIP tokenizer in {folder.name}: vocab.json is missing.")
    for number, padding in (("", {}), ("_2", {"pad_token": "!"})):  # as each of SDXL's two was trained
        encoder = getattr(pipeline, f"text_encoder{number}")
        if encoder is not None and getattr(pipeline, f"tokenizer{number}") is None:
            how = {"model_max_length": encoder.config.max_position_embeddings, "local_files_only": True, **padding}
            pipeline.register_modules(**{f"tokenizer{number}": CLIPTokenizer.from_pretrained(folder, **how)})


def _check_complete(path: Path, kind: str, pipeline: Any) -> None:
    """Raises ValueError where a folder lacks weights.

    diffusers leaves those without a value, transformers makes new ones up, and both go on.
    """
    missing = []
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            stored = {_plain(weight) for file in (path / name).glob("*.safetensors") for weight in header(file)}
            made_up = stored and name.startswith("text_encoder")
            values = part.state_dict().items()
            missing += [
                f"{name}.{key}" for key, value in values if value.is_meta or (made_up and _plain(key) not in stored)
            ]
    if missing:
        raise ValueError(
            f"{path.name} is not whole: it lacks {len(missing)} weights of {kind}, {missing[0]} among them."
        )


def _plain(name: str) -> str:
    """A text encoder's weight without the prefix that some versions of transformers write and some do not."""
    return name.removeprefix("text_model.")
