"""The networks that evaluators look with, from local folders: nothing is downloaded, and no code of a model is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import UserError
from ..conversation.pictures import to_pil
from ..conversation.segments import Picture
from ..values import label
from ..weights.model_files import check_whole, read_json

BATCH = 16
KEPT = 2**16  # features of pictures of the data that are kept


class Embedder:
    """A network that gives pictures features, with the preprocessing that lies in its folder.

    Attributes:
        name: The name of its folder.

    Args:
        folder: A vision model in transformers' layout: CLIP, SigLIP, DINO, DINOv2, ViT, ConvNeXt, ResNet.
        device: Where it runs.

    Raises:
        UserError: There is no such model in the folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.name, self.device = folder.name, device
        check_folder(folder, "preprocessor_config.json")
        with _opening(folder):
            self.processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=False
            )
            self.model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        self.model.eval().requires_grad_(False).to(device)
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def embed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Return the features [N, D] of pictures [H, W, 3] in 0..1, float32 on the CPU."""
        return torch.cat([self._pooled(part) for part in _batches(pictures)])

    def known(self, pictures: Sequence[Picture]) -> Tensor:
        """Return the features [N, D] of pictures of the data, each of which is looked at once."""
        if len(self._known) > KEPT:
            self._known.clear()
        new = {picture.digest: picture for picture in pictures if picture.digest not in self._known}
        found = dict(self._known)
        for keys in (list(new)[start : start + BATCH] for start in range(0, len(new), BATCH)):
            found |= zip(keys, self.embed([new[key].pixels for key in keys]), strict=True)
        self._known = found
        return torch.stack([found[picture.digest] for picture in pictures])

    def _pixels(self, pictures: Sequence[Tensor]) -> Tensor:
        images = [to_pil(picture) for picture in pictures]
        return self.processor(images=images, return_tensors="pt")["pixel_values"].to(self.device)

    def _pooled(self, pictures: Sequence[Tensor]) -> Tensor:
        """Return the class token of a transformer, or the mean over all places of other networks."""
        values = self._pixels(pictures)
        if hasattr(self.model, "get_image_features"):
            return _tensor(self.model.get_image_features(pixel_values=values))
        states = self.model(pixel_values=values).last_hidden_state
        return (states[:, 0] if states.ndim == 3 else states.mean((2, 3))).float().cpu()


class TextEmbedder(Embedder):
    """CLIP or SigLIP, which give pictures and texts features in one space.

    Attributes:
        scale: What cosine similarities are multiplied with where the network compares them; about 100 for CLIP.

    Raises:
        UserError: There is no such model in the folder.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        super().__init__(folder, device)
        if not hasattr(self.model, "get_text_features"):
            raise UserError(f"{folder.name} holds no CLIP, which knows texts as well as pictures: give its folder.")
        with _opening(folder):
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.scale = float(self.model.logit_scale.exp())
        self.length = int(self.model.config.text_config.max_position_embeddings)
        self._lower = self.model.config.model_type.startswith("siglip")  # was trained with padding to the full length

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the features [N, D] of texts, float32 on the CPU; what is too long for the network is cut."""
        return torch.cat([self._texts(part) for part in _batches(texts)])

    def _texts(self, texts: Sequence[str]) -> Tensor:
        padding = "max_length" if self._lower else True
        words = self.tokenizer(
            list(texts), padding=padding, truncation=True, max_length=self.length, return_tensors="pt"
        )
        given = {name: words[name].to(self.device) for name in ("input_ids", "attention_mask") if name in words}
        return _tensor(self.model.get_text_features(**given))


class Perceptual:
    """LPIPS with a backbone from a local file; the small layers above it come with the package `lpips`.

    Args:
        path: The weights of torchvision's AlexNet, VGG16 or SqueezeNet 1.1, as .safetensors or .pth.
        device: Where it runs.

    Raises:
        UserError: The file is not one of them, or the package is missing.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        weights = _backbone(path)
        kind = _kind_of(weights, path)
        self.name, self.device = f"{kind} of {path.name}", device
        self.model = _lpips(kind)
        state = self.model.net.state_dict()
        layers = {name: f"features.{name.split('.', 1)[1]}" for name in state}
        for name, other in layers.items():
            if getattr(weights.get(other), "shape", None) != state[name].shape:
                raise UserError(f"{label(path)} lacks the layer {other}: give the whole file of torchvision.")
        self.model.net.load_state_dict({name: weights[other].float() for name, other in layers.items()})
        self.model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def distance(self, painted: Tensor, other: Tensor) -> float:
        """Return LPIPS of two pictures [H, W, 3] in 0..1; the second is scaled to the size of the first."""
        first, second = (picture.permute(2, 0, 1)[None].float().to(self.device) for picture in (painted, other))
        if first.shape != second.shape:
            second = torch.nn.functional.interpolate(
                second, first.shape[2:], mode="bilinear", antialias=True, align_corners=False
            ).clamp(0, 1)
        return float(self.model(first, second, normalize=True))


def check_folder(folder: Path, *names: str) -> None:
    """Raise UserError unless a folder holds the files of a model of transformers."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give the local folder of a model; nothing is downloaded.")
    for name in ("config.json", *names):
        if not (folder / name).is_file():
            raise UserError(f"{folder.name} has no {name}: give the folder of a whole model, as transformers saves it.")
        with _opening(folder):
            read_json(folder / name)


def _lpips(kind: str) -> Any:
    import warnings

    try:
        import lpips
    except ImportError as error:
        raise UserError(
            f"LPIPS needs the Python package {error.name}: install it with `pip install lpips torchvision`."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision as older releases wanted it
        with torch.random.fork_rng(devices=[]):
            return lpips.LPIPS(net=kind, pnet_rand=True, verbose=False)


def _backbone(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"There is no file {path}: give the weights of AlexNet, VGG16 or SqueezeNet; none are downloaded."
        )
    try:
        check_whole(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise UserError(f"{label(path)} holds no weights that can be read: get the file again.") from error
    return weights if isinstance(weights, dict) else {}


def _kind_of(weights: dict[str, Tensor], path: Path) -> str:
    first = weights.get("features.0.weight")
    if isinstance(first, Tensor):
        if tuple(first.shape) == (64, 3, 11, 11):
            return "alex"
        if "features.3.squeeze.weight" in weights:
            return "squeeze"
        if "features.28.weight" in weights:
            return "vgg"
    raise UserError(f"{label(path)} is no AlexNet, VGG16 or SqueezeNet 1.1 of torchvision: give one of their files.")


def _tensor(output: Any) -> Tensor:
    return getattr(output, "pooler_output", output).float().cpu()


def _batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), BATCH):
        yield [values[index] for index in range(start, min(start + BATCH, len(values)))]


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """Turn what transformers raises for a folder that it cannot read into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it raises many kinds
        said = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".:")
        raise UserError(f"The model in {folder.name} cannot be opened: {said}.") from error
