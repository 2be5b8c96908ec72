"""Opens a user's SDXL model as a decoder: a diffusers folder, or a single-file checkpoint in safetensors.

diffusers does the reading and the conversion. What a single file does not say, the sizes of its parts, stands in
`sdxl/`, so nothing is asked of a hub.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from .diffusion import DiffusionDecoder
from .layouts import REFINER, check_decoder, header, weight_files
from .schedulers import AS_THE_MODEL_SAYS, build_scheduler, check_scheduler

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

    Raises:
        FileNotFoundError: There is no such file, or no diffusers model in the folder.
        ValueError: It is another kind of model, or incomplete, or the scheduler is unknown; one sentence each.
    """
    path = Path(path)
    check_scheduler(scheduler or AS_THE_MODEL_SAYS)
    kind = check_decoder(path)
    if dtype is None:
        dtype = torch.float32 if torch.device(device).type == "cpu" else stored_dtype(path)
    how = {"torch_dtype": dtype, "local_files_only": True, "add_watermarker": False}
    try:
        pipeline = _open_folder(path, kind, how) if path.is_dir() else _open_file(path, kind, configs, how)
    except NotImplementedError as error:  # a weight without a value was to be cast
        raise ValueError(f"{path.name} is not whole: it lacks weights that {kind} has.") from error
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path.name} is laid out as {kind}, but cannot be opened: {_line(error)}.") from error
    _check_complete(path, kind, pipeline)
    if tokenizer is not None:
        _add_tokenizers(pipeline, Path(tokenizer))
    if scheduler not in (None, AS_THE_MODEL_SAYS):
        pipeline.scheduler = build_scheduler(scheduler, pipeline.scheduler.config)
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
    variant = "fp16" if any(".fp16" in file.name for file in weight_files(path)) else None
    return _pipeline_class(kind).from_pretrained(path, variant=variant, use_safetensors=True, **lacking, **how)


def _open_file(path: Path, kind: str, configs: str | Path | None, how: dict[str, Any]) -> Any:
    configs = configs or CONFIGS / ("refiner" if kind == REFINER else "base")
    how = {**how, "tokenizer": None, "tokenizer_2": None}
    pipeline = _pipeline_class(kind).from_single_file(str(path), config=str(configs), **how)
    marks = header(path)
    if "v_pred" in marks:  # how fine-tunes say that they predict velocity; without the mark nothing in the file tells
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr="ztsnr" in marks
        )
    return pipeline


def _add_tokenizers(pipeline: Any, folder: Path) -> None:
    """CLIP's tokenizer for each text encoder that has none."""
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise FileNotFoundError(f"There is no CLIP tokenizer in {folder}: vocab.json is missing.")
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


def _line(error: Exception) -> str:
    """What a library says, short and on one line."""
    return str(error).strip().split("\n")[0].split(". ")[0].strip(".'\"")[:200]
