"""Opens a user's SDXL model as a diffusers pipeline: a diffusers folder, or a single-file safetensors checkpoint.

diffusers reads and converts the weights. The sizes of the components, which a single file does not store, are in
`sdxl/`, so that nothing is requested from a hub.
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
from .float8 import FLOAT8, keep_float8
from .quantised import NOTES, check_quantised, dequantised, scales
from .schedulers import check_prediction, check_scheduler, check_spacing, choose_scheduler
from .vae_loading import KL, check_vae, load_vae

CONFIGS = Path(__file__).parent / "sdxl"
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def open_pipeline(
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
    float8: bool = False,
) -> Any:
    """Open a diffusers folder or a single file as a pipeline; arguments and errors are those of `auto.load_decoder`.

    Returns:
        A `StableDiffusionXLPipeline`, or a `StableDiffusionXLImg2ImgPipeline` for a refiner.
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
    config_folder = path if path.is_dir() else Path(configs or CONFIGS / ("refiner" if kind == REFINER else "base"))
    for component in config_folder.iterdir():
        for name in (CONFIG, SCHEDULER):
            check_config(component / name)
    check_parts(config_folder)
    replaced: dict[str, Any] = {}
    if vae is not None:
        channels = read_json(config_folder / "unet" / "config.json").get("in_channels", 4)
        vae_config = _vae_config_folder(config_folder)
        replaced["vae"] = load_vae(vae, channels=channels, config=vae_config, dtype=vae_dtype or dtype)
    quantised = _check_quantised(path, vae is None)
    with building(path.name, kind, config_folder):
        if quantised:
            replaced |= _dequantised(path, config_folder, dtype, vae is None)
        if path.is_dir():
            pipeline = _open_folder(path, kind, dtype, replaced)
        else:
            pipeline = _open_file(path, kind, config_folder, dtype, replaced)
    _check_complete(path, kind, pipeline)
    if float8 and stores_float8(path):
        _keep_float8(path, pipeline)
    if tokenizer is not None:
        _add_tokenizers(pipeline, Path(tokenizer))
    if vae_dtype is not None:
        pipeline.vae.to(vae_dtype)
    pipeline.scheduler = _scheduler(path, pipeline.scheduler, scheduler, spacing, prediction)
    return pipeline if torch.device(device).type == "cpu" else pipeline.to(device)


def stored_dtype(path: str | Path) -> torch.dtype:
    """Return the type of most of a model's weights; float16 for types without arithmetic (float8)."""
    count: Counter[str] = Counter()
    for file in weight_files(Path(path)):
        for shape, stored in header(file).values():
            count[stored] += torch.Size(shape).numel()
    return _DTYPES.get(count.most_common(1)[0][0], torch.float16)


def stores_float8(path: str | Path) -> bool:
    """Return whether weights of a model are stored as float8, with scales or without."""
    path = Path(path)
    plain = any(stored in FLOAT8 for file in weight_files(path) for _, stored in header(file).values())
    return plain or (path.is_file() and check_quantised(path))


def count_parameters(path: str | Path) -> int:
    """Return the number of a model's parameters, which only takes reading the headers of its files."""
    shapes = [shape for file in weight_files(Path(path)) for shape, _ in header(file).values()]
    return sum(torch.Size(shape).numel() for shape in shapes)


def loaded_bytes(path: str | Path, dtype: torch.dtype) -> int:
    """Return how many bytes a model's weights will take, with those that are stored as float8 kept in float8."""
    return sum(
        torch.Size(shape).numel() * (1 if stored in (*FLOAT8, "U8") else dtype.itemsize)
        for file in weight_files(Path(path))
        for shape, stored in header(file).values()
    )


def _pipeline_class(kind: str) -> Any:
    import diffusers

    return diffusers.StableDiffusionXLImg2ImgPipeline if kind == REFINER else diffusers.StableDiffusionXLPipeline


def _open_folder(path: Path, kind: str, dtype: torch.dtype, replaced: dict[str, Any]) -> Any:
    missing = {name: None for name in ("tokenizer", "tokenizer_2") if not (path / name).is_dir()}
    files = weight_files(path, own_vae="vae" not in replaced)
    return _pipeline_class(kind).from_pretrained(
        path,
        variant="fp16" if any(".fp16" in file.name for file in files) else None,
        use_safetensors=True,
        local_files_only=True,
        add_watermarker=False,
        **missing,
        **replaced,
        **pipeline_dtype(dtype),
    )


def _open_file(path: Path, kind: str, configs: Path, dtype: torch.dtype, replaced: dict[str, Any]) -> Any:
    pipeline = _pipeline_class(kind).from_single_file(
        str(path),
        config=str(configs),
        torch_dtype=dtype,
        local_files_only=True,
        add_watermarker=False,
        tokenizer=None,
        tokenizer_2=None,
        **replaced,
    )
    names = header(path)
    if "v_pred" in names:  # fine-tunes mark velocity prediction with this key; nothing else in the file tells
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr="ztsnr" in names
        )
    return pipeline


