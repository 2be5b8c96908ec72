"""Whether the parts of a stock painter fit each other, known before anything is painted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.sd
from comfy.model_patcher import ModelPatcher

from ..m3adapter.values import shown
from . import reference_gate
from .stock import Conditioning

MOST_REFERENCES = 8
# What configurations of ComfyUI's models call the width of the embeddings that they read.
WIDTHS = ("context_dim", "context_in_dim", "cap_feat_dim", "joint_attention_dim", "cond_seq_dim")


def check_choice(name: str, choice: str, options: Sequence[str]) -> None:
    """Raise ValueError for what is none of the options: the engine's sampler would take its first one instead."""
    if choice not in options:
        cure = (
            f"choose {' or '.join(options)}"
            if len(options) < 4
            else f"choose one of those in KSampler, like {options[0]}"
        )
        raise ValueError(f"{name} is {shown(choice)}: {cure}.")


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError unless a model paints pictures from words alone."""
    inner = model.model
    kind = type(inner).__name__
    layout = model.get_model_object("latent_format")
    frames = layout.latent_dimensions == 3 and type(layout) is not comfy.latent_formats.Wan21
    wan = getattr(comfy.model_base, "WAN21", ())
    if frames or isinstance(inner, (comfy.model_base.SVD_img2vid, *([wan] if wan else []))):
        raise ValueError(f"model is a video model ({kind}): connect one that paints pictures.")
    if layout.latent_dimensions == 1:
        raise ValueError(f"model makes no pictures ({kind}): connect one that paints them.")
    if isinstance(inner, comfy.model_base.SDXLRefiner):
        raise ValueError("model is an SDXL refiner, which cannot start a picture: connect the base model.")
    config = inner.model_config.unet_config
    params = getattr(inner.diffusion_model, "params", None)
    more = "model_channels" in config and config.get("in_channels", 0) > layout.latent_channels
    if getattr(inner, "concat_keys", ()) or more or (params and params.in_channels > params.out_channels):
        raise ValueError(
            f"model is for inpainting or guided by another picture ({kind}): connect one that paints from words alone."
        )


def check_vae(model: ModelPatcher, vae: comfy.sd.VAE) -> None:
    """Raise ValueError unless a VAE makes latents of the model's kind."""
    if getattr(vae, "first_stage_model", True) is None:
        raise ValueError("vae is empty, as the checkpoint has none: connect Load VAE.")
    wanted, found = model.get_model_object("latent_format").latent_channels, getattr(vae, "latent_channels", None)
    if found is not None and found != wanted:
        raise ValueError(
            f"vae makes latents of {found} channels, and the model paints {wanted}: connect the VAE of the model."
        )


def check_conditioning(model: ModelPatcher, conditioning: Conditioning) -> None:
    """Raise ValueError if a model cannot read what a CLIP has made of a text."""
    embeds, extra = conditioning[0]
    config = model.model.model_config.unet_config
    wanted = next((config[name] for name in WIDTHS if isinstance(config.get(name), int)), None)
    if wanted is not None and embeds.shape[-1] != wanted:
        raise ValueError(
            f"clip makes embeddings of width {embeds.shape[-1]}, and the model reads {wanted}: connect the CLIP of the "
            "model."
        )
    pooled, most = extra.get("pooled_output"), config.get("adm_in_channels")
    if isinstance(model.model, comfy.model_base.SDXL) and pooled is not None and most and pooled.shape[-1] > most:
        raise ValueError("clip makes a pooled embedding that the model cannot read: connect the CLIP of the model.")


def check_adapter(model: ModelPatcher, adapter: Any) -> None:
    """Raise ValueError unless an M3-Adapter makes conditions for a model of SDXL's layout."""
    if not isinstance(model.model, comfy.model_base.SDXL):
        kind = type(model.model).__name__
        raise ValueError(f"M3-Adapters are for SDXL models, and model is of the kind {kind}: leave out adapter.")
    wanted, found = model.model.model_config.unet_config["context_dim"], adapter.config.embed_width
    if found != wanted:
        raise ValueError(
            f"The M3-Adapter makes embeddings of width {found}, and the model reads {wanted}: connect the adapter that "
            "was trained for the model."
        )


def most_references(model: ModelPatcher) -> int:
    """Return how many reference latents a model takes; ValueError if it reads none."""
    family = reference_gate.check_model(model)
    return min(MOST_REFERENCES, family.most(model.model.diffusion_model) or MOST_REFERENCES)
