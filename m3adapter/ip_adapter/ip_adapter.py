"""IP-Adapter: published weights that let an SDXL model attend to pictures (arXiv 2308.06721), as the low-level path.

Every cross-attention of the UNet gets a second pair of keys and values, made of a few tokens of a picture:

    Z = Attention(Q, K_text, V_text) + strength * Attention(Q, K_image, V_image)

Two kinds are supported. `base` makes its tokens of the image embedding of a CLIP vision model, by a linear layer;
`plus` (and plus-face, which differs only in its training data) of all its penultimate hidden states, by a resampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.tensors import read_foreign
from .config import IPAdapterConfig
from .files import IMAGE_PROJ, layer_name, published_projection, read_config

FILE_NAME = "ip_adapter.safetensors"  # in a folder
BASE_TOKENS = 4  # of a new one; the shapes in a file tell its own number


class IPAdapter(nn.Module):
    """The weights: a projection of pictures to tokens, and keys and values of the tokens for every cross-attention.

    Args:
        config: Its sizes.
        image_proj: diffusers' `ImageProjection` (base) or `IPAdapterPlusImageProjection` (plus). It runs once per
            picture, and in float32.
        operations: Where the layers for keys and values come from: `torch.nn`, or ComfyUI's operations.
        device: Of those layers.
        dtype: Of those layers.
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
        factory_kwargs = {"device": device, "dtype": dtype}
        self.to_k, self.to_v = (
            nn.ModuleList(
                operations.Linear(config.embed_width, width, bias=False, **factory_kwargs)
                for width in config.layer_widths
            )
            for _ in range(2)
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        operations: ModuleType | Any = torch.nn,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> IPAdapter:
        """Open an IP-Adapter.

        Args:
            path: A .safetensors file, a .bin of the release, or a folder that `save_pretrained` wrote.
            operations: As for the class.
            device: Where to put the weights.
            dtype: Type of the layers for keys and values; by default as stored.

        Raises:
            ValueError: The file is damaged (CheckpointError) or incomplete, or it is another kind of model, FaceID, or
                an IP-Adapter for another decoder.
        """
        from diffusers.loaders.unet import UNet2DConditionLoadersMixin

        path = Path(path)
        if path.is_dir():
            path = path / FILE_NAME
        tensors, _ = read_foreign(path)
        config = read_config(path.name, {name: tuple(value.shape) for name, value in tensors.items()})
        projection = {
            name.removeprefix(IMAGE_PROJ): value for name, value in tensors.items() if name.startswith(IMAGE_PROJ)
        }
        convert: Any = UNet2DConditionLoadersMixin._convert_ip_adapter_image_proj_to_diffusers
        try:
            image_proj = convert(None, projection, low_cpu_mem_usage=False)
        except (KeyError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise ValueError(
                f"{path.name} is incomplete: its image projection lacks weights, so get it again."
            ) from error
        dtype = dtype or tensors[layer_name(0, "k")].dtype
        adapter = cls(config, image_proj, operations=operations, device=device, dtype=dtype)
        state = {f"{IMAGE_PROJ}{name}": value for name, value in adapter.image_proj.state_dict().items()}
        for layer in range(len(config.layer_widths)):
            for which in "kv":
                # Not converted by the layers: ComfyUI's keep weights as they are given on some machines.
                state[f"to_{which}.{layer}.weight"] = tensors[layer_name(layer, which)].to(device, dtype)
        adapter.load_state_dict(state)
        return adapter.eval().requires_grad_(False)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the weights under the names of the release, so that other programs open them too.

        Args:
            path: A .safetensors file, which is replaced only by a complete one, or a folder.
        """
        from safetensors.torch import save_file

        path = Path(path)
        if path.suffix != ".safetensors":
            path.mkdir(parents=True, exist_ok=True)
            path = path / FILE_NAME
        part = path.with_suffix(".part")
        save_file({name: value.cpu() for name, value in self.published().items()}, part)
        part.replace(path)

    def encode(self, features: Tensor) -> Tensor:
        """Return tokens [B, T, D] of a vision encoder's features of B pictures.

        Args:
            features: Image embeddings [B, W] for the kind base, penultimate hidden states [B, N, W] for plus. To
                encode the absence of a picture, base takes zeros, plus the hidden states of a picture of zeros.

        Raises:
            ValueError: The features have another width.
        """
        self.config.check_image_width(features.shape[-1])
        weight = next(self.image_proj.parameters())
        return self.image_proj(features.to(weight.device, weight.dtype))

    def keys_and_values(self, tokens: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, T, width] of tokens [B, T, D] for one cross-attention."""
        return self.to_k[layer](tokens), self.to_v[layer](tokens)

    def check_layers(self, widths: Sequence[int], embed_width: int) -> None:
        """Raise ValueError unless the cross-attentions of a decoder are those that the adapter was made for."""
        if (tuple(widths), embed_width) != (self.config.layer_widths, self.config.embed_width):
            raise ValueError(
                f"The IP-Adapter was made for {len(self.config.layer_widths)} cross-attentions on embeddings "
                f"{self.config.embed_width} wide, and the diffusion model has {len(widths)} on {embed_width}: use it "
                "with the kind of model that it was trained for."
            )

    def published(self) -> dict[str, Tensor]:
        """Return the weights by the names that the release gives them."""
        weights = dict(published_projection(self.config.kind, self.image_proj.state_dict()))
        for which, layers in (("k", self.to_k), ("v", self.to_v)):
            state = layers.state_dict()
            weights |= {layer_name(layer, which): state[f"{layer}.weight"] for layer in range(len(layers))}
        return {name: value.detach().contiguous() for name, value in weights.items()}


def load_ip_adapter(
    path: str | Path,
    *,
    operations: ModuleType | Any = torch.nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> IPAdapter:
    """Open an IP-Adapter, as `IPAdapter.from_pretrained`."""
    return IPAdapter.from_pretrained(path, operations=operations, device=device, dtype=dtype)


def new_base(image_width: int, embed_width: int, layer_widths: Sequence[int]) -> IPAdapter:
    """Return an untrained IP-Adapter of the kind base, initialised as the release does it."""
    from diffusers.models.embeddings import ImageProjection

    config = IPAdapterConfig("base", image_width, BASE_TOKENS, embed_width, tuple(layer_widths))
    return IPAdapter(config, ImageProjection(image_width, embed_width, BASE_TOKENS))


def cross_attentions(unet: Any) -> dict[str, int]:
    """Return names and widths of a diffusers UNet's cross-attentions, in the order of the release's files."""
    modules = dict(unet.named_modules())
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    return {name: modules[name].inner_dim for name in names}
