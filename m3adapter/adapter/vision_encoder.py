"""The vision encoder: turns pictures into features from several depths of a CLIP vision model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ..values import is_number, is_whole, shown
from ..weights.counting import check_config
from ..weights.model_files import read_json

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

SETTINGS = "preprocessor_config.json"
KINDS = ("clip_vision_model", "clip")  # a model_type of config.json; a whole CLIP has a vision model in it
GRID = 2  # places in a row and in a column of a picture that the language model receives
POOLED = GRID**2


@dataclass(frozen=True)
class VisionFeatures:
    """Features of B pictures.

    Attributes:
        levels: Patch features [B, L, P, D] from L depths, shallow to deep.
        pooled: The deepest level averaged over a 2 x 2 grid [B, 4, D], which the language model receives.
    """

    levels: Tensor
    pooled: Tensor


def default_levels(depth: int) -> tuple[int, int, int]:
    """Return the depths at which features of a stock model with `depth` layers are taken: quarter, half, end."""
    return (max(1, depth // 4), max(1, depth // 2), depth)


class VisionEncoder:
    """A CLIPVisionModel with its preprocessing.

    Args:
        model: The model; it is frozen.
        levels: Indices into its hidden states (0 is the embedding), shallow to deep.
        mean: Mean of each colour channel, for normalisation.
        std: Standard deviation of each colour channel.
    """

    def __init__(
        self,
        model: CLIPVisionModel,
        levels: Sequence[int],
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.levels = tuple(levels)
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the model takes."""
        return self.model.config.image_size

    @property
    def hidden_size(self) -> int:
        """Width D of the features."""
        return self.model.config.hidden_size

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> VisionEncoder:
        """Open a local folder in transformers' layout.

        Args:
            directory: The folder; `save_pretrained` writes one, stock CLIP vision models have the same layout.
            dtype: Type of the weights; float32 by default.
            device: Where to put them.

        Raises:
            FileNotFoundError: There is no config.json in the folder.
            ValueError: The folder holds another kind of model, its weights are damaged or incomplete, or its settings
                are out of range.
        """
        directory = Path(directory)
        if not (directory / "config.json").is_file():
            raise FileNotFoundError(f"There is no vision encoder in {directory.name}: config.json is missing.")
        check_config(directory / "config.json")
        model = _opened(directory, dtype or torch.float32)
        num_layers = model.config.num_hidden_layers
        path = directory / SETTINGS
        settings = read_json(path) if path.is_file() else {}
        levels = settings.get("m2chat_levels", default_levels(num_layers))
        if not isinstance(levels, (list, tuple)) or not all(is_whole(level, 0, num_layers) for level in levels):
            raise ValueError(
                f"{directory.name}/{SETTINGS} has the m2chat_levels {shown(levels)}: give 0 to {num_layers}."
            )
        statistics = {"mean": settings.get("image_mean"), "std": settings.get("image_std")}
        for name, values in statistics.items():
            valid = isinstance(values, list) and len(values) == 3 and all(is_number(v, -1e6, 1e6) for v in values)
            if values and not valid:
                raise ValueError(f"{directory.name}/{SETTINGS} has the {name} {shown(values)}: give three numbers.")
        model.to(device)  # type: ignore[arg-type]  # a wrapped method, whose `self` the stubs count as an argument
        return cls(model, levels, **{name: values for name, values in statistics.items() if values})

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a folder that `from_pretrained` opens."""
        self.model.save_pretrained(directory)
        settings = {"image_mean": self.mean, "image_std": self.std, "m2chat_levels": self.levels}
        (Path(directory) / SETTINGS).write_text(json.dumps(settings, indent=2), "utf-8")

    def encode(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Return the features of B pictures.

        Args:
            images: Pictures [H, W, 3] in 0..1, of any sizes. Each is cropped to its central square and resized to
                `image_size` by averaging areas.

        Raises:
            ValueError: There are no pictures.
        """
        states = self.model(pixel_values=self._batch(images), output_hidden_states=True).hidden_states
        side = self.image_size // self.model.config.patch_size
        # The patches come last: CLIP has a class token before them, SigLIP has none.
        levels = torch.stack([states[index][:, -side * side :] for index in self.levels], dim=1)
        grid = levels[:, -1].transpose(1, 2).unflatten(-1, (side, side))
        return VisionFeatures(levels, functional.adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2))

    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Return the pooled state [B, D] of pictures as `encode` takes them, for an IP-Adapter of the kind base.

        It replaces CLIP's image embedding, because the vision encoder has no projection.
        """
        return self.model(pixel_values=self._batch(images)).pooler_output

    def _batch(self, images: Sequence[Tensor]) -> Tensor:
        if not images:
            raise ValueError("The vision encoder needs at least one picture.")
        batch = torch.cat([self._prepared(image) for image in images])
        return batch.to(self.model.device, self.model.dtype)

    def _prepared(self, image: Tensor) -> Tensor:
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
        if side != self.image_size:
            square = functional.interpolate(square, self.image_size, mode="area")
        mean, std = (square.new_tensor(value)[:, None, None] for value in (self.mean, self.std))
        return (square - mean) / std


def _opened(directory: Path, dtype: torch.dtype) -> CLIPVisionModel:
    """Return the vision model in a folder, with all its weights.

    Raises:
        ValueError: The folder holds another kind of model, or its weights are damaged or incomplete. Transformers
            itself would make up the weights that it does not find.
    """
    import huggingface_hub.errors
    from safetensors import SafetensorError
    from transformers import CLIPVisionModel

    name = directory.name
    kind = read_json(directory / "config.json").get("model_type")
    if kind not in KINDS:
        raise ValueError(f"{name} holds a model of the kind {shown(kind)}: choose the folder of a CLIP vision model.")
    strict: type[Exception] = getattr(huggingface_hub.errors, "StrictDataclassError", ValueError)
    damaged = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError)
    try:
        model, info = CLIPVisionModel.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except (*damaged, SafetensorError, pickle.UnpicklingError, strict) as error:
        reason = " ".join(str(error).replace(f"{directory.parent}/", "").split()).split(". ")[0][:200].rstrip(".:")
        raise ValueError(
            f"{name} cannot be opened as a CLIP vision model ({reason or type(error).__name__}): get its files again."
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))  # which are only counted
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{name} lacks {missing[0]}{more}: get its files of weights again.")
    return model