def _vae_config_folder(folder: Path) -> Path:
    """Return the folder whose vae/config.json describes an AutoencoderKL for the model: its own, or SDXL's."""
    file = folder / "vae" / "config.json"
    return folder if file.is_file() and read_json(file).get("_class_name") == KL else CONFIGS / "base"


def _check_quantised(path: Path, own_vae: bool) -> bool:
    """Return whether a single file's weights have scales.

    Raises:
        ValueError: The weights of a folder are quantised, or those of a file in an unknown way.
    """
    if path.is_file():
        return check_quantised(path)
    for file in weight_files(path, own_vae=own_vae):
        if read_json(file.parent / "config.json").get("quantization_config") or check_quantised(file):
            raise ValueError(
                f"{path.name} has quantised weights in {file.parent.name}: get the folder without quantisation."
            )
    return False


def _dequantised(path: Path, configs: Path, dtype: torch.dtype, own_vae: bool) -> dict[str, Any]:
    """Open the UNet, and the VAE unless it is replaced, of a single file whose weights have scales."""
    import diffusers

    models: dict[str, tuple[Any, str]] = {"unet": (diffusers.UNet2DConditionModel, UNET)}
    if own_vae:
        models["vae"] = (diffusers.AutoencoderKL, VAE_PREFIX)
    return {
        name: model_class.from_single_file(
            dequantised(path, prefix, dtype),
            subfolder=name,
            config=str(configs),
            torch_dtype=dtype,
            local_files_only=True,
        )
        for name, (model_class, prefix) in models.items()
    }


def _keep_float8(path: Path, pipeline: Any) -> None:
    """Store the weights of UNet and text encoders as float8 again where the file does."""
    by_layer: dict[str, torch.Tensor] = {}
    if path.is_file() and (found := scales(path, UNET)):
        from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

        # It renames whatever it is given: here, the names themselves.
        stored = {name: name for name in header(path) if name.startswith(UNET) and not name.endswith(NOTES)}
        names = convert_ldm_unet_checkpoint(stored, pipeline.unet.config)
        by_layer = {name.removesuffix(".weight"): found[own] for name, own in names.items() if own in found}
    for name in ("unet", "text_encoder", "text_encoder_2"):
        if (model := getattr(pipeline, name, None)) is not None:
            for kind in FLOAT8.values():
                keep_float8(model, kind, by_layer if name == "unet" else None)


def _scheduler(path: Path, own: Any, name: str | None, spacing: str | None, prediction: str | None) -> Any:
    """Call `choose_scheduler` and explain where another class cannot take the configuration of the model's own."""
    try:
        return choose_scheduler(own, name, spacing, prediction)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"The scheduler of {path.name} is not configured for what was chosen ({type(error).__name__}): leave it "
            "as the model says."
        ) from error


def _add_tokenizers(pipeline: Any, folder: Path) -> None:
    """Add CLIP's tokenizer for each text encoder that has none."""
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise FileNotFoundError(f"There is no CLIP tokenizer in {folder.name}: vocab.json is missing.")
    paddings: tuple[tuple[str, dict[str, Any]], ...] = (("", {}), ("_2", {"pad_token": "!"}))  # as SDXL was trained
    for suffix, padding in paddings:
        encoder = getattr(pipeline, f"text_encoder{suffix}")
        if encoder is not None and getattr(pipeline, f"tokenizer{suffix}") is None:
            tokenizer = CLIPTokenizer.from_pretrained(
                folder, model_max_length=encoder.config.max_position_embeddings, local_files_only=True, **padding
            )
            pipeline.register_modules(**{f"tokenizer{suffix}": tokenizer})


def _check_complete(path: Path, kind: str, pipeline: Any) -> None:
    """Raise ValueError if a folder lacks weights.

    diffusers leaves those on the meta device, transformers initialises them at random, and neither complains.
    """
    missing = []
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module):
            stored = {_without_prefix(key) for file in (path / name).glob("*.safetensors") for key in header(file)}
            may_be_random = bool(stored) and name.startswith("text_encoder")
            missing += [
                f"{name}.{key}"
                for key, value in component.state_dict().items()
                if value.is_meta or (may_be_random and _without_prefix(key) not in stored)
            ]
    if missing:
        raise ValueError(
            f"{path.name} is incomplete: it lacks {len(missing)} weights of {kind}, {missing[0]} among them."
        )


def _without_prefix(name: str) -> str:
    """Strip the prefix that only some versions of transformers write before a text encoder's weights."""
    return name.removeprefix("text_model.")
