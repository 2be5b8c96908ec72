"""IP-Adapter: published weights that let an SDXL model look at pictures (arXiv 2308.06721), as the low-level path.

Every cross-attention of the UNet gets a second pair of keys and values, made of a few tokens of a picture:

    Z = Attention(Q, K_text, V_text) + strength * Attention(Q, K_image, V_image)

Two kinds are known. `base` makes its tokens of the image embedding of a CLIP vision model, by a linear layer; `plus`
(and plus-face, which only its training tells apart) of all its penultimate hidden states, by a resampler. A file is
told by the names and shapes in it, never by its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..weights.counting import MAX_SIZE
from ..weights.layouts import Shapes, recognise, shapes
from ..weights.tensors import read_foreign

BASE_TOKENS = 4  # of a new one; what a file makes, its shapes say
ENCODERS = {1024: "CLIP ViT-H", 1280: "CLIP ViT-bigG"}  # that give image embeddings of this width
DEEP = {1280: "CLIP ViT-H", 1664: "CLIP ViT-bigG"}  # that have hidden states of this width
CURE = "choose an IP-Adapter for SDXL, of the kinds base, plus or plus-face"


@dataclass(frozen=True)
class IPAdapterConfig:
    """What the shapes in a file say.

    Attributes:
        kind: "base" sees the image embedding [D], "plus" the penultimate hidden states [N, D].
        image_width: D, the width of what it is shown.
        tokens: How many tokens it makes of a picture.
        embed_width: Their width, which is that of the decoder's prompt embeddings.
        layers: Width of each cross-attention that it feeds, in diffusers' order: down, up, middle.
    """

    kind: Literal["base", "plus"]
    image_width: int
    tokens: int
    embed_width: int
    layers: tuple[int, ...]

    def describe(self) -> str:
        """What it is, in one sentence."""
        return (
            f"IP-Adapter of the kind {self.kind}, {self.tokens} tokens {self.embed_width} wide "
            f"for {len(self.layers)} layers; it wants {self.encoder()}."
        )

    def encoder(self) -> str:
        """The vision encoder that it needs."""
        known = (ENCODERS if self.kind == "base" else DEEP).get(self.image_width)
        what = "image embeddings" if self.kind == "base" else "hidden states"
        return f"{known} ({what} {self.image_width} wide)" if known else f"{what} {self.image_width} wide"

    def check_image_width(self, found: int) -> None:
        """Raises ValueError, one sentence, for a vision encoder that gives another width."""
        if found != self.image_width:
            raise ValueError(
                f"The vision encoder is the wrong one for this IP-Adapter: it gives features {found} wide, and the "
                f"kind {self.kind} here wants {self.encoder()}."
            )


class IPAdapter(nn.Module):
    """The weights: a projection of pictures to tokens, and keys and values of the tokens for every cross-attention.

    Args:
        config: Its sizes.
        image_proj: diffusers' `ImageProjection` (base) or `IPAdapterPlusImageProjection` (plus). It works once for a
            picture, and in float32.
        operations, device, dtype: Of the layers that make keys and values.
    """

    def __init__(
        self,
        config: IPAdapterConfig,
        image_proj: nn.Module,
        *,
        operations: ModuleType | Any = torch.nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_proj = image_proj.to(device, torch.float32)
        how = {"bias": False, "device": device, "dtype": dtype}
        self.to_k = nn.ModuleList(operations.Linear(config.embed_width, width, **how) for width in config.layers)
        self.to_v = nn.ModuleList(operations.Linear(config.embed_width, width, **how) for width in config.layers)

    def tokens(self, features: Tensor) -> Tensor:
        """Tokens [B, T, D] of what a vision encoder says of B pictures.

        Args:
            features: Image embeddings [B, W] for the kind base, penultimate hidden states [B, N, W] for plus. Where
                there is no picture, base is given zeros, plus what the encoder says of pixels that are all zero.

        Raises:
            ValueError: They are of another width.
        """
        self.config.check_image_width(features.shape[-1])
        weight = next(self.image_proj.parameters())
        return self.image_proj(features.to(weight.device, weight.dtype))

    def keys_and_values(self, tokens: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, T, width] of tokens [B, T, D] for one cross-attention."""
        return self.to_k[layer](tokens), self.to_v[layer](tokens)

    def check_layers(self, widths: Sequence[int], embed_width: int) -> None:
        """Raises ValueError, one sentence, for a decoder whose cross-attentions are others."""
        if (tuple(widths), embed_width) != (self.config.layers, self.config.embed_width):
            raise ValueError(
                f"The IP-Adapter was made for {len(self.config.layers)} cross-attentions on embeddings "
                f"{self.config.embed_width} wide, and the diffusion model has {len(widths)} on {embed_width}: use it "
                "with the kind of model that it was trained for."
            )

    def published(self) -> dict[str, Tensor]:
        """The weights of the kind base by the names that the release gives them. Raises ValueError for plus."""
        if self.config.kind != "base":
            raise ValueError("Only IP-Adapters of the kind base are written.")
        found = {
            f"image_proj.{name.replace('image_embeds', 'proj')}": value
            for name, value in self.image_proj.state_dict().items()
        }
        for number, (key, value) in enumerate(zip(self.to_k, self.to_v, strict=True)):
            found[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = key.weight
            found[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = value.weight
        return {name: value.detach().contiguous() for name, value in found.items()}


def new_base(image_width: int, embed_width: int, layers: Sequence[int]) -> IPAdapter:
    """An untrained IP-Adapter of the kind base, as the release begins one."""
    from diffusers.models.embeddings import ImageProjection

    config = IPAdapterConfig("base", image_width, BASE_TOKENS, embed_width, tuple(layers))
    return IPAdapter(config, ImageProjection(image_width, embed_width, BASE_TOKENS))


def cross_attentions(unet: Any) -> dict[str, int]:
    """Names and widths of a diffusers UNet's cross-attentions, in the order in which published files count them."""
    modules = dict(unet.named_modules())
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    return {name: modules[name].inner_dim for name in names}


def check_file(path: Path) -> None:
    """Raises ValueError or OSError, one sentence, unless it is a known IP-Adapter. Pickles are only looked at later."""
    if path.suffix.lower() == ".safetensors":
        read_config(path.name, shapes(path))


def load_ip_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> IPAdapter:
    """The IP-Adapter in a .safetensors file, or in a .bin of the release; `dtype` None leaves its layers as stored.

    Raises ValueError (CheckpointError for damaged files), one sentence: another kind of model, FaceID, another
    decoder's.
    """
    from diffusers.loaders.unet import UNet2DConditionLoadersMixin as Loaders

    path = Path(path)
    tensors, _ = read_foreign(path)
    config = read_config(path.name, {name: tuple(value.shape) for name, value in tensors.items()})
    projection = {
        name.removeprefix("image_proj."): value for name, value in tensors.items() if name.startswith("image_proj.")
    }
    try:
        image_proj = Loaders._convert_ip_adapter_image_proj_to_diffusers(None, projection, low_cpu_mem_usage=False)
    except (KeyError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{path.name} is not whole: its image projection lacks weights, so get it again.") from error
    stored = tensors["ip_adapter.1.to_k_ip.weight"].dtype
    dtype = dtype or stored
    adapter = IPAdapter(config, image_proj, operations=operations, device=device, dtype=dtype)
    state = {f"image_proj.{name}": value for name, value in adapter.image_proj.state_dict().items()}
    for number in range(len(config.layers)):
        for which in "kv":
            weight = tensors[f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight"]
            # Not left to the layers: ComfyUI's take weights as they are given on some machines.
            state[f"to_{which}.{number}.weight"] = weight.to(device, dtype)
    adapter.load_state_dict(state)
    return adapter.eval().requires_grad_(False)


def read_config(name: str, found: Shapes) -> IPAdapterConfig:
    """What a file of weights of these shapes is; `name` is for the errors. Raises ValueError, one sentence."""
    projection = {key.removeprefix("image_proj."): shape for key, shape in found.items() if key.startswith("image_p")}
    if not any(key.endswith("to_k_ip.weight") for key in found) or not projection:
        raise ValueError(f"{name} is {_other(found)}: {CURE}.")
    if "proj.0.weight" in projection or any("lora" in key for key in found):
        full = "proj.3.weight" in projection
        noun = "an IP-Adapter of the kind full-face" if full else "a FaceID IP-Adapter, which needs a face recogniser"
        raise ValueError(f"{name} is {noun}: {CURE}.")
    keys = {
        int(match[1]): shape
        for key, shape in found.items()
        if (match := re.fullmatch(r"ip_adapter\.([0-9]{1,4})\.to_k_ip\.weight", key))
    }
    used = [shape for key, shape in found.items() if key.endswith(("to_k_ip.weight", "to_v_ip.weight"))]
    used += [projection[key] for key in ("proj.weight", "proj_in.weight", "proj_out.weight") if key in projection]
    if not keys or any(len(shape) != 2 or not all(0 < size <= MAX_SIZE for size in shape) for shape in used):
        raise ValueError(f"{name} is not whole: its weights are of impossible sizes, so get it again.")
    embed_width = next(iter(keys.values()))[1]
    if len(keys) == 16 and embed_width in (768, 1024):
        raise ValueError(f"{name} is an IP-Adapter for Stable Diffusion {1.5 if embed_width == 768 else 2}: {CURE}.")
    layers = _layers(name, found, keys)
    if "proj.weight" in projection:
        out, image_width = projection["proj.weight"]
        return IPAdapterConfig("base", image_width, out // embed_width, embed_width, layers)
    if "latents" in projection and "proj_in.weight" in projection:
        # What the projection is built from must lie in the file as large as that.
        hidden = projection["proj_in.weight"][0]
        wide = projection.get("layers.0.1.1.weight"), projection["latents"][2:]
        if wide != ((4 * hidden, hidden), (hidden,)):
            raise ValueError(f"{name} is not whole: its image projection does not fit together, so get it again.")
        return IPAdapterConfig("plus", projection["proj_in.weight"][1], projection["latents"][1], embed_width, layers)
    raise ValueError(f"{name} is an IP-Adapter of a kind that is not known here: {CURE}.")


def _layers(name: str, found: Shapes, keys: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """The widths of the layers. Raises ValueError where one of them is missing."""
    wanted = range(1, 2 * len(keys), 2)
    lost = [f"ip_adapter.{n}.to_{w}_ip.weight" for n in wanted for w in "kv"]
    lost = [key for key in lost if key not in found]
    if lost:
        raise ValueError(f"{name} is not whole: it lacks {lost[0]}, so get it again.")
    return tuple(keys[number][0] for number in wanted)


def _other(found: Shapes) -> str:
    noun = recognise(found)
    return "half of an IP-Adapter" if noun == "an IP-Adapter" else noun
