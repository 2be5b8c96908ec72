"""Small models of ComfyUI's own classes that read reference latents, with random weights: MODEL, CLIP and VAE.

To be imported inside a ComfyUI process only. In a server of the tests, where this file is linked into `custom_nodes`,
it is also a node, Toy Painter, that stands in for the loaders of models that are too large for a test.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import comfy.controlnet
import comfy.ldm.wan.vae
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor, nn

WORDS = 12  # width of a toy's text embeddings
HEAD = {"axes_dim": [4, 6, 6], "hidden_size": 32, "num_heads": 2, "context_in_dim": WORDS, "mlp_ratio": 2.0}
FLUX = {
    **HEAD, "in_channels": 16, "out_channels": 16, "vec_in_dim": WORDS, "depth": 2, "depth_single_blocks": 2,
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
KLEIN = {
    **HEAD, "axes_dim": [4, 4, 4, 4], "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "depth": 2,
    "depth_single_blocks": 2, "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": False,
    "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0,
}  # fmt: skip
QWEN = {
    "in_channels": 64, "out_channels": 16, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": WORDS, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
LUMINA = {
    "in_channels": 16, "dim": 32, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [4, 6, 6], "cap_feat_dim": WORDS,
    "n_layers": 2, "n_refiner_layers": 1, "qk_norm": True, "multiple_of": 8, "ffn_dim_multiplier": 0.5,
    "pad_tokens_multiple": 4,
}  # fmt: skip
Z_IMAGE = {  # its modulation is 256 wide, whatever the model's width
    **LUMINA, "dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "rope_theta": 256.0, "z_image_modulation": True,
    "time_scale": 1000.0,
}  # fmt: skip
OMNIGEN = {
    "hidden_size": 32, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2, "num_kv_heads": 1,
    "multiple_of": 8, "axes_dim_rope": (4, 6, 6), "timestep_scale": 1000.0,
}  # fmt: skip
KREA = {
    "features": 32, "tdim": 16, "txtdim": WORDS // 2, "heads": 2, "kvheads": 1, "multiplier": 2, "layers": 2,
    "txtlayers": 2, "txtheads": 1, "txtkvheads": 1,
}  # fmt: skip
JOY = {
    "patch_size": [1, 2, 2], "in_channels": 16, "hidden_size": 32, "num_attention_heads": 2, "text_dim": WORDS,
    "num_layers": 2, "rope_dim_list": [4, 6, 6], "theta": 10000,
}  # fmt: skip
MAGE = {
    "in_channels": 128, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": WORDS, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip


class Family(NamedTuple):
    """How a family of models is made.

    Attributes:
        kind: Name of its class in `comfy.supported_models`.
        config: Its sizes.
        vae: Makes its VAE.
        masked: Whether its text encoder also gives a mask of tokens, which the model needs.
        method: The value of `reference_latents_method` without which the model does not look at references.
    """

    kind: str
    config: dict[str, Any]
    vae: Callable[[], comfy.sd.VAE]
    masked: bool = False
    method: str | None = None


class Toy(NamedTuple):
    """A painter: what the stock loaders would give."""

    family: str
    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


def fill(module: nn.Module, seed: int) -> None:
    """Give a module, which stock layers leave uninitialised, weights by a seed."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in [*module.named_parameters(), *module.named_buffers()]:
            if not weight.is_floating_point() or not weight.numel():
                continue
            noise = torch.randn(weight.shape, generator=source)
            if weight.dim() > 1 and "modulate_table" not in name:
                weight.copy_(noise * (weight[0].numel() ** -0.5))
            elif re.search(r"norm.*(weight|scale)$|gamma$|running_var$", name):
                weight.copy_(1 + 0.1 * noise)
            else:
                weight.copy_(0.1 * noise)


