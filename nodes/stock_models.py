"""A diffusers folder of the starter's kind as ComfyUI's own MODEL, CLIP and VAE.

ComfyUI recognises checkpoints by the shapes of the models it knows. The starter has SDXL's layout in other sizes, so
its configuration is read from the folder instead, and the weights take the names that ComfyUI gives them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.utils
import torch

from .memory import offload_device

Config = dict[str, Any]
ATTENTION = "CrossAttn"


def model(folder: Path) -> comfy.model_patcher.ModelPatcher:
    """Return the UNet in `folder`, a decoder in diffusers' layout, as a MODEL."""
    unet, vae, scheduler = (_config(folder / name) for name in ("unet", "vae", "scheduler"))
    config = _Layout(unet_config(unet), vae, v_prediction=scheduler["prediction_type"] == "v_prediction")
    weights = _weights(folder / "unet")
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    size = sum(value.numel() for value in weights.values())
    device = comfy.model_management.get_torch_device()
    kinds = config.supported_inference_dtypes
    dtype = comfy.model_management.unet_dtype(model_params=size, supported_dtypes=kinds)
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, device, kinds))
    built = config.get_model({})
    built.load_model_weights({names[name]: value for name, value in weights.items()})
    # Newer versions of ComfyUI choose the kind of patcher by the machine.
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(built, load_device=device, offload_device=offload_device())


def unet_config(config: Config) -> Config:
    """Return ComfyUI's configuration of a UNet from diffusers' `config`, with any number of levels."""
    widths = config["block_out_channels"]
    levels, blocks = len(widths), config["layers_per_block"]
    depths = config["transformer_layers_per_block"]
    depths = [depths] * levels if isinstance(depths, int) else list(depths)
    depths = [
        depth if kind.startswith(ATTENTION) else 0
        for depth, kind in zip(depths, config["down_block_types"], strict=True)
    ]
    return {
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [blocks] * levels,
        "transformer_depth": [depth for depth in depths for _ in range(blocks)],
        "transformer_depth_output": [depth for depth in depths for _ in range(blocks + 1)],
        "transformer_depth_middle": depths[-1],
        "context_dim": config["cross_attention_dim"],
        "adm_in_channels": config["projection_class_embeddings_input_dim"],
        "num_classes": "sequential",
        "num_head_channels": widths[0] // _first(config["attention_head_dim"]),
        "use_linear_in_transformer": config["use_linear_projection"],
        "use_spatial_transformer": True,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "legacy": False,
    }


def vae(folder: Path) -> comfy.sd.VAE:
    """Return the autoencoder in `folder` as a VAE."""
    config = _config(folder / "vae")
    widths = config["block_out_channels"]
    layout = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"ddconfig": layout, "embed_dim": config["latent_channels"]}
    built = comfy.sd.VAE(sd=_weights(folder / "vae"), config={"params": params})
    built.latent_channels = config["latent_channels"]
    return built


def clip(folder: Path) -> comfy.sd.CLIP:
    """Return both text encoders in `folder` as a CLIP."""
    configs = [_config(folder / name) for name in ("text_encoder", "text_encoder_2")]
    weights = [_weights(folder / name) for name in ("text_encoder", "text_encoder_2")]

    class Target:
        params: Config = {"configs": configs}
        clip = _TextEncoders

        @staticmethod
        def tokenizer(**kwargs: Any) -> _Tokenizers:
            return _Tokenizers(folder, configs, **kwargs)

    size = sum(value.numel() for part in weights for value in part.values())
    return comfy.sd.CLIP(Target, parameters=size, state_dict=weights)


def clip_vision(folder: Path) -> comfy.clip_vision.ClipVisionModel:
    """Return the vision encoder in `folder` as a CLIP_VISION; its image embeds are the pooled state."""
    settings = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    config = _config(folder)
    width = config["hidden_size"]
    normalisation = {name: settings[name] for name in ("image_mean", "image_std")}
    built = comfy.clip_vision.ClipVisionModel({**config, "projection_dim": width, **normalisation})
    built.load_sd({**_weights(folder), "visual_projection.weight": torch.eye(width)})
    return built


class _Layout(comfy.supported_models.SDXL):
    """SDXL in sizes that ComfyUI does not know."""

    def __init__(self, config: Config, vae: Config, *, v_prediction: bool) -> None:
        self.unet_extra_config = {"num_heads": -1, "num_head_channels": config["num_head_channels"]}
        super().__init__(config)
        self.latent_format = comfy.latent_formats.LatentFormat()
        self.latent_format.latent_channels = vae["latent_channels"]
        self.latent_format.scale_factor = vae["scaling_factor"]
        self._v_prediction = v_prediction

    def model_type(self, state_dict: Config, prefix: str = "") -> comfy.model_base.ModelType:
        kinds = comfy.model_base.ModelType
        return kinds.V_PREDICTION if self._v_prediction else kinds.EPS

    def inpaint_model(self) -> bool:
        return False  # ComfyUI takes more than four channels for an inpainting model's


class _TextEncoders(comfy.sdxl_clip.SDXLClipModel):
    """SDXL's pair of text encoders in other sizes."""

    def __init__(
        self, configs: list[Config], device: Any = "cpu", dtype: torch.dtype | None = None, model_options: Any = None
    ) -> None:
        torch.nn.Module.__init__(self)
        for name, config in zip(("clip_l", "clip_g"), configs, strict=True):
            tokens = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
            encoder = comfy.sd1_clip.SDClipModel(
                layer="hidden", layer_idx=-2, max_length=config["max_position_embeddings"], special_tokens=tokens,
                textmodel_json_config=config, layer_norm_hidden_state=False, device=device, dtype=dtype,
                model_options={**(model_options or {}), "model_name": name},
            )  # fmt: skip
            _resize(encoder.transformer, config)
            setattr(self, name, encoder)
        self.dtypes = {dtype}

    def load_sd(self, sd: dict[str, torch.Tensor]) -> Any:
        width = sd["text_model.embeddings.token_embedding.weight"].shape[1]
        encoder = self.clip_l if width == self.clip_l.transformer.text_projection.out_features else self.clip_g
        return encoder.load_sd(sd)


def _resize(transformer: Any, config: Config) -> None:
    """Give a text model, made with CLIP's own vocabulary, the vocabulary of `config`."""
    old = transformer.get_input_embeddings()
    shape = (config["vocab_size"], config["hidden_size"])
    transformer.set_input_embeddings(type(old)(*shape, dtype=old.weight.dtype, device=old.weight.device))


class _Tokenizers(comfy.sdxl_clip.SDXLTokenizer):
    """The tokenizers beside them."""

    def __init__(self, folder: Path, configs: list[Config], embedding_directory: Any = None, **_: Any) -> None:
        for name, part, config in zip(("clip_l", "clip_g"), ("tokenizer", "tokenizer_2"), configs, strict=True):
            tokenizer = comfy.sd1_clip.SDTokenizer(
                str(folder / part), max_length=config["max_position_embeddings"],
                embedding_directory=embedding_directory, embedding_size=config["hidden_size"], embedding_key=name,
            )  # fmt: skip
            setattr(self, name, tokenizer)


def _config(folder: Path) -> Config:
    name = "scheduler_config.json" if folder.name == "scheduler" else "config.json"
    return json.loads((folder / name).read_text("utf-8"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*.safetensors")
    return comfy.utils.load_torch_file(str(path), safe_load=True)


def _first(value: int | list[int]) -> int:
    return value if isinstance(value, int) else value[0]