def _kl(channels: int, levels: int, batch_norm: bool = False) -> comfy.sd.VAE:
    layout = {
        "double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1] * levels, "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
        **({"batch_norm_latent": True} if batch_norm else {}),
    }  # fmt: skip
    params = {"ddconfig": layout, "embed_dim": channels}
    made = AutoencoderKL(**params)
    fill(made, 5)
    vae = comfy.sd.VAE(sd=made.state_dict(), config={"params": params})
    vae.latent_channels = channels
    if batch_norm:  # puts squares of four places into channels
        vae.latent_channels, vae.downscale_ratio, vae.upscale_ratio = channels * 4, 16, 16
    return vae


def _wan() -> comfy.sd.VAE:
    made = comfy.ldm.wan.vae.WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    fill(made, 5)
    return comfy.sd.VAE(sd=made.state_dict())


FAMILIES: dict[str, Family] = {
    "flux_kontext": Family("Flux", {"image_model": "flux", **FLUX}, lambda: _kl(16, 4)),
    "flux2_klein": Family("Flux2", {"image_model": "flux2", **KLEIN}, lambda: _kl(32, 4, batch_norm=True)),
    "longcat": Family(
        "LongCatImage",
        {"image_model": "flux", **FLUX, "vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [1, 2]},
        lambda: _kl(16, 4),
    ),
    "qwen_edit": Family("QwenImage", QWEN, _wan),
    "qwen_edit_2511": Family("QwenImage", {**QWEN, "default_ref_method": "index_timestep_zero"}, _wan),
    "lumina2": Family("Lumina2", LUMINA, lambda: _kl(16, 4), masked=True),
    "z_image": Family("ZImage", Z_IMAGE, lambda: _kl(16, 4), masked=True),
    "z_image_omni": Family("ZImage", {**Z_IMAGE, "siglip_feat_dim": 8}, lambda: _kl(16, 4), masked=True),
    "omnigen2": Family("Omnigen2", {**OMNIGEN, "text_feat_dim": WORDS}, lambda: _kl(16, 4), masked=True),
    "boogu": Family(
        "Boogu",
        {**OMNIGEN, "instruction_feat_dim": WORDS, "num_double_stream_layers": 1},
        lambda: _kl(16, 4),
        masked=True,
    ),
    "krea2": Family("Krea2", KREA, _wan, method="index_timestep_zero"),
    "joyimage": Family("JoyImage", JOY, _wan),
    "mage_flow": Family("MageFlow", MAGE, lambda: _kl(32, 4, batch_norm=True)),
}


def painter(family: str, seed: int = 3, **sizes: Any) -> Toy:
    """Make a toy of a family; `sizes` change its configuration."""
    made = FAMILIES[family]
    return Toy(family, model(family, seed, **sizes), clip(made.masked), made.vae())


def model(family: str, seed: int = 3, **sizes: Any) -> comfy.model_patcher.ModelPatcher:
    """Make the MODEL of a family."""
    made = FAMILIES[family]
    config = getattr(comfy.supported_models, made.kind)({**made.config, **sizes})
    config.unet_config.update({**made.config, **sizes})  # over what the class has by itself
    config.set_inference_dtype(torch.float32, None)
    inner = config.get_model({})
    inner.diffusion_model.dtype = torch.float32
    inner.diffusion_model.float()
    fill(inner.diffusion_model, seed)
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    device = comfy.model_management.get_torch_device()
    return patcher(inner, load_device=device, offload_device=comfy.model_management.unet_offload_device())


class _Encoder(nn.Module):
    """Encodes words by their spelling, and pictures by their mean colours, each knowing a little of the others."""

    def __init__(self, masked: bool, dtype: Any, device: Any, model_options: Any) -> None:
        super().__init__()
        self.dtypes, self.masked = {torch.float32}, masked
        self.words, self.colours = nn.Embedding(512, WORDS), nn.Linear(3, WORDS)
        fill(self, 7)

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Take the engine's options, of which none matters here."""

    def reset_clip_options(self) -> None:
        """Forget them."""

    def load_sd(self, weights: dict[str, Tensor]) -> Any:
        """Load weights."""
        return self.load_state_dict(weights, strict=False)

    def encode_token_weights(self, tokens: dict[str, list[list[tuple[Any, float]]]]) -> tuple[Any, ...]:
        """Return embeddings [1, T, WORDS], their mean, and the mask of tokens if the model needs one."""
        place = self.words.weight
        rows = [
            self.colours(token.to(place)) if torch.is_tensor(token) else 3 * place[token]
            for token, *_ in tokens["toy"][0]
        ]
        states = torch.stack(rows)
        states = (states + 0.3 * states.mean(0)).tanh()[None]
        extra = {"attention_mask": torch.ones(1, states.shape[1], dtype=torch.long)}
        return states, states.mean(1), extra if self.masked else {}


class _Tokenizer:
    """Splits at spaces; pictures come first."""

    def __init__(self, **_: Any) -> None:
        pass

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, images: Sequence[Tensor] = (), **_: Any
    ) -> dict[str, Any]:
        """Return the tokens of a text."""
        words = re.findall(r"\w+", text.lower()) or [""]
        ids = [zlib.crc32(word.encode()) % 512 for word in words]
        return {"toy": [[*((image.mean((0, 1, 2)), 1.0) for image in images), *((each, 1.0) for each in ids)]]}

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}


def clip(masked: bool = False) -> comfy.sd.CLIP:
    """Make a CLIP with a text encoder of 512 words."""

    class Target:
        params = {"masked": masked}
        clip = _Encoder
        tokenizer = _Tokenizer

    return comfy.sd.CLIP(Target)


def prompt(
    toy: Toy, text: str, references: Sequence[Tensor] = (), *, method: str | None = None, **more: Any
) -> list[list[Any]]:
    """Encode a caption, and give it reference latents, as CLIP Text Encode and ReferenceLatent do."""
    ((states, extra),) = toy.clip.encode_from_tokens_scheduled(toy.clip.tokenize(text))
    extra = {**extra, **more}
    if references:
        extra["reference_latents"] = list(references)
        if method := method or FAMILIES[toy.family].method:
            extra["reference_latents_method"] = method
    return [[states, extra]]


def noise_like(toy: Toy, height: int = 4, width: int = 4, batch: int = 1, seed: int = 0) -> Tensor:
    """Return a latent of a toy's shape, `height` and `width` in places of the latent."""
    form = toy.model.get_model_object("latent_format")
    shape = (batch, form.latent_channels, *[1] * (form.latent_dimensions - 2), height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sample(
    model: comfy.model_patcher.ModelPatcher,
    positive: list[list[Any]],
    negative: list[list[Any]] | None = None,
    *,
    latent: Tensor,
    seed: int = 0,
    steps: int = 2,
    cfg: float = 1.0,
) -> Tensor:
    """Sample by Euler's method, from the latent's shape alone."""
    start = comfy.sample.fix_empty_latent_channels(model, torch.zeros_like(latent))
    noise = comfy.sample.prepare_noise(start, seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", "simple", positive, negative or positive, start, seed=seed, disable_pbar=True
    )


class ToyPainter:
    """The node of the tests' servers."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Describe its only input."""
        return {"required": {"family": (list(FAMILIES),)}}

    def make(self, family: str) -> tuple[Any, ...]:
        """Make the toy."""
        return painter(family)[1:]


class ToyControl(comfy.controlnet.ControlBase):
    """A ControlNet for UNets that adds the mean of its picture to what is in their middle."""

    def copy(self) -> ToyControl:
        """Return a copy."""
        copied = ToyControl()
        self.copy_to(copied)
        return copied

    def get_control(self, x_noisy: Tensor, *given: Any) -> dict[str, list[Tensor]]:
        """Return what to add."""
        added = torch.full((1, 1, 1, 1), self.strength * float(self.cond_hint_original.mean()))
        return {"middle": [added.to(x_noisy)], "input": [], "output": []}


class ToyControlNet:
    """The node that loads it."""

    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Describe its inputs, of which there are none."""
        return {"required": {}}

    def make(self) -> tuple[Any, ...]:
        """Make the toy."""
        return (ToyControl(),)


NODE_CLASS_MAPPINGS = {"ToyPainter": ToyPainter, "ToyControlNet": ToyControlNet}
